//! Reading, and rewriting what was read.

use std::{borrow::Cow, ops::Range};

use super::format::{decode_char, escape, push_char, write_f64};

/// How deep arrays and objects may nest, as in Go.
pub const MAX_DEPTH: usize = 10_000;

/// What becomes of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// They keep their spelling (a decoder with `UseNumber`).
    Verbatim,
    /// They become doubles (`json.Unmarshal` into `any`), which loses digits of large integers.
    Doubles,
}

/// Text that is not JSON; the words are `encoding/json`'s.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is nothing but blanks.
    #[error("EOF")]
    Empty,
    /// The text ends within a value.
    #[error("unexpected end of JSON input")]
    End,
    /// The text ends within a word, number or escape; Go sees a blank there.
    #[error("invalid character ' ' {0}")]
    EndWithin(&'static str),
    /// The same, in the words of Go's `Decoder`.
    #[error("unexpected EOF")]
    DecoderEnd,
    /// A byte is where it may not be.
    #[error("invalid character {} {context}", quote(*.byte))]
    Syntax {
        /// The byte.
        byte: u8,
        /// Where it was found.
        context: &'static str,
    },
    /// A number beyond the range of a double.
    #[error("json: cannot unmarshal number {0} into Go value of type float64")]
    Range(String),
    /// The value is of another kind than needed.
    #[error("json: cannot unmarshal {found} into Go value of type {wanted}")]
    Kind {
        /// `array`, `string`, `number`, `bool` or `object`.
        found: &'static str,
        /// Go's name of the type that was needed.
        wanted: &'static str,
    },
}

impl Error {
    /// In the words of `json.Unmarshal`, which does not tell blanks from a value cut off.
    #[must_use]
    pub fn in_unmarshal(self) -> Self {
        match self {
            Self::Empty | Self::DecoderEnd => Self::End,
            other => other,
        }
    }

    /// In the words of `json.Decoder`.
    #[must_use]
    pub fn in_decoder(self) -> Self {
        match self {
            Self::End | Self::EndWithin(_) => Self::DecoderEnd,
            other => other,
        }
    }
}

fn quote(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0..=0x1f | 0x7f..=0x9f | 0xad => format!("'\\x{byte:02x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}

/// Rewrites a whole document: blanks dropped, keys sorted with the last of equal ones kept, strings re-escaped.
///
/// # Errors
/// When the text is not exactly one JSON value; `out` may then hold part of it.
pub fn transcode(json: &[u8], numbers: Numbers, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut scanner = Scanner::new(json, numbers);
    scanner.value(Some(out))?;
    scanner.finish()
}

/// As [`transcode`], but ignores what follows the first value, as Go's `Decoder` does.
///
/// # Errors
/// When the text does not start with a JSON value.
pub fn transcode_prefix(json: &[u8], numbers: Numbers, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut scanner = Scanner::new(json, numbers);
    scanner.value(Some(out))?;
    scanner.check_range()
}

/// An array or object that is still open.
struct Open<'a> {
    /// Set for objects.
    members: Option<Members<'a>>,
    /// Where its content starts in the output.
    start: usize,
}

struct Members<'a> {
    /// Key and span in the output (`"key":value`) of each member.
    list: Vec<(Cow<'a, [u8]>, Range<usize>)>,
    sorted: bool,
}

/// Walks over JSON text; iterative, so that nesting costs heap and not stack.
#[derive(Debug)]
pub struct Scanner<'a> {
    json: &'a [u8],
    at: usize,
    numbers: Numbers,
    too_large: Option<String>,
}

impl<'a> Scanner<'a> {
    /// At the start of the text.
    #[must_use]
    pub fn new(json: &'a [u8], numbers: Numbers) -> Self {
        Self {
            json,
            at: 0,
            numbers,
            too_large: None,
        }
    }

