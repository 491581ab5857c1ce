//! Path templates of `google.api.http`, in the grammar that `google/api/http.proto` writes down:
//!
//! ```text
//! Template  = "/" Segments [ ":" Verb ]
//! Segments  = Segment { "/" Segment }
//! Segment   = "*" | "**" | Literal | Variable
//! Variable  = "{" FieldPath [ "=" Segments ] "}"
//! ```
//!
//! `**` matches any number of segments, none included, and stands last. Escapes are decoded in whatever a variable
//! takes, `%2F` too, so that a client may escape a key that holds `/` or leave it as it is.

use std::cmp::Ordering;

use percent_encoding::percent_decode_str;

/// A parsed path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Segment>,
    verb: Option<String>,
    variables: Vec<Variable>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any,
    Rest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Variable {
    path: Vec<String>,
    /// The first segment, and the one after the last.
    start: usize,
    end: usize,
}

/// Why a text is no path template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path template {template:?}: {reason}")]
pub struct TemplateError {
    /// The text.
    pub template: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// What a variable took: its field path and the decoded text.
pub type Binding<'a> = (&'a [String], String);

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError`] for a text outside the grammar, with an empty segment, with a variable in a variable, or
    /// with `**` anywhere but at the end.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        parse(text).map_err(|reason| TemplateError {
            template: text.to_owned(),
            reason,
        })
    }

    /// The field paths of the variables, in their order.
    pub fn variables(&self) -> impl Iterator<Item = &[String]> {
        self.variables.iter().map(|variable| variable.path.as_slice())
    }

    /// Matches a request's path, as it stands on the request line and without the query. `None` where it does not
    /// match, or where what a variable takes is no UTF-8 once decoded.
    pub fn matches(&self, path: &str) -> Option<Vec<Binding<'_>>> {
        let path = path.strip_prefix('/')?;
        let path = match &self.verb {
            None => path,
            Some(verb) => {
                let (rest, found) = path.rsplit_once(':')?;
                if found != verb {
                    return None;
                }
                rest
            }
        };
        let parts: Vec<&str> = if path.is_empty() {
            Vec::new()
        } else {
            path.split('/').collect()
        };
        let rest = matches!(self.segments.last(), Some(Segment::Rest));
        let fixed = self.segments.len() - usize::from(rest);
        if parts.len() < fixed || (!rest && parts.len() > fixed) {
            return None;
        }
        for (segment, part) in self.segments.iter().zip(&parts) {
            match segment {
                Segment::Literal(literal) => {
                    if decoded(part)? != *literal {
                        return None;
                    }
                }
                // One segment, and an empty one is none.
                Segment::Any => {
                    if part.is_empty() {
                        return None;
                    }
                }
                Segment::Rest => {}
            }
        }
        self.variables
            .iter()
            .map(|variable| {
                let end = if rest && variable.end == self.segments.len() {
                    parts.len()
                } else {
                    variable.end
                };
                let taken = parts.get(variable.start..end)?.join("/");
                Some((variable.path.as_slice(), decoded(&taken)?))
            })
            .collect()
    }

    /// Which of two templates that both match a path is meant: the one with a verb, then segment by segment a
    /// literal before `*` before `**`, then the longer one. `Less` comes first.
    pub fn precedence(&self, other: &Self) -> Ordering {
        let rank = |segment: Option<&Segment>| match segment {
            Some(Segment::Literal(_)) => 0,
            Some(Segment::Any) => 1,
            // The end is more than nothing and less than something.
            None => 2,
            Some(Segment::Rest) => 3,
        };
        let verbs = other.verb.is_some().cmp(&self.verb.is_some());
        let length = self.segments.len().max(other.segments.len());
        (0..length).fold(verbs, |order, index| {
            order.then_with(|| rank(self.segments.get(index)).cmp(&rank(other.segments.get(index))))
        })
    }

    /// The template as OpenAPI writes one: each variable is `{field.path}`, a wildcard without a name is
    /// `{segment}` with its number.
    pub fn openapi(&self) -> String {
        let mut text = String::new();
        let mut index = 0;
        while index < self.segments.len() {
            text.push('/');
            if let Some(variable) = self.variables.iter().find(|variable| variable.start == index) {
                text.push_str(&format!("{{{}}}", variable.path.join(".")));
                index = variable.end.max(index + 1);
                continue;
            }
            match &self.segments[index] {
                Segment::Literal(literal) => text.push_str(literal),
                Segment::Any | Segment::Rest => text.push_str(&format!("{{segment{index}}}")),
            }
            index += 1;
        }
        if text.is_empty() {
            text.push('/');
        }
        if let Some(verb) = &self.verb {
            text.push(':');
            text.push_str(verb);
        }
        text
    }

    /// The numbers of wildcards that no variable covers.
    pub(crate) fn unnamed(&self) -> impl Iterator<Item = usize> {
        self.segments
            .iter()
            .enumerate()
            .filter(|(index, segment)| {
                !matches!(segment, Segment::Literal(_))
                    && !self
                        .variables
                        .iter()
                        .any(|variable| (variable.start..variable.end).contains(index))
            })
            .map(|(index, _)| index)
    }
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text)
        .decode_utf8()
        .ok()
        .map(std::borrow::Cow::into_owned)
}

fn parse(text: &str) -> Result<Template, &'static str> {
    let body = text.strip_prefix('/').ok_or("does not begin with /")?;
    let (body, verb) = split_verb(body)?;
    let mut segments = Vec::new();
    let mut variables: Vec<Variable> = Vec::new();
    let mut rest = body;
    // "/" alone has no segment.
    while !rest.is_empty() || !segments.is_empty() {
        let end = if rest.starts_with('{') {
            let close = rest.find('}').ok_or("a variable is not closed")?;
            let variable = variable(&rest[1..close], &mut segments)?;
            if variables.iter().any(|other| other.path == variable.path) {
                return Err("two variables have one name");
            }
            variables.push(variable);
            close + 1
        } else {
            let end = rest.find('/').unwrap_or(rest.len());
            segments.push(segment(&rest[..end])?);
            end
        };
        match rest[end..].strip_prefix('/') {
            Some(more) => rest = more,
            None if rest.len() == end => break,
            None => return Err("a variable is followed by something else than /"),
        }
    }
    let last = segments.len().saturating_sub(1);
    if segments[..last].contains(&Segment::Rest) {
        return Err("** stands before the end");
    }
    Ok(Template {
        segments,
        verb,
        variables,
    })
}

fn split_verb(body: &str) -> Result<(&str, Option<String>), &'static str> {
    // Only a colon in the last segment begins a verb.
    let last = body.rfind(['/', '}']).map_or(0, |at| at + 1);
    match body[last..].find(':') {
        None => Ok((body, None)),
        Some(at) => {
            let verb = &body[last + at + 1..];
            if verb.is_empty() {
                return Err("the verb is empty");
            }
            Ok((&body[..last + at], Some(verb.to_owned())))
        }
    }
}

fn variable(text: &str, segments: &mut Vec<Segment>) -> Result<Variable, &'static str> {
    let (path, pattern) = text.split_once('=').unwrap_or((text, "*"));
    let path: Vec<String> = path.split('.').map(str::to_owned).collect();
    if path.iter().any(|name| !is_identifier(name)) {
        return Err("a field path is no path of identifiers");
    }
    let start = segments.len();
    for part in pattern.split('/') {
        segments.push(segment(part)?);
    }
    Ok(Variable {
        path,
        start,
        end: segments.len(),
    })
}

fn segment(text: &str) -> Result<Segment, &'static str> {
    match text {
        "" => Err("a segment is empty"),
        "*" => Ok(Segment::Any),
        "**" => Ok(Segment::Rest),
        _ if text.contains(['{', '}', '*', '?', '#']) => Err("a segment mixes text and wildcards"),
        _ => decoded(text)
            .map(Segment::Literal)
            .ok_or("a segment is no UTF-8 once decoded"),
    }
}

fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    fn bound(text: &str, path: &str) -> Option<Vec<(String, String)>> {
        template(text).matches(path).map(|bindings| {
            bindings
                .into_iter()
                .map(|(path, value)| (path.join("."), value))
                .collect()
        })
    }

    fn pairs(pairs: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        Some(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn variables_take_segments() {
        assert_eq!(bound("/v1/x/{id}", "/v1/x/7"), pairs(&[("id", "7")]));
        assert_eq!(bound("/v1/x/{a.b_c}/y", "/v1/x/7/y"), pairs(&[("a.b_c", "7")]));
        assert_eq!(
            bound("/v1/{name=shelves/*/books/*}", "/v1/shelves/1/books/2"),
            pairs(&[("name", "shelves/1/books/2")])
        );
        assert_eq!(
            bound("/v1/{service}/{key=**}", "/v1/s/a/b/c"),
            pairs(&[("service", "s"), ("key", "a/b/c")])
        );
        assert_eq!(
            bound("/v1/{service}/{key=**}", "/v1/s"),
            pairs(&[("service", "s"), ("key", "")])
        );
        assert_eq!(bound("/v1/{id}", "/v1/"), None);
        assert_eq!(bound("/v1/{id}", "/v1/a/b"), None);
        assert_eq!(bound("/v1/*/z", "/v1/y/z"), pairs(&[]));
        assert_eq!(bound("/", "/"), pairs(&[]));
    }

    #[test]
    fn escapes_are_decoded() {
        assert_eq!(bound("/v1/{id}", "/v1/a%20b"), pairs(&[("id", "a b")]));
        assert_eq!(bound("/v1/{id}", "/v1/a%2Fb"), pairs(&[("id", "a/b")]));
        assert_eq!(
            bound("/v1/{key=**}", "/v1/a%2Fb/c%25"),
            pairs(&[("key", "a/b/c%")])
        );
        assert_eq!(bound("/v1/{id}", "/v1/%FF"), None);
    }

    #[test]
    fn verbs_end_the_path() {
        assert_eq!(bound("/v1/{id}:cancel", "/v1/7:cancel"), pairs(&[("id", "7")]));
        assert_eq!(bound("/v1/{id}:cancel", "/v1/7"), None);
        assert_eq!(bound("/v1/{id}", "/v1/7:cancel"), pairs(&[("id", "7:cancel")]));
        assert_eq!(bound("/v1/x:run", "/v1/x:run"), pairs(&[]));
        assert_eq!(bound("/v1/{key=**}:run", "/v1/a/b:run"), pairs(&[("key", "a/b")]));
    }

    #[test]
    fn what_the_grammar_has_not_is_refused() {
        for text in [
            "",
            "v1",
            "/v1//x",
            "/v1/",
            "/v1/{",
            "/v1/{}",
            "/v1/{a",
            "/v1/{a=}",
            "/v1/{1a}",
            "/v1/{a}b",
            "/v1/**/x",
            "/v1/{a=**}/x",
            "/v1/{a=**/x}",
            "/v1/{a}/{a}",
            "/v1/x:",
            "/v1/a*b",
            "/v1/{a={b}}",
        ] {
            assert!(Template::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_more_exact_template_comes_first() {
        let order = [
            "/v1/x:go",
            "/v1/x",
            "/v1/{a}/b",
            "/v1/{a}",
            "/v1/{a}/{b=**}",
            "/{a=**}",
        ];
        for (index, first) in order.iter().enumerate() {
            for second in &order[index + 1..] {
                assert_eq!(
                    template(first).precedence(&template(second)),
                    Ordering::Less,
                    "{first} before {second}"
                );
            }
        }
    }

    #[test]
    fn openapi_names_variables() {
        assert_eq!(
            template("/v1/{a=x/*}/y/{b.c=**}:go").openapi(),
            "/v1/{a}/y/{b.c}:go"
        );
        assert_eq!(template("/v1/*/y").openapi(), "/v1/{segment1}/y");
    }

    proptest! {
        /// Whatever text a client escapes into a segment comes out of the variable.
        #[test]
        fn an_escaped_value_comes_back(value in "\\PC{1,20}", tail in proptest::collection::vec("[a-z/%:. ]{1,8}", 0..4)) {
            let one = utf8_percent_encode(&value, NON_ALPHANUMERIC).to_string();
            let many: Vec<String> = tail.iter().map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string()).collect();
            let path = format!("/v1/{one}/{}", many.join("/"));
            let path = path.trim_end_matches('/');
            let template = template("/v1/{one}/{rest=**}");
            let bindings = template.matches(path).unwrap();
            prop_assert_eq!(&bindings[0].1, &value);
            prop_assert_eq!(&bindings[1].1, &tail.join("/"));
        }

        /// Neither parsing nor matching panics, and a template without wildcards matches itself only.
        #[test]
        fn nothing_panics(text in "[/a-z{}=*:.%0-9]{0,30}", path in "\\PC{0,30}") {
            if let Ok(template) = Template::parse(&text) {
                let _ = template.matches(&path);
                let _ = template.openapi();
            }
        }

        /// Precedence is an order: antisymmetric, and equal only for templates of one shape.
        #[test]
        fn precedence_is_antisymmetric(a in "(/[ab]|/\\{[xy]\\}){1,4}", b in "(/[ab]|/\\{[xy]\\}){1,4}") {
            if let (Ok(a), Ok(b)) = (Template::parse(&a), Template::parse(&b)) {
                prop_assert_eq!(a.precedence(&b), b.precedence(&a).reverse());
            }
        }
    }
}
