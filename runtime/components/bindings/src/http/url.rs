//! Addresses as people write them, made fit for the wire.

use http::Uri;
use outrigger_component::Error;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What may not stand in an address; a percent sign may, it was encoded by whoever wrote it.
const ILLEGAL: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// An address, and the user and password it carried.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) uri: Uri,
    pub(super) user: Option<(String, String)>,
}

/// The endpoint with a path behind it.
pub(super) fn join(base: &str, path: &str) -> String {
    format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/'))
}

/// Reads an absolute address: `http` or `https`, without fragment.
pub(super) fn parse(text: &str) -> Result<Target, Error> {
    let invalid = |reason: &str| Error::invalid(format!("invalid URL: {reason}"));
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(invalid("control character"));
    }
    let text = text.split('#').next().unwrap_or_default();
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| invalid("unsupported protocol scheme"))?;
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(invalid("unsupported protocol scheme"));
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    let uri = format!("{scheme}://{host}{slash}{}", utf8_percent_encode(path, ILLEGAL))
        .parse::<Uri>()
        .map_err(|error| invalid(&error.to_string()))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(invalid("no host in request URL"));
    }
    let user = user.map(|user| {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        (decoded(name), decoded(password))
    });
    Ok(Target { uri, user })
}

/// The address that a `Location` header means.
pub(super) fn relative(base: &Uri, location: &str) -> Result<Target, Error> {
    if location.contains("://") {
        return parse(location);
    }
    let scheme = base.scheme_str().unwrap_or("http");
    let host = base.authority().map_or("", |authority| authority.as_str());
    if let Some(rest) = location.strip_prefix("//") {
        return parse(&format!("{scheme}://{rest}"));
    }
    let folder = match location.as_bytes().first() {
        Some(b'/') => "",
        Some(b'?') => base.path(),
        _ => base.path().rsplit_once('/').map_or("", |(folder, _)| folder),
    };
    let slash = if matches!(location.as_bytes().first(), Some(b'/' | b'?')) {
        ""
    } else {
        "/"
    };
    let (path, query) = location.split_at(location.find('?').unwrap_or(location.len()));
    let path = format!("{folder}{slash}{path}");
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parse(&format!("{scheme}://{host}/{}{query}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_made_fit() {
        for (text, uri) in [
            ("http://h", "http://h/"),
            ("HTTP://h:8/a b?q=ä c#frag", "http://h:8/a%20b?q=%C3%A4%20c"),
            ("https://h?x=%20", "https://h/?x=%20"),
            ("http://[::1]:80/x", "http://[::1]:80/x"),
        ] {
            assert_eq!(parse(text).unwrap().uri.to_string(), uri);
        }
        for text in [
            "",
            "h/x",
            "ftp://h",
            "http://",
            "http:///x",
            "http://h\n/",
            "http://h h/",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let target = parse("http://me:a%40b@h/").unwrap();
        assert_eq!(target.user, Some(("me".to_owned(), "a@b".to_owned())));
        assert_eq!(target.uri.to_string(), "http://h/");
        assert_eq!(join("http://h//", "//a"), "http://h/a");
    }

    #[test]
    fn locations_are_relative_to_their_page() {
        let base: Uri = "https://h:1/a/b?c".parse().unwrap();
        for (location, uri) in [
            ("http://o/x", "http://o/x"),
            ("//o/x", "https://o/x"),
            ("/x?y=/..", "https://h:1/x?y=/.."),
            ("x", "https://h:1/a/x"),
            ("../x/./y", "https://h:1/x/y"),
            ("?z", "https://h:1/a/b?z"),
        ] {
            assert_eq!(
                relative(&base, location).unwrap().uri.to_string(),
                uri,
                "{location}"
            );
        }
    }
}