    /// Skips blanks and tells the next byte without taking it.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.json.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    fn syntax<T>(&self, context: &'static str) -> Result<T, Error> {
        match self.json.get(self.at) {
            Some(byte) => Err(Error::Syntax { byte: *byte, context }),
            None => Err(Error::End),
        }
    }

    /// As [`Scanner::syntax`], where a blank would be wrong as well.
    fn syntax_within<T>(&self, context: &'static str) -> Result<T, Error> {
        if self.at >= self.json.len() {
            Err(Error::EndWithin(context))
        } else {
            self.syntax(context)
        }
    }

    /// Checks that only blanks are left, and that all numbers could be represented.
    ///
    /// # Errors
    /// When there is more.
    pub fn finish(&mut self) -> Result<(), Error> {
        match self.peek() {
            None => self.check_range(),
            Some(_) => self.syntax("after top-level value"),
        }
    }

    /// Syntax comes first: Go looks at the whole text before it converts numbers.
    fn check_range(&mut self) -> Result<(), Error> {
        match self.too_large.take() {
            None => Ok(()),
            Some(number) => Err(Error::Range(number)),
        }
    }

    /// Takes the opening brace of an object.
    pub(crate) fn open_object(&mut self) -> Result<(), Error> {
        let found = match self.peek() {
            None => return Err(Error::Empty),
            Some(b'{') => {
                self.at += 1;
                return Ok(());
            }
            Some(b'[') => "array",
            Some(b'"') => "string",
            Some(b't' | b'f') => "bool",
            Some(b'-' | b'0'..=b'9') => "number",
            Some(_) => "null",
        };
        // A syntax error comes before the complaint about the kind.
        self.value(None)?;
        if self.numbers == Numbers::Doubles {
            self.finish()?;
        }
        Err(Error::Kind {
            found,
            wanted: "map[string]interface {}",
        })
    }

    /// Takes the next key with its colon, or the closing brace. `first` is whether no key came before.
    pub(crate) fn next_key(&mut self, first: bool) -> Result<Option<Cow<'a, [u8]>>, Error> {
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') if !first => {
                self.at += 1;
                if self.peek() != Some(b'"') {
                    return self.syntax("looking for beginning of object key string");
                }
            }
            Some(b'"') if first => {}
            _ if first => return self.syntax("looking for beginning of object key string"),
            _ => return self.syntax("after object key:value pair"),
        }
        let key = decode_string(self.string()?);
        if self.peek() != Some(b':') {
            return self.syntax("after object key");
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// Takes one value and appends its Go spelling to `out` if there is one.
    ///
    /// # Errors
    /// When there is no well-formed value.
    pub fn value(&mut self, mut out: Option<&mut Vec<u8>>) -> Result<(), Error> {
        let mut stack: Vec<Open<'a>> = Vec::new();
        if self.peek().is_none() {
            return Err(Error::Empty);
        }
        'value: loop {
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    if stack.len() >= MAX_DEPTH {
                        return self.syntax("exceeded max depth");
                    }
                    self.at += 1;
                    let start = out.as_deref_mut().map_or(0, |out| {
                        out.push(open);
                        out.len()
                    });
                    let members = (open == b'{').then(|| Members {
                        list: Vec::new(),
                        sorted: true,
                    });
                    if members.is_none() {
                        if self.peek() == Some(b']') {
                            self.at += 1;
                            if let Some(out) = out.as_deref_mut() {
                                out.push(b']');
                            }
                        } else {
                            stack.push(Open { members, start });
                            continue 'value;
                        }
                    } else if let Some(key) = self.next_key(true)? {
                        let mut open = Open { members, start };
                        open.begin_member(key, out.as_deref_mut());
                        stack.push(open);
                        continue 'value;
                    } else if let Some(out) = out.as_deref_mut() {
                        out.push(b'}');
                    }
                }
                Some(b'"') => {
                    let raw = self.string()?;
                    if let Some(out) = out.as_deref_mut() {
                        recode_string(raw, out);
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.number(out.as_deref_mut())?,
                Some(b't') => self.literal(b"true", &TRUE, out.as_deref_mut())?,
                Some(b'f') => self.literal(b"false", &FALSE, out.as_deref_mut())?,
                Some(b'n') => self.literal(b"null", &NULL, out.as_deref_mut())?,
                _ => return self.syntax("looking for beginning of value"),
            }
            // A value has ended: go on in the innermost open container, closing those that end here.
            loop {
                let Some(open) = stack.last_mut() else {
                    return Ok(());
                };
                if open.members.is_some() {
                    open.end_member(out.as_deref_mut());
                    if let Some(key) = self.next_key(false)? {
                        if let Some(out) = out.as_deref_mut() {
                            out.push(b',');
                        }
                        open.begin_member(key, out.as_deref_mut());
                        continue 'value;
                    }
                    if let Some(out) = out.as_deref_mut() {
                        open.sort(out);
                        out.push(b'}');
                    }
                } else {
                    match self.peek() {
                        Some(b',') => {
                            self.at += 1;
                            if let Some(out) = out.as_deref_mut() {
                                out.push(b',');
                            }
                            continue 'value;
                        }
                        Some(b']') => {
                            self.at += 1;
                            if let Some(out) = out.as_deref_mut() {
                                out.push(b']');
                            }
                        }
                        _ => return self.syntax("after array element"),
                    }
                }
                stack.pop();
            }
        }
    }

    /// Takes a string and returns what stands between its quotes.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], Error> {
        let start = self.at + 1;
        self.at = start;
        loop {
            match self.json.get(self.at) {
                None => return Err(Error::End),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(&self.json[start..self.at - 1]);
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.json.get(self.at) {
                        Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => self.at += 1,
                        Some(b'u') => {
                            self.at += 1;
                            for _ in 0..4 {
                                if !self.json.get(self.at).is_some_and(u8::is_ascii_hexdigit) {
                                    return self.syntax_within("in \\u hexadecimal character escape");
                                }
                                self.at += 1;
                            }
                        }
                        _ => return self.syntax_within("in string escape code"),
                    }
                }
                Some(0..=0x1f) => return self.syntax("in string literal"),
                Some(_) => self.at += 1,
            }
        }
    }

    fn digits(&mut self) -> usize {
        let count = self.json[self.at..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        self.at += count;
        count
    }

    fn number(&mut self, out: Option<&mut Vec<u8>>) -> Result<(), Error> {
        let start = self.at;
        if self.json.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.json.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else if self.digits() == 0 {
            return self.syntax_within("in numeric literal");
        }
        if self.json.get(self.at) == Some(&b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return self.syntax_within("after decimal point in numeric literal");
            }
        }
        if let Some(b'e' | b'E') = self.json.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.json.get(self.at) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.syntax_within("in exponent of numeric literal");
            }
        }
        let text = &self.json[start..self.at];
        match self.numbers {
            Numbers::Verbatim => {
                if let Some(out) = out {
                    out.extend_from_slice(text);
                }
            }
            Numbers::Doubles => {
                // The grammar above is a subset of what Rust parses, and it is ASCII.
                let text = String::from_utf8_lossy(text);
                let value: f64 = text.parse().unwrap_or(f64::INFINITY);
                if value.is_infinite() {
                    self.too_large.get_or_insert_with(|| text.into_owned());
                }
                if let Some(out) = out {
                    write_f64(value, out);
                }
            }
        }
        Ok(())
    }

    fn literal(
        &mut self,
        word: &'static [u8],
        contexts: &[&'static str],
        out: Option<&mut Vec<u8>>,
    ) -> Result<(), Error> {
        for (index, expected) in word.iter().enumerate() {
            if self.json.get(self.at) != Some(expected) {
                return self.syntax_within(contexts[index.saturating_sub(1)]);
            }
            self.at += 1;
        }
        if let Some(out) = out {
            out.extend_from_slice(word);
        }
        Ok(())
    }
}

