//! From protobuf's dynamic values to ours.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use outrigger_wire::json;
use prost_types::{Any, Struct};
use serde_json::Value;

/// Model parameters. Wrapped values (`Int64Value`, `StringValue`, …) lose their wrapping; what nobody can decode is
/// left out.
pub(super) fn parameters(parameters: &HashMap<String, Any>) -> BTreeMap<String, Value> {
    parameters
        .iter()
        .filter_map(|(name, any)| Some((name.clone(), parameter(name, any)?)))
        .collect()
}

fn parameter(name: &str, any: &Any) -> Option<Value> {
    match json::to_json("google.protobuf.Any", any) {
        Ok(Value::Object(mut fields)) => {
            let type_url = fields.remove("@type");
            let wrapped = type_url
                .as_ref()
                .and_then(Value::as_str)
                .is_some_and(|url| url.contains("google.protobuf."));
            match fields.remove("value") {
                Some(value) if wrapped && fields.is_empty() => Some(number(type_url.as_ref(), value)),
                Some(value) => {
                    fields.insert("value".to_owned(), value);
                    Some(Value::Object(fields))
                }
                None => Some(Value::Object(fields)),
            }
        }
        Ok(value) => Some(value),
        Err(error) => {
            tracing::debug!(target: "dapr.runtime", "conversation parameter {name} is left out: {error}");
            None
        }
    }
}

/// protojson writes 64-bit integers as text; models want numbers.
fn number(type_url: Option<&Value>, value: Value) -> Value {
    let integer = type_url
        .and_then(Value::as_str)
        .is_some_and(|url| url.ends_with("Int64Value") || url.ends_with("UInt64Value"));
    match &value {
        Value::String(text) if integer => text
            .parse::<i64>()
            .map(Value::from)
            .or_else(|_| text.parse::<u64>().map(Value::from))
            .unwrap_or(value),
        _ => value,
    }
}

/// A JSON object.
pub(super) fn object(document: &Struct) -> Option<Value> {
    json::to_json("google.protobuf.Struct", document).ok()
}

/// A span of time; `None` when it is negative or out of range.
pub(super) fn duration(duration: prost_types::Duration) -> Option<Duration> {
    Duration::try_from(duration).ok()
}
