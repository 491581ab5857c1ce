//! From a JSON document to named secrets.

use std::collections::BTreeMap;

use outrigger_component::SecretString;
use outrigger_secrets::Secret;
use serde_json::{Map, Value};

use super::FileConfig;

/// All secrets of a document.
///
/// Single-valued: every leaf is a secret, its name the path joined by the separator (array positions count as
/// names). Multi-valued: a top-level text is a secret of one key, a top-level object a secret whose keys are its
/// leaves; other top-level values are no secrets.
pub(super) fn secrets(document: &Map<String, Value>, config: &FileConfig) -> BTreeMap<String, Secret> {
    if !config.multi_valued {
        return leaves(document, &config.nested_separator)
            .into_iter()
            .map(|(name, value)| (name.clone(), Secret::from([(name, value)])))
            .collect();
    }
    document
        .iter()
        .filter_map(|(name, value)| match value {
            Value::String(text) => Some((
                name.clone(),
                Secret::from([(name.clone(), SecretString::from(text.as_str()))]),
            )),
            Value::Object(object) => Some((name.clone(), leaves(object, &config.nested_separator))),
            _ => None,
        })
        .collect()
}

fn leaves(object: &Map<String, Value>, separator: &str) -> Secret {
    let mut found = Secret::new();
    for (name, value) in object {
        visit(name, value, separator, &mut found);
    }
    found
}

/// Depth is bounded by `serde_json`'s own recursion limit. Where two paths spell the same name, the first in the
/// order of names stays. Numbers and switches appear as JSON writes them: upstream formats them with a text verb,
/// and nobody can mean the `%!s(float64=1)` which that yields.
fn visit(path: &str, value: &Value, separator: &str, found: &mut Secret) {
    let text = match value {
        Value::Object(object) => {
            for (name, value) in object {
                visit(&format!("{path}{separator}{name}"), value, separator, found);
            }
            return;
        }
        Value::Array(items) => {
            for (position, value) in items.iter().enumerate() {
                visit(&format!("{path}{separator}{position}"), value, separator, found);
            }
            return;
        }
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    found
        .entry(path.to_owned())
        .or_insert_with(|| SecretString::from(text));
}