const TRUE: [&str; 3] = [
    "in literal true (expecting 'r')",
    "in literal true (expecting 'u')",
    "in literal true (expecting 'e')",
];
const FALSE: [&str; 4] = [
    "in literal false (expecting 'a')",
    "in literal false (expecting 'l')",
    "in literal false (expecting 's')",
    "in literal false (expecting 'e')",
];
const NULL: [&str; 3] = [
    "in literal null (expecting 'u')",
    "in literal null (expecting 'l')",
    "in literal null (expecting 'l')",
];

impl<'a> Open<'a> {
    fn begin_member(&mut self, key: Cow<'a, [u8]>, out: Option<&mut Vec<u8>>) {
        if let (Some(members), Some(out)) = (&mut self.members, out) {
            let start = out.len();
            super::write_string(&key, out);
            out.push(b':');
            if members.list.last().is_some_and(|(last, _)| *last >= key) {
                members.sorted = false;
            }
            members.list.push((key, start..start));
        }
    }

    fn end_member(&mut self, out: Option<&mut Vec<u8>>) {
        if let (Some(members), Some(out)) = (&mut self.members, out)
            && let Some((_, span)) = members.list.last_mut()
        {
            span.end = out.len();
        }
    }

    /// Puts the members in order when they were not, and keeps the last of those with equal keys.
    fn sort(&mut self, out: &mut Vec<u8>) {
        let Some(members) = self.members.as_mut().filter(|members| !members.sorted) else {
            return;
        };
        members.list.sort_by(|(a, _), (b, _)| a.cmp(b));
        let content = out.split_off(self.start);
        let mut members = members.list.iter().peekable();
        while let Some((key, span)) = members.next() {
            if members.peek().is_some_and(|(next, _)| next == key) {
                continue;
            }
            if out.len() > self.start {
                out.push(b',');
            }
            out.extend_from_slice(&content[span.start - self.start..span.end - self.start]);
        }
    }
}

