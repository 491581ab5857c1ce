//! Request paths as label values: Go `ServeMux` patterns and Dapr's normalisation
//! (`pkg/diagnostics/http_monitoring_path_matching.go`, `http_monitoring_legacy.go`).

use std::{borrow::Cow, cmp::Ordering};

/// Why a text is not a path pattern; Go's mux panics on the same texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid path pattern {pattern:?}: {reason}")]
pub struct InvalidPattern {
    /// The pattern as configured.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Paths Dapr calls itself; they are labels as they are.
pub(super) fn is_static(path: &str) -> bool {
    matches!(
        path,
        "/dapr/config" | "/dapr/metrics" | "/dapr/subscribe" | "/healthz"
    )
}

/// The path with one leading slash and no doubled ones.
pub(super) fn normalized(path: &str) -> Cow<'_, str> {
    if path.starts_with('/') && !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut clean = String::with_capacity(path.len() + 1);
    clean.push('/');
    for c in path.chars() {
        if c != '/' || !clean.ends_with('/') {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

/// A path with ids taken out: actors, workflow instances and events, state keys and secrets.
pub(super) fn metric_label(path: &str) -> Cow<'_, str> {
    if path.is_empty() {
        return Cow::Borrowed("");
    }
    let path = normalized(path);
    let parts: Vec<&str> = path[1..].splitn(6, '/').collect();
    if parts.len() < 3 {
        return path;
    }
    let label = match (parts[0], parts[1]) {
        // The app's own actor routes, which the peer prints without the leading slash.
        ("actors", _) => {
            let mut parts = parts;
            parts[2] = "{id}";
            parts.join("/")
        }
        (_, "state" | "secrets") => format!("/{}", parts[..3].join("/")),
        (_, "actors") if parts.len() >= 5 => {
            format!("/{}/{}/{}/{{id}}/{}", parts[0], parts[1], parts[2], parts[4])
        }
        (_, "workflows") if parts.len() == 4 => {
            format!("/{}/{}/{}/{{instanceId}}", parts[0], parts[1], parts[2])
        }
        (_, "workflows") if parts.len() == 5 && parts[4].starts_with("start") => {
            format!("/{}/start", parts[..4].join("/"))
        }
        (_, "workflows") if parts.len() >= 5 => {
            let event = if parts.len() == 6 && parts[4] == "raiseEvent" && !parts[5].is_empty() {
                "/{eventName}"
            } else {
                ""
            };
            format!(
                "/{}/{}/{}/{{instanceId}}/{}{event}",
                parts[0], parts[1], parts[2], parts[4]
            )
        }
        _ => return path,
    };
    Cow::Owned(label)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// `{name}`: one segment.
    Single,
    /// `{name...}` or a trailing slash: the rest, which may be empty.
    Rest,
    /// `{$}`: the path ends with this slash.
    End,
}

impl Segment {
    /// More specific first.
    fn rank(&self) -> u8 {
        match self {
            Self::Literal(_) | Self::End => 0,
            Self::Single => 1,
            Self::Rest => 2,
        }
    }
}

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let invalid = |reason| InvalidPattern {
            pattern: text.to_owned(),
            reason,
        };
        if text.contains([' ', '\t']) {
            return Err(invalid("a path has no spaces and no method"));
        }
        let parts: Vec<&str> = text[1..].split('/').collect();
        let mut names: Vec<&str> = Vec::new();
        let mut segments = Vec::with_capacity(parts.len());
        let last = parts.len() - 1;
        for (index, part) in parts.into_iter().enumerate() {
            if part.is_empty() && index == last {
                segments.push(Segment::Rest);
                continue;
            }
            let Some(open) = part.find('{') else {
                segments.push(Segment::Literal(decoded(part)));
                continue;
            };
            if open != 0 {
                return Err(invalid("a wildcard must be a whole segment"));
            }
            let name = part[1..]
                .strip_suffix('}')
                .ok_or_else(|| invalid("a wildcard must end with '}'"))?;
            if name == "$" {
                if index != last {
                    return Err(invalid("{$} must be at the end"));
                }
                segments.push(Segment::End);
                continue;
            }
            let (name, rest) = name
                .strip_suffix("...")
                .map_or((name, false), |name| (name, true));
            if rest && index != last {
                return Err(invalid("a {...} wildcard must be at the end"));
            }
            if !is_identifier(name) {
                return Err(invalid("a wildcard needs a name"));
            }
            if names.contains(&name) {
                return Err(invalid("a wildcard name is used twice"));
            }
            names.push(name);
            segments.push(if rest { Segment::Rest } else { Segment::Single });
        }
        Ok(Self {
            text: text.to_owned(),
            segments,
        })
    }

