//! What a plain scalar means: the tables of go-yaml v2 and v3 (`resolve.go`).

use super::{Mode, Scalar};

/// The meaning of a scalar without an explicit tag.
pub(super) fn implicit(text: &str, mode: Mode) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if mode == Mode::GoYamlV2
        && let Some(value) = yaml_1_1_bool(text)
    {
        return Scalar::Bool(value);
    }
    match text.as_bytes()[0] {
        // Here go-yaml hands the text to ParseFloat as it is, which takes underscores between digits.
        b'.' => go_float(&without_underscores(text)).map_or(Scalar::String, Scalar::Float),
        b'+' | b'-' | b'0'..=b'9' => number(text),
        _ => Scalar::String,
    }
}

/// The booleans YAML 1.1 had and 1.2 dropped.
pub(crate) fn yaml_1_1_bool(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// The meaning of a scalar with an explicit tag (short form, such as `!!int`), or what Go says against it.
/// `None` as the new text leaves the text as it is.
pub(super) fn tagged(tag: &str, text: &str, mode: Mode) -> Result<(Scalar, Option<String>), String> {
    use base64::Engine as _;
    let wanted = match tag {
        "!!str" => return Ok((Scalar::String, None)),
        "!!binary" => {
            let compact: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(compact)
                .map_err(|_| "!!binary value contains invalid base64 data".to_owned())?;
            return Ok((Scalar::String, Some(String::from_utf8_lossy(&bytes).into_owned())));
        }
        "!!bool" | "!!int" | "!!float" | "!!null" | "!!timestamp" => tag,
        // An unknown tag is dropped and the text kept.
        _ => return Ok((Scalar::String, None)),
    };
    let value = implicit(text, mode);
    let found = match value {
        Scalar::Null => "!!null",
        Scalar::Bool(_) => "!!bool",
        Scalar::Int(_) | Scalar::Uint(_) => "!!int",
        Scalar::Float(_) => "!!float",
        Scalar::String if is_timestamp(text) => "!!timestamp",
        Scalar::String => "!!str",
    };
    match (wanted, value) {
        ("!!float", Scalar::Int(int)) => Ok((Scalar::Float(int as f64), None)),
        _ if wanted == found => Ok((value, None)),
        _ => Err(format!("cannot decode {found} `{text}` as a {wanted}")),
    }
}

fn number(text: &str) -> Scalar {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let (negative, digits) = match plain.as_bytes()[0] {
        b'-' => (true, &plain[1..]),
        b'+' => (false, &plain[1..]),
        _ => (false, plain.as_str()),
    };
    if let Some(magnitude) = go_magnitude(digits) {
        if negative {
            if let Some(value) = 0_i64.checked_sub_unsigned(magnitude) {
                return Scalar::Int(value);
            }
        } else if let Ok(value) = i64::try_from(magnitude) {
            return Scalar::Int(value);
        } else if !plain.starts_with('+') {
            // Go's ParseUint takes no sign.
            return Scalar::Uint(magnitude);
        }
    }
    if is_yaml_float(&plain)
        && let Some(value) = go_float(&plain)
    {
        return Scalar::Float(value);
    }
    Scalar::String
}

fn without_underscores(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let misplaced = |at: &usize| bytes[*at] == b'_' && !(digit(at.checked_sub(1)) && digit(Some(at + 1)));
    if (0..bytes.len()).any(|at| misplaced(&at)) {
        text.to_owned()
    } else {
        text.replace('_', "")
    }
}

/// `strconv.ParseUint(s, 0, 64)` without underscores: prefixes 0x, 0o, 0b and a bare leading 0 for octal.
fn go_magnitude(digits: &str) -> Option<u64> {
    let bytes = digits.as_bytes();
    let (radix, rest) = match bytes {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    u64::from_str_radix(rest, radix).ok()
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`
fn is_yaml_float(text: &str) -> bool {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty())
        }
        None => !mantissa.is_empty() && digits(mantissa),
    };
    mantissa_fits
        && exponent.is_none_or(|part| {
            let part = part.strip_prefix(['-', '+']).unwrap_or(part);
            !part.is_empty() && digits(part)
        })
}

/// `strconv.ParseFloat` for decimal texts; out of range is an error there, so it is no number here.
fn go_float(text: &str) -> Option<f64> {
    if !is_yaml_float(text) {
        return None;
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// Whether go-yaml would take the text for a date; only explicit tags ask.
fn is_timestamp(text: &str) -> bool {
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let parts: Vec<&str> = date.split('-').collect();
    let number = |part: &str, max_len: usize, low: u32, high: u32| {
        (1..=max_len).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_digit())
            && part.parse::<u32>().is_ok_and(|n| (low..=high).contains(&n))
    };
    let [year, month, day] = parts[..] else {
        return false;
    };
    if year.len() != 4 || !number(year, 4, 0, 9999) || !number(month, 2, 1, 12) || !number(day, 2, 1, 31) {
        return false;
    }
    let Some(time) = time else { return true };
    let zoned = !text.contains(' ');
    let (clock, zone) = match time.find(['Z', '+', '-']) {
        Some(at) => (&time[..at], Some(&time[at..])),
        None => (time, None),
    };
    let zone_fits = match zone {
        None => !zoned,
        Some("Z") => zoned,
        Some(zone) => {
            zoned
                && zone[1..].split_once(':').is_some_and(|(h, m)| {
                    h.len() == 2 && m.len() == 2 && number(h, 2, 0, 23) && number(m, 2, 0, 59)
                })
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let parts: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = parts[..] else {
        return false;
    };
    zone_fits
        && !fraction.is_empty()
        && fraction.bytes().all(|b| b.is_ascii_digit())
        && number(hour, 2, 0, 23)
        && number(minute, 2, 0, 59)
        && number(second, 2, 0, 59)
}
