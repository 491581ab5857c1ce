//! What `create` makes of its data: a quoted text is unquoted, base64 is decoded, everything else stays.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// The bytes to store. Upstream guesses in just this way, so a plain text that happens to be base64 is decoded.
pub(super) fn decode(data: Bytes) -> Bytes {
    let data = unquote(&data).map_or(data, Bytes::from);
    // Go's decoder skips line breaks.
    let text: Vec<u8> = data
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b'\n' | b'\r'))
        .collect();
    BASE64.decode(text).map_or(data, Bytes::from)
}

/// Undoes the quotes of a Go literal: `"…"` with escapes, `` `…` `` without, `'…'` of one letter. `None` where the
/// text is no such literal.
fn unquote(data: &[u8]) -> Option<Vec<u8>> {
    let (quote, inner) = match data {
        [first @ (b'"' | b'`' | b'\''), inner @ .., last] if first == last => (*first, inner),
        _ => return None,
    };
    if quote == b'`' {
        return (!inner.contains(&b'`'))
            .then(|| inner.iter().copied().filter(|byte| *byte != b'\r').collect());
    }
    if inner.contains(&b'\n') {
        return None;
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut letters = 0;
    let mut rest = inner;
    while let Some((&first, after)) = rest.split_first() {
        letters += 1;
        if first == quote {
            return None;
        }
        if first != b'\\' {
            let width = utf8_width(rest);
            out.extend_from_slice(&rest[..width]);
            rest = &rest[width..];
            continue;
        }
        let (&kind, after) = after.split_first()?;
        rest = after;
        let simple = match kind {
            b'a' => Some(7),
            b'b' => Some(8),
            b'f' => Some(12),
            b'n' => Some(b'\n'),
            b'r' => Some(b'\r'),
            b't' => Some(b'\t'),
            b'v' => Some(11),
            b'\\' => Some(b'\\'),
            b'"' | b'\'' if kind == quote => Some(kind),
            _ => None,
        };
        if let Some(byte) = simple {
            out.push(byte);
            continue;
        }
        let (digits, radix) = match kind {
            b'x' => (2, 16),
            b'u' => (4, 16),
            b'U' => (8, 16),
            b'0'..=b'7' => (3, 8),
            _ => return None,
        };
        let text = if radix == 8 {
            let text = rest.get(..2)?;
            rest = &rest[2..];
            [&[kind], text].concat()
        } else {
            let text = rest.get(..digits)?.to_vec();
            rest = &rest[digits..];
            text
        };
        let text = std::str::from_utf8(&text)
            .ok()
            .filter(|text| !text.starts_with('+'))?;
        let value = u32::from_str_radix(text, radix).ok()?;
        if matches!(kind, b'u' | b'U') {
            out.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            out.push(u8::try_from(value).ok()?);
        }
    }
    (quote == b'"' || letters == 1).then_some(out)
}

/// Bytes of the letter at the start; one where it is none.
fn utf8_width(bytes: &[u8]) -> usize {
    let width = match bytes[0] {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    };
    match bytes.get(..width) {
        Some(letter) if std::str::from_utf8(letter).is_ok() => width,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &[u8]) -> Vec<u8> {
        decode(Bytes::copy_from_slice(text)).to_vec()
    }

    #[test]
    fn literals_are_unquoted_and_base64_is_decoded() {
        for (text, expected) in [
            (b"hello!".as_slice(), b"hello!".as_slice()),
            (b"\"hello!\"", b"hello!"),
            (b"`a\\n!`", b"a\\n!"),
            (b"'!'", b"!"),
            ("'ß'".as_bytes(), "ß".as_bytes()),
            (b"\"a\\tb\\x41\\u00df\\101\\\"\"", "a\tbA\u{df}A\"".as_bytes()),
            (b"aGVsbG8=", b"hello"),
            (b"\"aGVs\nbG8=\"", b"\"aGVs\nbG8=\""),
            (b"aGVs\nbG8=\n", b"hello"),
            (b"\"aGVsbG8=\"", b"hello"),
            (b"aGVsbG8", b"aGVsbG8"),
            (b"", b""),
            (b"\"", b"\""),
            (b"\"a\"b\"", b"\"a\"b\""),
            (b"'ab'", b"'ab'"),
            (b"\"\\q\"", b"\"\\q\""),
            (b"\"\\ud800\"", b"\"\\ud800\""),
            (b"\"\\400\"", b"\"\\400\""),
            (b"{\"a\": 1}", b"{\"a\": 1}"),
            (b"\xff\xfe!", b"\xff\xfe!"),
        ] {
            assert_eq!(decoded(text), expected, "{}", String::from_utf8_lossy(text));
        }
    }
}