    fn matches(&self, path: &str) -> bool {
        let mut rest = Some(&path[1..]);
        for segment in &self.segments {
            match segment {
                Segment::Rest => return rest.is_some(),
                Segment::End => return rest == Some(""),
                Segment::Literal(_) | Segment::Single => {}
            }
            let Some(left) = rest else { return false };
            let (part, next) = match left.split_once('/') {
                Some((part, next)) => (part, Some(next)),
                None => (left, None),
            };
            match segment {
                Segment::Literal(literal) if literal == part => {}
                Segment::Single if !part.is_empty() => {}
                _ => return false,
            }
            rest = next;
        }
        rest.is_none()
    }

    /// Whether a path without its trailing slash would be redirected here, which Go counts as a match.
    fn is_redirect_target(&self, path: &str) -> bool {
        self.segments.last() == Some(&Segment::Rest) && self.text.ends_with('/') && {
            let without = Self {
                text: String::new(),
                segments: self.segments[..self.segments.len() - 1].to_vec(),
            };
            !without.segments.is_empty() && without.matches(path)
        }
    }

    /// More specific patterns first; the order is total, so overlapping patterns (on which Go panics) are
    /// settled in favour of the one that is literal further to the left.
    fn precedence(&self, other: &Self) -> Ordering {
        self.segments
            .iter()
            .map(Segment::rank)
            .cmp(other.segments.iter().map(Segment::rank))
            .then_with(|| self.text.cmp(&other.text))
    }
}

fn is_identifier(name: &str) -> bool {
    name.chars()
        .enumerate()
        .all(|(index, c)| c == '_' || c.is_alphabetic() || (index > 0 && c.is_numeric()))
        && !name.is_empty()
}

fn decoded(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment)
        .decode_utf8_lossy()
        .into_owned()
}

/// Matches paths against `spec.metrics.http.pathMatching`.
///
/// Every path is also registered behind `/v1.0/invoke/{app_id}/method`, as the peer does.
#[derive(Debug, Clone)]
pub struct PathMatcher {
    patterns: Vec<Pattern>,
    /// Increased cardinality without a pattern for `/`: unmatched paths are labels as they are.
    returns_unmatched: bool,
}

impl PathMatcher {
    /// Compiles patterns; `None` when there are none.
    ///
    /// # Errors
    /// When a pattern is malformed.
    pub fn new(paths: &[String], increased_cardinality: bool) -> Result<Option<Self>, InvalidPattern> {
        if paths.is_empty() {
            return Ok(None);
        }
        let mut patterns = Vec::with_capacity(paths.len() * 2);
        let mut has_root = false;
        for path in paths {
            let path = normalized(path);
            has_root |= path == "/";
            patterns.push(Pattern::parse(&path)?);
            if !path.starts_with("/v1.0/invoke/") {
                patterns.push(Pattern::parse(&format!("/v1.0/invoke/{{app_id}}/method{path}"))?);
            }
        }
        patterns.sort_by(Pattern::precedence);
        patterns.dedup_by(|a, b| a.text == b.text);
        Ok(Some(Self {
            patterns,
            returns_unmatched: increased_cardinality && !has_root,
        }))
    }

