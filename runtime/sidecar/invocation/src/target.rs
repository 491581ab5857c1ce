//! Whom and what a request invokes, parsed once (design §4, pain X1; upstream `findTargetIDAndMethod`,
//! `pkg/messaging/method`).
//!
//! [`Method`] is the only form in which a method travels from here on: policies, metrics and dispatch see the same
//! bytes, so that no encoding can mean one thing to the policy and another to the app.

use std::{borrow::Cow, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

/// The header that names the target; removed once read.
pub(crate) const APP_ID_HEADER: &str = "dapr-app-id";

/// A method path, normalised: no `#`, `?` or control bytes, no `.`/`..` segments, no doubled or trailing slashes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Method(Box<str>);

/// A method that may not be invoked; the text is upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMethod {
    /// `#`, `?` or a null byte.
    #[error("method contains forbidden character: {0}")]
    Forbidden(String),
    /// Another control character.
    #[error("method contains control character at position {position}: {quoted}")]
    Control {
        /// Byte offset.
        position: usize,
        /// The method in Go's quotes.
        quoted: String,
    },
}

impl Method {
    /// Normalises a decoded method path.
    ///
    /// # Errors
    /// When it holds bytes that would change the meaning of a URL.
    pub fn parse(text: &str) -> Result<Self, InvalidMethod> {
        if text.bytes().any(|b| matches!(b, b'#' | b'?' | 0)) {
            return Err(InvalidMethod::Forbidden(quoted(text)));
        }
        if let Some(position) = text.bytes().position(|b| b < 0x20 || b == 0x7f) {
            return Err(InvalidMethod::Control {
                position,
                quoted: quoted(text),
            });
        }
        let cleaned = clean(text);
        let mut rest: &str = &cleaned;
        while let Some(shorter) = rest.strip_prefix("../") {
            rest = shorter;
        }
        if matches!(rest, ".." | ".") {
            rest = "";
        }
        Ok(Self(rest.into()))
    }

    /// The method.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The method as the path of a request, as Go's `net/url` writes it: the text is taken as an escaped path where
    /// it is a valid one and escaped where it is not.
    ///
    /// # Errors
    /// When a `%` is not followed by two hexadecimal digits, which Go refuses to put into a URL.
    pub(crate) fn to_path(&self) -> Result<Cow<'_, str>, InvalidEscape> {
        let text = self.as_str();
        if text.bytes().all(plain_in_path) {
            return Ok(Cow::Borrowed(text));
        }
        check_escapes(text)?;
        let valid = text.bytes().all(|b| {
            b == b'%' || plain_in_path(b) || matches!(b, b'!' | b'\'' | b'(' | b')' | b'*' | b'[' | b']')
        });
        if valid {
            return Ok(Cow::Borrowed(text));
        }
        // Not a valid encoding: decoded, then encoded by Go's rules for paths.
        let decoded: Vec<u8> = percent_decode_str(text).collect();
        let mut out = String::with_capacity(decoded.len() + 16);
        for byte in decoded {
            if plain_in_path(byte) {
                out.push(char::from(byte));
            } else {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
        Ok(Cow::Owned(out))
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A `%` without two hexadecimal digits; the text is that of Go's `url.Parse`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid URL escape {}", quoted(.0))]
pub(crate) struct InvalidEscape(String);

/// Bytes that Go leaves alone in a path (`shouldEscape` in mode `encodePath`).
fn plain_in_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'_' | b'.' | b'~' | b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'@'
        )
}

fn check_escapes(text: &str) -> Result<(), InvalidEscape> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let digits = bytes.get(at + 1..at + 3);
            if !digits.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)) {
                let end = bytes.len().min(at + 3);
                return Err(InvalidEscape(
                    String::from_utf8_lossy(&bytes[at..end]).into_owned(),
                ));
            }
            at += 3;
        } else {
            at += 1;
        }
    }
    Ok(())
}

