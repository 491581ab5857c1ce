//! The W3C `baggage` header, validated as the peer does: any invalid member refuses the request.

use std::fmt;

use crate::logs::quote::push_go;

/// The most members.
const MAX_MEMBERS: usize = 64;

/// The most bytes of all members together.
const MAX_BYTES: usize = 8192;

/// One thing wrong with a `baggage` header.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    Member(String),
    Key(String),
    Value(String),
    Escape(String),
    Property(String),
    TooManyMembers,
    TooManyBytes,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reason, text) = match self {
            Self::Member(text) => ("invalid baggage list-member: ", text),
            Self::Key(text) => ("invalid key: ", text),
            Self::Value(text) => ("invalid value: ", text),
            Self::Escape(text) => ("invalid value: invalid URL escape ", text),
            Self::Property(text) => ("invalid baggage list-member property: ", text),
            Self::TooManyMembers => return f.write_str("too many list-members in baggage-string"),
            Self::TooManyBytes => return f.write_str("baggage-string too large"),
        };
        let mut message = reason.to_owned();
        push_go(&mut message, text);
        f.write_str(&message)
    }
}

/// Why a `baggage` header was refused, one line per problem. The edge answers 400 or `INVALID_ARGUMENT` with
/// `invalid baggage header: ` before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct InvalidBaggage(Vec<Problem>);

impl fmt::Display for InvalidBaggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// Checks a `baggage` header (several joined with `,`) and returns it rewritten in canonical form: duplicates
/// resolved in favour of the last, values percent-encoded as little as possible. HTTP sends the original text
/// on, gRPC this form.
///
/// # Errors
/// When any member is invalid or there are too many.
pub fn parse(header: &str) -> Result<String, InvalidBaggage> {
    let mut members: Vec<(&str, String)> = Vec::new();
    let mut problems = Vec::new();
    if header.is_empty() {
        return Ok(String::new());
    }
    for text in header.split(',') {
        if members.len() >= MAX_MEMBERS {
            problems.push(Problem::TooManyMembers);
            break;
        }
        let (key, member) = match parse_member(text) {
            Ok(member) => member,
            Err(problem) => {
                // The header's own length bounds these; a few are enough to say what is wrong.
                if problems.len() < MAX_MEMBERS {
                    problems.push(problem);
                }
                continue;
            }
        };
        let previous = members.iter().position(|(known, _)| *known == key);
        let before: usize = members
            .iter()
            .enumerate()
            .filter(|(index, _)| Some(*index) != previous)
            .map(|(_, (_, member))| member.len() + 1)
            .sum();
        if before + member.len() > MAX_BYTES {
            problems.push(Problem::TooManyBytes);
            break;
        }
        match previous {
            Some(index) => members[index].1 = member,
            None => members.push((key, member)),
        }
    }
    if !problems.is_empty() {
        return Err(InvalidBaggage(problems));
    }
    let members: Vec<String> = members.into_iter().map(|(_, member)| member).collect();
    Ok(members.join(","))
}

/// The key and the canonical text of one member.
fn parse_member(text: &str) -> Result<(&str, String), Problem> {
    let (pair, properties) = match text.split_once(';') {
        Some((pair, properties)) => (pair, Some(properties)),
        None => (text, None),
    };
    let mut canonical_properties = String::new();
    for property in properties
        .into_iter()
        .flat_map(|properties| properties.split(';'))
    {
        if property.is_empty() {
            continue;
        }
        let canonical = parse_property(property).ok_or_else(|| Problem::Property(property.to_owned()))?;
        canonical_properties.push(';');
        canonical_properties.push_str(&canonical);
    }
    let (key, value) = pair
        .split_once('=')
        .ok_or_else(|| Problem::Member(text.to_owned()))?;
    let key = key.trim();
    if !is_key(key) {
        return Err(Problem::Key(key.to_owned()));
    }
    let trimmed = value.trim();
    if !trimmed.bytes().all(is_value_byte) {
        return Err(Problem::Value(value.to_owned()));
    }
    let decoded = decode(trimmed).map_err(Problem::Escape)?;
    let mut member = String::with_capacity(text.len());
    member.push_str(key);
    member.push('=');
    encode(&mut member, &decoded);
    member.push_str(&canonical_properties);
    Ok((key, member))
}

fn parse_property(text: &str) -> Option<String> {
    let is_space = [' ', '\t'];
    let text = text.trim_matches(is_space);
    let Some((key, value)) = text.split_once('=') else {
        return is_key(text).then(|| text.to_owned());
    };
    let key = key.trim_end_matches(is_space);
    let value = value.trim_start_matches(is_space);
    if !is_key(key) || !value.bytes().all(is_value_byte) {
        return None;
    }
    let mut property = format!("{key}=");
    encode(&mut property, &decode(value).ok()?);
    Some(property)
}

/// An HTTP token.
fn is_key(key: &str) -> bool {
    !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// A baggage octet: visible ASCII without quote, comma, semicolon, backslash.
fn is_value_byte(byte: u8) -> bool {
    (0x21..=0x7e).contains(&byte) && !b"\",;\\".contains(&byte)
}

/// Percent-decoding; the error is the broken escape.
fn decode(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut index = 0;
    while let Some(at) = bytes[index..].iter().position(|byte| *byte == b'%') {
        let at = index + at;
        let is_hex = |offset: usize| bytes.get(at + offset).is_some_and(u8::is_ascii_hexdigit);
        if !is_hex(1) || !is_hex(2) {
            return Err(text[at..text.len().min(at + 3)].to_owned());
        }
        index = at + 3;
    }
    Ok(percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned())
}

fn encode(out: &mut String, value: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if is_value_byte(byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_baggage_comes_back_canonical() {
        for (header, canonical) in [
            ("", ""),
            ("key1=value1,key2=value2", "key1=value1,key2=value2"),
            (" key1 = value1 , key2=a%20b ", "key1=value1,key2=a%20b"),
            ("k=1;p;q = 2,k=3", "k=3"),
            ("k=1;p; q = 2", "k=1;p;q=2"),
            ("k=%41%2C", "k=A%2C"),
            ("k=", "k="),
        ] {
            assert_eq!(parse(header).as_deref(), Ok(canonical), "{header:?}");
        }
    }

    #[test]
    fn invalid_baggage_says_why() {
        for (header, reason) in [
            (
                "invalid-baggage",
                "invalid baggage list-member: \"invalid-baggage\"",
            ),
            ("=v", "invalid key: \"\""),
            ("a b=v", "invalid key: \"a b\""),
            ("k=a b", "invalid value: \"a b\""),
            ("k=%zz", "invalid value: invalid URL escape \"%zz\""),
            ("k=v;=x", "invalid baggage list-member property: \"=x\""),
        ] {
            assert_eq!(parse(header).unwrap_err().to_string(), reason, "{header:?}");
        }
        let many: Vec<String> = (0..65).map(|index| format!("k{index}=v")).collect();
        assert_eq!(
            parse(&many.join(",")).unwrap_err().to_string(),
            "too many list-members in baggage-string"
        );
        assert_eq!(
            parse(&format!("k={}", "v".repeat(9000))).unwrap_err().to_string(),
            "baggage-string too large"
        );
    }
}