/// One escape or character of a checked string, and how many bytes it took. Lone surrogates and bytes that are not
/// UTF-8 become U+FFFD, one for each byte.
fn next_char(raw: &[u8]) -> (char, usize) {
    const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;
    if raw[0] != b'\\' {
        return decode_char(raw).unwrap_or((REPLACEMENT, 1));
    }
    match raw.get(1) {
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'n') => ('\n', 2),
        Some(b'r') => ('\r', 2),
        Some(b't') => ('\t', 2),
        Some(b'u') => {
            let first = hex4(&raw[2..]);
            if let Some(c) = char::from_u32(first) {
                return (c, 6);
            }
            if let Some(second) = raw[6..].strip_prefix(b"\\u").map(hex4)
                && (0xd800..0xdc00).contains(&first)
                && (0xdc00..0xe000).contains(&second)
            {
                let combined = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return (char::from_u32(combined).unwrap_or(REPLACEMENT), 12);
            }
            (REPLACEMENT, 6)
        }
        Some(other) => (char::from(*other), 2),
        None => (REPLACEMENT, 1),
    }
}

fn hex4(digits: &[u8]) -> u32 {
    digits.iter().take(4).fold(0, |value, digit| {
        value * 16 + char::from(*digit).to_digit(16).unwrap_or(0)
    })
}

/// The text of a checked string; borrowed when it holds neither escapes nor invalid UTF-8.
pub(crate) fn decode_string(raw: &[u8]) -> Cow<'_, [u8]> {
    let plain = !raw.contains(&b'\\') && std::str::from_utf8(raw).is_ok();
    if plain {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while !rest.is_empty() {
        let (c, len) = next_char(rest);
        text.push(c);
        rest = &rest[len.min(rest.len())..];
    }
    Cow::Owned(text.into_bytes())
}

