//! Kubernetes resource quantities, as far as byte sizes go.

/// Reads a quantity such as `4Mi`, `1G`, `512k` or `-1` as bytes.
///
/// # Errors
/// When the text is no quantity or no whole number of bytes.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("{text:?} is not a quantity such as 4Mi");
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let factor: i128 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(invalid()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let (negative, whole) = match whole.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, whole.strip_prefix('+').unwrap_or(whole)),
    };
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 18 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    let value: i128 = digits.parse::<i128>().map_err(|_| invalid())? * factor;
    let scale = 10_i128.pow(u32::try_from(fraction.len()).map_err(|_| invalid())?);
    // Fractions of a byte round up, as quantities do.
    let value = (value + scale - 1) / scale;
    i64::try_from(if negative { -value } else { value }).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn reads_quantities() {
        for (text, wanted) in [
            ("4Mi", 4 << 20),
            ("1", 1),
            ("1k", 1000),
            ("1.5Ki", 1536),
            ("-1", -1),
            ("2Gi", 2 << 30),
            ("0", 0),
        ] {
            assert_eq!(bytes(text), Ok(wanted), "{text}");
        }
        for text in ["", "x", "4MB", "1.2.3", "--1Mi", "99999999999999999999"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
