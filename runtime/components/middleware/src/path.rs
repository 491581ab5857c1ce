//! The path that a policy judges.
//!
//! Upstream's handlers look at the path as it arrived, while its router and its invocation look at a cleaned one: what
//! one refuses can pass the other by a doubled slash or an encoded dot segment (the class of GO-2026-5242, pains X1).
//! Here both see the same: this module gives handlers the path that will be dispatched. For paths without such tricks
//! it is the path as it arrived.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::percent_decode_str;

/// The decoded path of a request, as it will be dispatched.
pub(crate) fn decoded(uri: &Uri) -> Cow<'_, str> {
    let cleaned = clean(uri.path());
    if !cleaned.contains('%') {
        return cleaned;
    }
    let decoded = percent_decode_str(&cleaned).decode_utf8_lossy().into_owned();
    if decoded.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Cow::Owned(clean(&decoded).into_owned());
    }
    Cow::Owned(decoded)
}

/// Path and query as written, the path as it will be dispatched.
pub(crate) fn with_query(uri: &Uri) -> String {
    let cleaned = clean(uri.path());
    let hides_dots = cleaned.contains('%')
        && cleaned
            .split('/')
            .any(|segment| matches!(&*percent_decode_str(segment).decode_utf8_lossy(), "." | ".."));
    let mut text = if hides_dots {
        decoded(uri).into_owned()
    } else {
        cleaned.into_owned()
    };
    if let Some(query) = uri.query() {
        text.push('?');
        text.push_str(query);
    }
    text
}

/// Go's `path.Clean` for a rooted path. A trailing slash stays: handlers upstream see it.
fn clean(path: &str) -> Cow<'_, str> {
    let body = path.strip_suffix('/').unwrap_or(path);
    let is_clean = body.is_empty()
        || body
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|segment| !matches!(segment, "" | "." | "..")));
    if is_clean {
        return Cow::Borrowed(if path.is_empty() { "/" } else { path });
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut cleaned = String::with_capacity(path.len() + 1);
    for segment in &segments {
        cleaned.push('/');
        cleaned.push_str(segment);
    }
    if path.ends_with('/') || cleaned.is_empty() {
        cleaned.push('/');
    }
    Cow::Owned(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_2026_5242_a_policy_sees_the_path_that_is_dispatched() {
        for (written, seen) in [
            ("/", "/"),
            ("/v1.0/state/s/a%20b", "/v1.0/state/s/a b"),
            ("/v1.0/state/s/", "/v1.0/state/s/"),
            ("//v1.0///state/s", "/v1.0/state/s"),
            (
                "/v1.0/invoke/a/method/public/../admin",
                "/v1.0/invoke/a/method/admin",
            ),
            (
                "/v1.0/invoke/a/method/public/%2e%2E/admin",
                "/v1.0/invoke/a/method/admin",
            ),
            (
                "/v1.0/invoke/a/method/public%2f..%2fadmin",
                "/v1.0/invoke/a/method/admin",
            ),
            ("/v1.0/state/s/a%2Fb", "/v1.0/state/s/a/b"),
            ("/../../x", "/x"),
        ] {
            assert_eq!(decoded(&written.parse().unwrap()), seen, "{written}");
        }
    }

    #[test]
    fn the_written_form_keeps_its_escapes_and_query() {
        for (written, seen) in [
            ("/a%20b?q=go+language", "/a%20b?q=go+language"),
            ("//foo", "/foo"),
            ("/foo?", "/foo?"),
            ("/a/%2e%2e/b?c", "/b?c"),
        ] {
            assert_eq!(with_query(&written.parse().unwrap()), seen, "{written}");
        }
    }
}
