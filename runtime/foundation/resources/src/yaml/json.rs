//! Trees to JSON and back, with Go's spelling of numbers and texts.

use serde_json::{Map, Number, Value};

use super::{Content, Entry, Mapping, Mark, Mode, Node, Scalar, YamlError};
use crate::go;

/// The tree as JSON.
///
/// # Errors
/// In [`Mode::GoYamlV2`] for numbers JSON cannot say, whose text [`Mode::YamlV3`] keeps; there for equal keys.
pub fn to_json(node: &Node, mode: Mode) -> Result<Value, YamlError> {
    Ok(match &node.content {
        Content::Scalar { value, text } => match value {
            Scalar::Null => Value::Null,
            Scalar::Bool(value) => Value::Bool(*value),
            Scalar::Int(value) => Value::from(*value),
            Scalar::Uint(value) => Value::from(*value),
            Scalar::Float(value) => match Number::from_f64(*value) {
                Some(number) => Value::Number(number),
                None if mode == Mode::YamlV3 => Value::String(text.clone()),
                None => {
                    let message = format!("json: unsupported value: {}", go::format_float_g(*value));
                    return Err(YamlError { at: node.at, message });
                }
            },
            Scalar::String => Value::String(text.clone()),
        },
        Content::Sequence(items) => Value::Array(
            items
                .iter()
                .map(|item| to_json(item, mode))
                .collect::<Result<_, _>>()?,
        ),
        Content::Mapping(mapping) => {
            if mode == Mode::YamlV3
                && let Some((key, first, later)) = mapping.duplicates.first()
            {
                let message = format!(
                    "mapping key {} already defined at line {}",
                    go::quote(key),
                    first.line
                );
                return Err(YamlError { at: *later, message });
            }
            let mut map = Map::new();
            for entry in &mapping.entries {
                map.insert(entry.key.clone(), to_json(&entry.value, mode)?);
            }
            Value::Object(map)
        }
    })
}

/// JSON text as Go's `json.Marshal` writes it: keys sorted, `<`, `>` and `&` escaped, whole floats without a point.
///
/// Metadata values that are not texts reach components in this form (wire.md §19), so it must match to the byte.
#[must_use]
pub fn json_text(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => out.push_str(&go::format_float_json(float)),
            None => out.push_str(&number.to_string()),
        },
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            // Sorted here too: a feature of serde_json elsewhere in the build may keep insertion order.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            out.push('{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(key, out);
                out.push(':');
                write(item, out);
            }
            out.push('}');
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

pub(super) fn from_json(value: &Value) -> Node {
    let scalar = |value: Scalar, text: String| Content::Scalar { value, text };
    let content = match value {
        Value::Null => scalar(Scalar::Null, "null".to_owned()),
        Value::Bool(value) => scalar(Scalar::Bool(*value), value.to_string()),
        Value::Number(number) => {
            let value_of = if let Some(int) = number.as_i64() {
                Scalar::Int(int)
            } else if let Some(uint) = number.as_u64() {
                Scalar::Uint(uint)
            } else {
                Scalar::Float(number.as_f64().unwrap_or_default())
            };
            scalar(value_of, json_text(value))
        }
        Value::String(text) => scalar(Scalar::String, text.clone()),
        Value::Array(items) => Content::Sequence(items.iter().map(from_json).collect()),
        Value::Object(map) => Content::Mapping(Mapping {
            entries: map
                .iter()
                .map(|(key, value)| Entry {
                    key: key.clone(),
                    at: Mark::default(),
                    value: from_json(value),
                })
                .collect(),
            duplicates: Vec::new(),
        }),
    };
    Node {
        at: Mark::default(),
        content,
    }
}
