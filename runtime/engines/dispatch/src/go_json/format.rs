//! Writing.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};

/// What a byte below 0x80 becomes inside a string; `None` for itself.
pub(super) const fn escape(byte: u8) -> Option<&'static str> {
    const CONTROL: [&str; 32] = [
        "\\u0000", "\\u0001", "\\u0002", "\\u0003", "\\u0004", "\\u0005", "\\u0006", "\\u0007", "\\b", "\\t",
        "\\n", "\\u000b", "\\f", "\\r", "\\u000e", "\\u000f", "\\u0010", "\\u0011", "\\u0012", "\\u0013",
        "\\u0014", "\\u0015", "\\u0016", "\\u0017", "\\u0018", "\\u0019", "\\u001a", "\\u001b", "\\u001c",
        "\\u001d", "\\u001e", "\\u001f",
    ];
    match byte {
        b'"' => Some("\\\""),
        b'\\' => Some("\\\\"),
        b'<' => Some("\\u003c"),
        b'>' => Some("\\u003e"),
        b'&' => Some("\\u0026"),
        0..=0x1f => Some(CONTROL[byte as usize]),
        _ => None,
    }
}

/// Appends a character the way it stands inside a Go JSON string.
pub(super) fn push_char(c: char, out: &mut Vec<u8>) {
    match c {
        '\u{2028}' => out.extend_from_slice(b"\\u2028"),
        '\u{2029}' => out.extend_from_slice(b"\\u2029"),
        c if c.is_ascii() => match escape(c as u8) {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => out.push(c as u8),
        },
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// The first character and its length; `None` when the bytes do not start with one.
pub(super) fn decode_char(bytes: &[u8]) -> Option<(char, usize)> {
    let len = match bytes.first()? {
        0..=0x7f => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let text = std::str::from_utf8(bytes.get(..len)?).ok()?;
    text.chars().next().map(|c| (c, len))
}

/// Appends a Go string, which may hold any bytes, as a JSON string; what is not UTF-8 becomes `\ufffd`.
pub fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while !rest.is_empty() {
        let plain = rest
            .iter()
            .take_while(|b| **b < 0x80 && escape(**b).is_none())
            .count();
        out.extend_from_slice(&rest[..plain]);
        rest = &rest[plain..];
        if rest.is_empty() {
            break;
        }
        match decode_char(rest) {
            Some((c, len)) => {
                push_char(c, out);
                rest = &rest[len..];
            }
            None => {
                out.extend_from_slice(b"\\ufffd");
                rest = &rest[1..];
            }
        }
    }
    out.push(b'"');
}

/// Appends a double as Go prints it: shortest digits, an exponent below 1e-6 and from 1e21 on.
pub fn write_f64(value: f64, out: &mut Vec<u8>) {
    use io::Write as _;
    let magnitude = value.abs();
    // Writing to a vector cannot fail.
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                let _ = write!(out, "{digits}e+{exponent}");
            }
            _ => out.extend_from_slice(text.as_bytes()),
        }
    } else {
        let _ = write!(out, "{value}");
    }
}

/// Serialises as Go would: structs in the order of their fields, maps in the order given (use sorted ones).
///
/// # Errors
/// When the value cannot be JSON, for instance a map whose keys are no strings.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::with_capacity(128);
    value.serialize(&mut Serializer::with_formatter(
        &mut out,
        GoFormatter(CompactFormatter),
    ))?;
    Ok(out)
}

struct GoFormatter(CompactFormatter);

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut start = 0;
        for (at, found) in fragment.match_indices(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            writer.write_all(&fragment.as_bytes()[start..at])?;
            writer.write_all(match found {
                "<" => b"\\u003c",
                ">" => b"\\u003e",
                "&" => b"\\u0026",
                "\u{2028}" => b"\\u2028",
                _ => b"\\u2029",
            })?;
            start = at + found.len();
        }
        writer.write_all(&fragment.as_bytes()[start..])
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        self.0.write_char_escape(writer, escape)
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let mut out = Vec::with_capacity(24);
        write_f64(value, &mut out);
        writer.write_all(&out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &[u8]) -> String {
        let mut out = Vec::new();
        write_string(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_as_go_writes_them() {
        assert_eq!(string("plain é 😀".as_bytes()), "\"plain é 😀\"");
        assert_eq!(
            string(b"<a href=\"x\">&</a>"),
            r#""\u003ca href=\"x\"\u003e\u0026\u003c/a\u003e""#
        );
        assert_eq!(
            string("\u{2028}\u{2029}\u{7f}".as_bytes()),
            "\"\\u2028\\u2029\u{7f}\""
        );
        assert_eq!(string(b"\x00\x08\x0c\n\r\t\x1f"), r#""\u0000\b\f\n\r\t\u001f""#);
        assert_eq!(string(b"\xffa\xe2\x82"), r#""\ufffda\ufffd\ufffd""#);
        assert_eq!(
            String::from_utf8(to_vec("<é\u{2028}\n&").unwrap()).unwrap(),
            "\"\\u003cé\\u2028\\n\\u0026\""
        );
    }

    #[test]
    fn doubles_as_go_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (1.5, "1.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.234_567_89e-9, "1.23456789e-9"),
            (12_345_678_901_234_567_890.0, "12345678901234567000"),
            (-2.5e300, "-2.5e+300"),
        ] {
            let mut out = Vec::new();
            write_f64(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
            assert_eq!(String::from_utf8(to_vec(&value).unwrap()).unwrap(), text);
        }
    }
}
