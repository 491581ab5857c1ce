//! JSON texts as Dapr's Redis store writes them.
//!
//! It encodes by json-iterator's fastest configuration: letters that Go's own encoder escapes for HTML stand as they
//! are, and the two short escapes it does not know are long. It also cuts small numbers to six decimals; that loses
//! data, so ours keep all digits.

use bytes::Bytes;

/// The same text with the escapes of that encoder.
pub(super) fn stored(json: Bytes) -> Bytes {
    if !json.contains(&b'\\') {
        return json;
    }
    let mut out = Vec::with_capacity(json.len());
    let mut rest = &json[..];
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        out.extend_from_slice(&rest[..at]);
        let (letters, length): (&[u8], usize) = match rest.get(at + 1..).unwrap_or_default() {
            [b'b', ..] => (b"\\u0008", 2),
            [b'f', ..] => (b"\\u000c", 2),
            [b'u', b'0', b'0', b'3', b'c', ..] => (b"<", 6),
            [b'u', b'0', b'0', b'3', b'e', ..] => (b">", 6),
            [b'u', b'0', b'0', b'2', b'6', ..] => (b"&", 6),
            [b'u', b'2', b'0', b'2', b'8', ..] => ("\u{2028}".as_bytes(), 6),
            [b'u', b'2', b'0', b'2', b'9', ..] => ("\u{2029}".as_bytes(), 6),
            // The letter after it belongs to it: a second backslash begins nothing.
            [..] => (&rest[at..rest.len().min(at + 2)], 2),
        };
        out.extend_from_slice(letters);
        rest = &rest[rest.len().min(at + length)..];
    }
    out.extend_from_slice(rest);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::stored;

    #[test]
    fn only_the_escapes_change() {
        for (given, expected) in [
            (r#""plain""#, r#""plain""#),
            (r#""\u003ca\u003e\u0026""#, r#""<a>&""#),
            (r#""\u2028\u2029""#, "\"\u{2028}\u{2029}\""),
            (r#""\\u003c\\\u003c\n\"""#, r#""\\u003c\\<\n\"""#),
            (r#""\b\f\u0001""#, r#""\u0008\u000c\u0001""#),
        ] {
            assert_eq!(stored(given.into()), expected, "{given}");
        }
    }
}