/// Writes a checked string as Go would after decoding it.
fn recode_string(raw: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = raw;
    loop {
        let plain = rest
            .iter()
            .take_while(|b| **b < 0x80 && escape(**b).is_none())
            .count();
        out.extend_from_slice(&rest[..plain]);
        rest = &rest[plain..];
        if rest.is_empty() {
            break;
        }
        let (c, len) = next_char(rest);
        push_char(c, out);
        rest = &rest[len.min(rest.len())..];
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn go(json: &str) -> Result<String, String> {
        go_with(json.as_bytes(), Numbers::Verbatim)
    }

    fn go_with(json: &[u8], numbers: Numbers) -> Result<String, String> {
        let mut out = b"prefix ".to_vec();
        transcode(json, numbers, &mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out)
            .unwrap()
            .strip_prefix("prefix ")
            .unwrap()
            .to_owned())
    }

    #[test]
    fn rewrites() {
        for (json, expected) in [
            (
                " { \"b\" : 1 , \"a\" : [ true , null, \"x\" ] } ",
                r#"{"a":[true,null,"x"],"b":1}"#,
            ),
            (
                r#"{"b":{"d":1,"c":2},"a":{},"b":{"z":[],"y":[{}]}}"#,
                r#"{"a":{},"b":{"y":[{}],"z":[]}}"#,
            ),
            (r#"{"a":1,"a":2,"a":3}"#, r#"{"a":3}"#),
            (
                r#"[1.0,-0,1E5,12345678901234567890,0.10]"#,
                r#"[1.0,-0,1E5,12345678901234567890,0.10]"#,
            ),
            (
                r#""\u003c\/\ud83d\ude00\ud800x\u00e9\n\u2028""#,
                "\"\\u003c/😀\u{fffd}xé\\n\\u2028\"",
            ),
            ("\"<é&\u{2029}>\"", "\"\\u003cé\\u0026\\u2029\\u003e\""),
            (r#"{"é":1,"z":2,"\u0061":3}"#, r#"{"a":3,"z":2,"é":1}"#),
            ("5", "5"),
            ("false", "false"),
        ] {
            assert_eq!(go(json).as_deref(), Ok(expected), "{json}");
        }
        assert_eq!(
            go_with(b"\"\xff\xe2\x82\"", Numbers::Verbatim).as_deref(),
            Ok("\"\u{fffd}\u{fffd}\u{fffd}\"")
        );
        assert_eq!(
            go_with(b"[1.0,1E5,12345678901234567890,-0]", Numbers::Doubles).as_deref(),
            Ok("[1,100000,12345678901234567000,-0]")
        );
    }

    #[test]
    fn complains_in_gos_words() {
        for (json, expected) in [
            ("", "EOF"),
            ("  ", "EOF"),
            ("{", "unexpected end of JSON input"),
            ("\"a", "unexpected end of JSON input"),
            (
                "{'a':1}",
                "invalid character '\\'' looking for beginning of object key string",
            ),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            (
                "{\"a\":1 \"b\"}",
                "invalid character '\"' after object key:value pair",
            ),
            (
                "{\"a\":1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("[1 2]", "invalid character '2' after array element"),
            ("hello", "invalid character 'h' looking for beginning of value"),
            ("tru3", "invalid character '3' in literal true (expecting 'e')"),
            ("nope", "invalid character 'o' in literal null (expecting 'u')"),
            ("1 2", "invalid character '2' after top-level value"),
            ("01", "invalid character '1' after top-level value"),
            ("-", "invalid character ' ' in numeric literal"),
            ("tru", "invalid character ' ' in literal true (expecting 'e')"),
            (
                "1.x",
                "invalid character 'x' after decimal point in numeric literal",
            ),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            (
                "\"\\u12g4\"",
                "invalid character 'g' in \\u hexadecimal character escape",
            ),
            ("\"\n\"", "invalid character '\\n' in string literal"),
        ] {
            assert_eq!(go(json).unwrap_err(), expected, "{json}");
        }
        assert_eq!(
            go_with(b"1e400", Numbers::Doubles).unwrap_err(),
            "json: cannot unmarshal number 1e400 into Go value of type float64"
        );
        let mut out = Vec::new();
        transcode_prefix(b"{\"a\":1} trailing", Numbers::Verbatim, &mut out).unwrap();
        assert_eq!(out, b"{\"a\":1}");
    }

    #[test]
    fn nesting_is_bounded_and_costs_no_stack() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(go(&deep(MAX_DEPTH)).unwrap(), deep(MAX_DEPTH));
        assert_eq!(
            go(&deep(MAX_DEPTH + 1)).unwrap_err(),
            "invalid character '[' exceeded max depth"
        );
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[a-z<>&\u{2028}é\n\"\\\\😀]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                proptest::collection::btree_map("[a-cé<]{0,2}", inner, 0..5)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The slow way: through a tree with sorted maps.
    fn slow(value: &serde_json::Value) -> Vec<u8> {
        fn sorted(value: &serde_json::Value) -> serde_json::Value {
            match value {
                serde_json::Value::Object(map) => {
                    let mut members: Vec<_> = map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
                    members.sort_by(|a, b| a.0.cmp(&b.0));
                    serde_json::Value::Object(members.into_iter().collect())
                }
                serde_json::Value::Array(items) => items.iter().map(sorted).collect(),
                other => other.clone(),
            }
        }
        super::super::to_vec(&sorted(value)).unwrap()
    }

    proptest! {
        #[test]
        fn one_pass_equals_the_tree(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let mut fast = Vec::new();
            transcode(&text, Numbers::Verbatim, &mut fast).unwrap();
            prop_assert_eq!(String::from_utf8(fast.clone()).unwrap(), String::from_utf8(slow(&value)).unwrap());
            let mut again = Vec::new();
            transcode(&fast, Numbers::Verbatim, &mut again).unwrap();
            prop_assert_eq!(fast, again);
        }

        #[test]
        fn accepts_what_serde_accepts(text in "[\\[\\]{}:,\"a0-9.eE+\\-tfn\\\\u rulse]{0,16}") {
            let mut out = Vec::new();
            let ours = transcode(text.as_bytes(), Numbers::Verbatim, &mut out);
            if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                prop_assert!(ours.is_ok(), "{:?}", ours);
            }
            if ours.is_ok() {
                prop_assert!(std::str::from_utf8(&out).is_ok());
            }
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..48)) {
            let _ = transcode(&bytes, Numbers::Doubles, &mut Vec::new());
            let mut quoted = vec![b'"'];
            quoted.extend(&bytes);
            quoted.push(b'"');
            let _ = transcode(&quoted, Numbers::Doubles, &mut Vec::new());
        }
    }
}
