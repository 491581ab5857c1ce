//! Path arithmetic as Go's `path` and `net/url` do it: clients were written against those.

use std::borrow::Cow;

/// Go's `path.Clean` for a rooted path: collapses slashes, resolves `.` and `..`, drops a trailing slash. Works on
/// the escaped path, so an escaped slash stays within its segment.
#[must_use]
pub fn clean(path: &str) -> Cow<'_, str> {
    if is_clean(path) {
        return Cow::Borrowed(path);
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
    for segment in segments {
        cleaned.push('/');
        cleaned.push_str(segment);
    }
    if cleaned.is_empty() {
        cleaned.push('/');
    }
    Cow::Owned(cleaned)
}

fn is_clean(path: &str) -> bool {
    if path == "/" {
        return true;
    }
    path.starts_with('/')
        && path[1..]
            .split('/')
            .all(|segment| !matches!(segment, "" | "." | ".."))
}

/// A broken `%` escape; the text is Go's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenEscape(String);

impl std::fmt::Display for BrokenEscape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "invalid URL escape {:?}", self.0)
    }
}

impl std::error::Error for BrokenEscape {}

/// Go's `url.QueryUnescape`: `%xx` and `+`; invalid UTF-8 is replaced.
///
/// # Errors
/// When an escape is broken.
pub fn query_unescape(text: &str) -> Result<String, BrokenEscape> {
    if !text.contains(['%', '+']) {
        return Ok(text.to_owned());
    }
    let broken = |at: usize| BrokenEscape(text.get(at..).unwrap_or("%").chars().take(3).collect());
    let digit = |at: usize| {
        text.as_bytes()
            .get(at)
            .and_then(|byte| (*byte as char).to_digit(16))
    };
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'%' => {
                let (Some(high), Some(low)) = (digit(i + 1), digit(i + 2)) else {
                    return Err(broken(i));
                };
                out.push(u8::try_from(high * 16 + low).unwrap_or(u8::MAX));
                i += 3;
            }
            b'+' => {
                out.push(b' ');
                i += 1;
            }
            b => {
                out.push(b);
                i += 1;
            }
        }
    }
    Ok(String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_like_go() {
        for (given, wanted) in [
            ("/", "/"),
            ("", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b"),
            ("//a///b", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../../a", "/a"),
            ("/a%2Fb/..", "/"),
        ] {
            assert_eq!(clean(given), wanted, "{given}");
        }
    }

    #[test]
    fn unescapes_like_go() {
        assert_eq!(query_unescape("a+b%20c%2Fd").as_deref(), Ok("a b c/d"));
        assert_eq!(
            query_unescape("%zzz").unwrap_err().to_string(),
            "invalid URL escape \"%zz\""
        );
        assert!(query_unescape("%2").is_err());
        assert_eq!(query_unescape("%ff").as_deref(), Ok("\u{fffd}"));
    }

    proptest::proptest! {
        #[test]
        fn cleaning_twice_is_cleaning_once(path in "[/.a%]{0,24}") {
            let once = clean(&path).into_owned();
            proptest::prop_assert_eq!(clean(&once), once.as_str());
        }
    }
}
