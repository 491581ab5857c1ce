//! Go's quoting of text: logrus values (`%q`) and JSON strings (`encoding/json`).

use std::fmt::Write as _;

/// Writes a logrus value: bare when every character is one of a short list, else quoted as Go quotes.
pub(super) fn push_logrus(out: &mut String, value: &str) {
    let is_bare = value
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._/@^+".contains(&byte));
    if is_bare {
        out.push_str(value);
    } else {
        push_go(out, value);
    }
}

/// Go's `strconv.Quote`.
pub(crate) fn push_go(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            ' '..='~' => out.push(c),
            '\0'..='\x7f' => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if is_printable(c) => out.push(c),
            c if u32::from(c) < 0x1_0000 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
        }
    }
    out.push('"');
}

/// Go's `unicode.IsPrint`, by the standard library's table behind `{:?}`: both leave out controls, separators,
/// format characters, private use and unassigned ones. The leading `a` keeps combining marks printable.
fn is_printable(c: char) -> bool {
    let mut buffer = [b'a'; 5];
    let length = 1 + c.encode_utf8(&mut buffer[1..]).len();
    std::str::from_utf8(&buffer[..length]).is_ok_and(|text| text.escape_debug().count() == 2)
}

/// A JSON string as Go encodes one, which escapes what HTML would read.
pub(crate) fn push_json(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\0'..='\x1f' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values printed by logrus 1.9.4 on Go 1.26.
    #[test]
    fn values_are_quoted_as_logrus_quotes_them() {
        for (value, text) in LOGRUS {
            let mut out = String::new();
            push_logrus(&mut out, value);
            assert_eq!(out, *text, "{value:?}");
        }
    }

    #[test]
    fn json_strings_are_escaped_as_go_escapes_them() {
        for (value, text) in JSON {
            let mut out = String::new();
            push_json(&mut out, value);
            assert_eq!(out, *text, "{value:?}");
        }
    }

    const LOGRUS: &[(&str, &str)] = &[
        ("", ""),
        ("plain", "plain"),
        ("a-b.c_d/e@f^g+h", "a-b.c_d/e@f^g+h"),
        ("two words", "\"two words\""),
        ("a=b", "\"a=b\""),
        ("say \"hi\"", "\"say \\\"hi\\\"\""),
        ("back\\slash", "\"back\\\\slash\""),
        ("line\nbreak", "\"line\\nbreak\""),
        (
            "tab\tcr\rbel\u{7}bs\u{8}ff\u{c}vt\u{b}",
            "\"tab\\tcr\\rbel\\abs\\bff\\fvt\\v\"",
        ),
        ("esc\u{1b}del\u{7f}", "\"esc\\x1bdel\\x7f\""),
        ("\u{e9}", "\"\u{e9}\""),
        ("\u{65e5}\u{672c}", "\"\u{65e5}\u{672c}\""),
        ("\u{e9}", "\"\u{e9}\""),
        ("a\u{a0}b", "\"a\\u00a0b\""),
        ("\u{200b}", "\"\\u200b\""),
        ("\u{feff}", "\"\\ufeff\""),
        ("\u{1f600}", "\"\u{1f600}\""),
        ("\u{e0001}", "\"\\U000e0001\""),
        ("\u{2028}", "\"\\u2028\""),
        ("<a>&b", "\"<a>&b\""),
        ("{}", "\"{}\""),
        ("\u{e000}", "\"\\ue000\""),
    ];

    const JSON: &[(&str, &str)] = &[
        ("", "\"\""),
        ("plain", "\"plain\""),
        ("a-b.c_d/e@f^g+h", "\"a-b.c_d/e@f^g+h\""),
        ("two words", "\"two words\""),
        ("a=b", "\"a=b\""),
        ("say \"hi\"", "\"say \\\"hi\\\"\""),
        ("back\\slash", "\"back\\\\slash\""),
        ("line\nbreak", "\"line\\nbreak\""),
        (
            "tab\tcr\rbel\u{7}bs\u{8}ff\u{c}vt\u{b}",
            "\"tab\\tcr\\rbel\\u0007bs\\bff\\fvt\\u000b\"",
        ),
        ("esc\u{1b}del\u{7f}", "\"esc\\u001bdel\u{7f}\""),
        ("\u{e9}", "\"\u{e9}\""),
        ("\u{65e5}\u{672c}", "\"\u{65e5}\u{672c}\""),
        ("\u{e9}", "\"\u{e9}\""),
        ("a\u{a0}b", "\"a\u{a0}b\""),
        ("\u{200b}", "\"\u{200b}\""),
        ("\u{feff}", "\"\u{feff}\""),
        ("\u{1f600}", "\"\u{1f600}\""),
        ("\u{e0001}", "\"\u{e0001}\""),
        ("\u{2028}", "\"\\u2028\""),
        ("<a>&b", "\"\\u003ca\\u003e\\u0026b\""),
        ("{}", "\"{}\""),
        ("\u{e000}", "\"\u{e000}\""),
    ];
}