    /// The label of a path: the pattern it matches, or the path itself when unmatched paths are kept; `None`
    /// when it matches nothing.
    #[must_use]
    pub fn label<'a>(&'a self, path: &'a str) -> Option<Cow<'a, str>> {
        if path.is_empty() {
            return None;
        }
        let path = normalized(path);
        let found = self
            .patterns
            .iter()
            .find(|pattern| pattern.matches(&path))
            .or_else(|| {
                self.patterns
                    .iter()
                    .find(|pattern| pattern.is_redirect_target(&path))
            });
        match found {
            Some(pattern) => Some(Cow::Borrowed(pattern.text.as_str())),
            None if self.returns_unmatched => Some(path),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(paths: &[&str], legacy: bool) -> PathMatcher {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        PathMatcher::new(&paths, legacy).unwrap().unwrap()
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let matcher = matcher(
            &[
                "/orders/{id}",
                "/orders/1234",
                "/orders",
                "/files/{path...}",
                "/tree/",
                "/only/{$}",
            ],
            false,
        );
        for (path, label) in [
            ("/orders/1", Some("/orders/{id}")),
            ("/orders/1234", Some("/orders/1234")),
            ("/orders", Some("/orders")),
            ("//orders//7", Some("/orders/{id}")),
            ("/orders/1/items", None),
            ("/orders/", None),
            ("/files/a/b", Some("/files/{path...}")),
            ("/tree/a/b", Some("/tree/")),
            ("/tree", Some("/tree/")),
            ("/only/", Some("/only/{$}")),
            ("/only/a", None),
            (
                "/v1.0/invoke/app/method/orders/9",
                Some("/v1.0/invoke/{app_id}/method/orders/{id}"),
            ),
            ("/nothing", None),
            ("", None),
        ] {
            assert_eq!(matcher.label(path).as_deref(), label, "{path}");
        }
    }

    #[test]
    fn increased_cardinality_keeps_unmatched_paths_unless_the_root_is_a_pattern() {
        assert_eq!(matcher(&["/a"], true).label("//b").as_deref(), Some("/b"));
        assert_eq!(matcher(&["/a", "/"], true).label("/b").as_deref(), Some("/"));
        assert_eq!(matcher(&["/a"], false).label("/b"), None);
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for bad in ["/a{b}", "/{a", "/{}", "/{a}/{a}", "/{a...}/b", "/{$}/b", "GET /a"] {
            assert!(PathMatcher::new(&[bad.to_owned()], false).is_err(), "{bad}");
        }
        assert!(PathMatcher::new(&[], true).unwrap().is_none());
    }

    #[test]
    fn ids_are_taken_out_of_known_paths() {
        for (path, label) in [
            ("", ""),
            ("/", "/"),
            ("//a//b", "/a/b"),
            ("/v1.0/state/store/key/more", "/v1.0/state/store"),
            ("/v1.0/secrets/vault/name", "/v1.0/secrets/vault"),
            ("/v1.0/actors/Demo/1/method/go", "/v1.0/actors/Demo/{id}/method"),
            ("/v1.0/actors/Demo/1", "/v1.0/actors/Demo/1"),
            ("actors/Demo/1/method/go", "actors/Demo/{id}/method/go"),
            ("/v1.0/workflows/dapr/id", "/v1.0/workflows/dapr/{instanceId}"),
            (
                "/v1.0/workflows/dapr/flow/start",
                "/v1.0/workflows/dapr/flow/start",
            ),
            (
                "/v1.0/workflows/dapr/id/pause",
                "/v1.0/workflows/dapr/{instanceId}/pause",
            ),
            (
                "/v1.0/workflows/dapr/id/raiseEvent/e",
                "/v1.0/workflows/dapr/{instanceId}/raiseEvent/{eventName}",
            ),
            (
                "/v1.0/invoke/app/method/orders/1",
                "/v1.0/invoke/app/method/orders/1",
            ),
        ] {
            assert_eq!(metric_label(path), label, "{path}");
        }
    }
}