/// Go's `%q`, near enough for error texts.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => {
                use fmt::Write as _;
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Go's `path.Clean`.
pub(crate) fn clean(path: &str) -> Cow<'_, str> {
    if path.is_empty() {
        return Cow::Borrowed(".");
    }
    if is_clean(path) {
        return Cow::Borrowed(path);
    }
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    let mut out = String::with_capacity(path.len());
    if rooted {
        out.push('/');
    }
    out.push_str(&parts.join("/"));
    if out.is_empty() {
        out.push('.');
    }
    Cow::Owned(out)
}

/// Whether there is nothing to clean: the usual case, in one pass.
fn is_clean(path: &str) -> bool {
    if path == "/" {
        return true;
    }
    let rest = path.strip_prefix('/').unwrap_or(path);
    !rest.split('/').any(|part| matches!(part, "" | "." | ".."))
}

/// Finds target and method of an HTTP request: the `dapr-app-id` header (removed), basic authentication with that
/// user name, or the path. `None` when no target is named.
///
/// `path` is the path as it arrived: doubled slashes of a URL target are still there.
pub(crate) fn find(path: &str, headers: &mut HeaderMap) -> Option<(String, String)> {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    if let Some(value) = headers.remove(APP_ID_HEADER) {
        let id = String::from_utf8_lossy(value.as_bytes()).into_owned();
        if !id.is_empty() {
            return Some((id, method_of_path(&decoded)));
        }
    }
    if let Some(id) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| basic_app_id(value.as_bytes()))
    {
        return Some((id, method_of_path(&decoded)));
    }
    let rest = after_prefix(&decoded)?;
    // `<app id>/method/<method>`; the app id may be a URL, escaped or not.
    let at = rest.find("/method/").filter(|at| *at > 0)?;
    let method = clean(&rest[at + "/method/".len()..]);
    let method = if method == "." {
        String::new()
    } else {
        method.into_owned()
    };
    Some((query_unescape(&rest[..at]), method))
}

fn method_of_path(path: &str) -> String {
    let path = clean(path);
    path.strip_prefix('/').unwrap_or(&path).to_owned()
}

