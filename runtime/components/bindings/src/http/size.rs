//! Sizes as Kubernetes writes quantities: `1048576`, `100Mi`, `1.5k`.

/// Bytes, rounded up; `None` where the text is no quantity or too large.
pub(super) fn parse(text: &str) -> Option<i64> {
    let digits = text
        .find(|letter: char| !matches!(letter, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than these cannot be a size of anything here.
    if (whole.is_empty() && fraction.is_empty())
        || whole.len() > 18
        || fraction.len() > 9
        || !all_digits(whole)
        || !all_digits(fraction)
    {
        return None;
    }
    let (factor, divisor): (i128, i128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power = exponent
                .strip_prefix(['e', 'E'])?
                .parse::<i32>()
                .ok()
                .filter(|power| power.abs() <= 18)?;
            let scale = 10_i128.pow(power.unsigned_abs());
            if power < 0 { (1, scale) } else { (scale, 1) }
        }
    };
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let value: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let bytes = (value * factor + scale * divisor - 1) / (scale * divisor);
    i64::try_from(if negative { -bytes } else { bytes }).ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn quantities_are_read() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("1048576", Some(1 << 20)),
            ("100Mi", Some(100 << 20)),
            ("1.5k", Some(1500)),
            ("1.5Ki", Some(1536)),
            ("0.0005k", Some(1)),
            ("-1", Some(-1)),
            ("+2M", Some(2_000_000)),
            ("1e3", Some(1000)),
            (".5Gi", Some(1 << 29)),
            ("1500m", Some(2)),
            ("", None),
            ("Mi", None),
            ("1MiB", None),
            ("1 Mi", None),
            ("1-2", None),
            ("9E", Some(9_000_000_000_000_000_000)),
            ("10E", None),
            ("1e99", None),
        ] {
            assert_eq!(parse(text), bytes, "{text}");
        }
    }
}
