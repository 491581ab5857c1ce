//! YAML as JSON values: mappings with text keys, lists, and scalars of YAML's core schema. JSON is YAML too, but has a
//! parser of its own.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// Lists and mappings in each other.
const MAX_DEPTH: usize = 32;

/// Reads one document.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut events = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut document = None;
    for event in &mut events {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let line = span.start.line();
        let at = |reason: &str| format!("line {line}: {reason}");
        let done = match event {
            Event::MappingStart(..) => {
                open.push(Open::Mapping(Map::new(), None));
                None
            }
            Event::SequenceStart(..) => {
                open.push(Open::Sequence(Vec::new()));
                None
            }
            Event::MappingEnd | Event::SequenceEnd => open.pop().map(Open::close),
            Event::Scalar(text, style, ..) => Some(scalar(&text, style)),
            Event::Alias(_) => return Err(at("aliases are not read")),
            Event::DocumentStart(..) if document.is_some() => return Err(at("only one document is read")),
            _ => None,
        };
        if open.len() > MAX_DEPTH {
            return Err(at("too deep"));
        }
        let Some(value) = done else { continue };
        match open.last_mut() {
            None => document = Some(value),
            Some(Open::Sequence(list)) => list.push(value),
            Some(Open::Mapping(map, key)) => match (key.take(), value) {
                (None, Value::String(name)) => {
                    if map.contains_key(&name) {
                        return Err(at(&format!("{name:?} stands twice")));
                    }
                    *key = Some(name);
                }
                (None, _) => return Err(at("a key must be text")),
                (Some(name), value) => {
                    map.insert(name, value);
                }
            },
        }
    }
    document.ok_or_else(|| "the file is empty".to_owned())
}

enum Open {
    Mapping(Map<String, Value>, Option<String>),
    Sequence(Vec<Value>),
}

impl Open {
    fn close(self) -> Value {
        match self {
            Self::Mapping(map, _) => Value::Object(map),
            Self::Sequence(list) => Value::Array(list),
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::from(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => {
            let whole = text.parse::<i64>().ok().map(Number::from);
            let looks = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
            whole
                .or_else(|| text.parse().ok().filter(|_| looks).and_then(Number::from_f64))
                .map_or_else(|| Value::from(text), Value::Number)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_is_read_as_its_json() {
        let text = "# services\nservices:\n  - name: orders\n    grpc: {host: localhost, port: 7000}\n    on: true\n    \
                    keys:\n      - a\n      - \"1\"\n    rate: 1.5\n    none: ~\n    text: |\n      two\n      lines\n";
        assert_eq!(
            parse(text).unwrap(),
            json!({"services": [{
                "name": "orders", "grpc": {"host": "localhost", "port": 7000}, "on": true, "keys": ["a", "1"],
                "rate": 1.5, "none": null, "text": "two\nlines\n",
            }]})
        );
    }

    #[test]
    fn mistakes_have_their_line() {
        for (text, part) in [
            ("a: 1\na: 2", "line 2"),
            ("", "empty"),
            ("a: [", ""),
            ("a: &x 1\nb: *x", "line 2: aliases"),
            ("? [a]\n: 1", "key must be text"),
            ("a: 1\n---\nb: 2", "one document"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        let deep = "[".repeat(100);
        assert!(parse(&deep).is_err());
    }
}