fn basic_app_id(value: &[u8]) -> Option<String> {
    let decoded = BASE64.decode(value.strip_prefix(b"Basic ")?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    (user.eq_ignore_ascii_case(APP_ID_HEADER) && !password.contains(':')).then(|| password.to_owned())
}

/// What follows `/v1.0/invoke/`, however many slashes there are.
fn after_prefix(path: &str) -> Option<&str> {
    let mut rest = path.trim_start_matches('/');
    for part in ["v1.0", "invoke"] {
        let after = rest.strip_prefix(part)?;
        let trimmed = after.trim_start_matches('/');
        if trimmed.len() == after.len() {
            return None;
        }
        rest = trimmed;
    }
    Some(rest)
}

/// Go's `url.QueryUnescape`; the text itself when it holds a bad escape.
fn query_unescape(text: &str) -> String {
    if !text.bytes().any(|b| matches!(b, b'%' | b'+')) || check_escapes(text).is_err() {
        return text.to_owned();
    }
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

/// An app id as callers write it: `<id>` or `<id>.<namespace>`.
///
/// # Errors
/// Upstream's text for an empty id or one with more dots.
pub(crate) fn split_app_id(text: &str) -> Result<(&str, Option<&str>), String> {
    if text.is_empty() {
        return Err("app id is empty".to_owned());
    }
    match text.split_once('.') {
        None => Ok((text, None)),
        Some((_, namespace)) if namespace.contains('.') => Err(format!("invalid app id {text}")),
        Some((id, namespace)) => Ok((id, Some(namespace))),
    }
}

/// Whether the target is an address outside Dapr.
pub(crate) fn is_url(target: &str) -> bool {
    target.starts_with("http://") || target.starts_with("https://")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn found(path: &str) -> Option<(String, String)> {
        find(path, &mut HeaderMap::new())
    }

    fn pair(id: &str, method: &str) -> Option<(String, String)> {
        Some((id.to_owned(), method.to_owned()))
    }

    #[test]
    fn targets_come_from_path_header_or_basic_authentication() {
        assert_eq!(found("/v1.0/invoke/app/method/foo"), pair("app", "foo"));
        assert_eq!(found("/v1.0////invoke/app/method/foo"), pair("app", "foo"));
        assert_eq!(found("/v1.0//invoke//app/method//foo"), pair("app", "/foo"));
        assert_eq!(found("/v1.0/invoke/app/method/"), pair("app", ""));
        assert_eq!(found("/v1.0/invoke/app"), None);
        assert_eq!(found("/v1.0/invoke/app/method"), None);
        assert_eq!(found("/v1.0x/invoke/app/method/a"), None);
        assert_eq!(found("/foo"), None);
        assert_eq!(
            found("/v1.0/invoke/http://localhost:80/method/hello"),
            pair("http://localhost:80", "hello")
        );
        assert_eq!(
            found("/v1.0/invoke/http%3A%2F%2Fexample.com/method/a/b"),
            pair("http://example.com", "a/b")
        );
        let mut headers = HeaderMap::new();
        headers.insert(APP_ID_HEADER, HeaderValue::from_static("other"));
        assert_eq!(find("///foo//bar/", &mut headers), pair("other", "foo/bar"));
        assert!(headers.is_empty(), "the header is not passed on");
        headers.insert(
            header::AUTHORIZATION,
            HeaderValue::from_str(&format!("Basic {}", BASE64.encode("dapr-app-id:x"))).unwrap(),
        );
        assert_eq!(find("/m", &mut headers), pair("x", "m"));
    }

    #[test]
    fn methods_are_normalised_or_refused() {
        for (text, normal) in [
            ("a/../b", "b"),
            ("../../etc", "etc"),
            ("..", ""),
            ("", ""),
            ("public/", "public"),
            ("api///v1", "api/v1"),
            ("a%2Fb", "a%2Fb"),
            ("public#x/../y", "!"),
            ("a\rb", "!"),
            ("/pkg.Svc/Do", "/pkg.Svc/Do"),
        ] {
            match Method::parse(text) {
                Ok(method) => assert_eq!(method.as_str(), normal, "{text}"),
                Err(_) => assert_eq!("!", normal, "{text}"),
            }
        }
    }

    #[test]
    fn paths_are_written_as_go_writes_them() {
        let path = |text: &str| Method::parse(text).unwrap().to_path().map(Cow::into_owned);
        assert_eq!(path("test\"stream").unwrap(), "test%22stream");
        assert_eq!(path("test*stream").unwrap(), "test*stream");
        assert_eq!(path("test\\stream").unwrap(), "test%5Cstream");
        assert_eq!(path("a%41").unwrap(), "a%41");
        assert_eq!(path("a b").unwrap(), "a%20b");
        assert_eq!(path("ü").unwrap(), "%C3%BC");
        assert_eq!(
            path("test%stream").unwrap_err().to_string(),
            "invalid URL escape \"%st\""
        );
    }

    #[test]
    fn app_ids_may_name_a_namespace() {
        assert_eq!(split_app_id("a"), Ok(("a", None)));
        assert_eq!(split_app_id("a.b"), Ok(("a", Some("b"))));
        assert_eq!(split_app_id("a.b.c").unwrap_err(), "invalid app id a.b.c");
        assert!(split_app_id("").is_err());
    }

    proptest! {
        /// X1: normalising is idempotent and what the app decodes never climbs out of what the policy saw.
        #[test]
        fn normal_methods_stay_as_they_are(text in "[a-z./%#?A-F0-9\\\\ ]{0,40}") {
            if let Ok(method) = Method::parse(&text) {
                let again = Method::parse(method.as_str()).unwrap();
                prop_assert_eq!(&again, &method);
                prop_assert!(!method.as_str().split('/').any(|part| part == ".."));
                if let Ok(path) = method.to_path() {
                    let delivered = percent_decode_str(&path).decode_utf8_lossy().into_owned();
                    let expected = percent_decode_str(method.as_str()).decode_utf8_lossy().into_owned();
                    prop_assert_eq!(delivered, expected);
                }
            }
        }
    }
}
