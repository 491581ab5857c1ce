//! JSON as CEL values.

use std::collections::HashMap;

use cel::Value;

/// Maps JSON the way cel-go sees what `encoding/json` decoded into `any`: every number is a double.
pub(crate) fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(value) => Value::Float(value.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(value) => Value::from(value.as_str()),
        serde_json::Value::Array(items) => Value::from(items.iter().map(from_json).collect::<Vec<_>>()),
        serde_json::Value::Object(map) => Value::from(
            map.iter()
                .map(|(key, value)| (key.as_str(), from_json(value)))
                .collect::<HashMap<_, _>>(),
        ),
    }
}
