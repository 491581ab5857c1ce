//! Go's spelling of numbers and quoted texts, where a component gets to see it.

/// The shortest decimal digits of a finite number and the power of ten of the first digit.
fn shortest(text: &str) -> (bool, String, i32) {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    (negative, digits, exponent.parse().unwrap_or(0))
}

fn scientific(negative: bool, digits: &str, exponent: i32, width: usize) -> String {
    let mut out = String::new();
    if negative {
        out.push('-');
    }
    out.push_str(&digits[..1]);
    if digits.len() > 1 {
        out.push('.');
        out.push_str(&digits[1..]);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    out.push_str(&format!("e{sign}{:0width$}", exponent.unsigned_abs()));
    out
}

fn positional(negative: bool, digits: &str, exponent: i32) -> String {
    let mut out = String::new();
    if negative {
        out.push('-');
    }
    if exponent < 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', (-exponent - 1) as usize));
        out.push_str(digits);
        return out;
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        out.push_str(digits);
        out.extend(std::iter::repeat_n('0', whole - digits.len()));
    } else {
        out.push_str(&digits[..whole]);
        out.push('.');
        out.push_str(&digits[whole..]);
    }
    out
}

fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value.is_infinite() {
        Some(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else {
        None
    }
}

fn general(text: &str) -> String {
    let (negative, digits, exponent) = shortest(text);
    // strconv's %g with the shortest digits uses precision 6 to choose between the two forms.
    if !(-4..6).contains(&exponent) {
        scientific(negative, &digits, exponent, 2)
    } else {
        positional(negative, &digits, exponent)
    }
}

/// `strconv.FormatFloat(v, 'g', -1, 64)`.
pub(crate) fn format_float_g(value: f64) -> String {
    special(value).map_or_else(|| general(&format!("{value:e}")), str::to_owned)
}

/// `strconv.FormatFloat(v, 'g', -1, 32)`, which `sigs.k8s.io/yaml` uses where a text field was given a number.
pub(crate) fn format_float_g32(value: f64) -> String {
    let value = value as f32;
    special(f64::from(value)).map_or_else(|| general(&format!("{value:e}")), str::to_owned)
}

/// A finite float as `encoding/json` writes it.
pub(crate) fn format_float_json(value: f64) -> String {
    let (negative, digits, exponent) = shortest(&format!("{value:e}"));
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        scientific(negative, &digits, exponent, 1)
    } else {
        positional(negative, &digits, exponent)
    }
}

/// `strconv.Unquote`: the text inside Go quotes of any of the three kinds, or `None` when it is not so quoted.
///
/// Dapr passes every metadata value through it, secrets included (upstream `DynamicValue.String`).
pub(crate) fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next()?;
    if !quote.is_ascii() || text.len() < 2 || !text.ends_with(quote) {
        return None;
    }
    let inner = &text[1..text.len() - 1];
    match quote {
        '`' => (!inner.contains('`')).then(|| inner.replace('\r', "")),
        '"' => {
            let (bytes, _) = unescape(inner, '"')?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        '\'' => {
            let (bytes, count) = unescape(inner, '\'')?;
            (count == 1).then(|| String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => None,
    }
}

fn unescape(inner: &str, quote: char) -> Option<(Vec<u8>, usize)> {
    let mut out = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    let mut count = 0;
    let push = |out: &mut Vec<u8>, c: char| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    while let Some(c) = chars.next() {
        count += 1;
        if c == quote || c == '\n' {
            return None;
        }
        if c != '\\' {
            push(&mut out, c);
            continue;
        }
        match chars.next()? {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' => out.push(b'\\'),
            c if c == quote => push(&mut out, c),
            'x' => out.push(u8::try_from(digits(&mut chars, 2, 16)?).ok()?),
            'u' => push(&mut out, char::from_u32(digits(&mut chars, 4, 16)?)?),
            'U' => push(&mut out, char::from_u32(digits(&mut chars, 8, 16)?)?),
            first @ '0'..='7' => {
                let rest = digits(&mut chars, 2, 8)?;
                out.push(u8::try_from(first.to_digit(8)? * 64 + rest).ok()?);
            }
            _ => return None,
        }
    }
    Some((out, count))
}

fn digits(chars: &mut std::str::Chars<'_>, count: usize, radix: u32) -> Option<u32> {
    let mut value = 0_u32;
    for _ in 0..count {
        value = value
            .checked_mul(radix)?
            .checked_add(chars.next()?.to_digit(radix)?)?;
    }
    Some(value)
}

/// `fmt.Sprintf("%q", s)` for the texts that reach error messages.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => {
                out.push_str(&format!("\\x{:02x}", u32::from(c)))
            }
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_read_as_go_prints_them() {
        for (value, expected) in [
            (1.0, "1"),
            (0.5, "0.5"),
            (1e6, "1000000"),
            (123_456.5, "123456.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1e-7, "1e-7"),
            (-0.0, "-0"),
        ] {
            assert_eq!(format_float_json(value), expected);
        }
        assert_eq!(format_float_g32(1.1), "1.1");
        assert_eq!(format_float_g32(f64::INFINITY), "+Inf");
        assert_eq!(format_float_g(1e-5), "1e-05");
    }

    #[test]
    fn unquotes_as_strconv() {
        assert_eq!(
            unquote(r#""a\"b\n\u00e9\x41\101""#).as_deref(),
            Some("a\"b\né\u{41}A")
        );
        assert_eq!(unquote("`raw`").as_deref(), Some("raw"));
        assert_eq!(unquote("'x'").as_deref(), Some("x"));
        for bad in [
            "", "\"", "plain", "'xy'", "\"a\"b\"", "\"a\nb\"", r#""\'""#, "é", r#""\"#,
        ] {
            assert_eq!(unquote(bad), None, "{bad:?}");
        }
    }
}
