//! The documents of the HTTP surface, and how upstream's types of them are named in errors.

use outrigger_component::Metadata;
use outrigger_engine_dispatch::go_json::Shape;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

use crate::go_value;

const OPTIONS: Shape = Shape::Struct(
    "state.SetStateOption",
    &[("concurrency", &Shape::Text), ("consistency", &Shape::Text)],
);
const ITEM: Shape = Shape::Struct(
    "state.SetRequest",
    &[
        ("key", &Shape::Text),
        ("value", &Shape::Any),
        ("etag", &Shape::Text),
        ("metadata", &Shape::TEXTS),
        ("options", &OPTIONS),
    ],
);
/// A save request.
pub(super) const ITEMS: Shape = Shape::List("[]state.SetRequest", &ITEM);
/// See [`BulkGet`].
pub(super) const BULK_GET: Shape = Shape::Struct(
    "http.BulkGetRequest",
    &[
        ("metadata", &Shape::TEXTS),
        ("keys", &Shape::List("[]string", &Shape::Text)),
        ("parallelism", &Shape::Int),
    ],
);
/// See [`Transaction`].
pub(super) const TRANSACTION: Shape = Shape::Struct(
    "http.stateTransactionRequestBody",
    &[
        (
            "operations",
            &Shape::List(
                "[]http.stateTransactionRequestBodyOperation",
                &Shape::Struct(
                    "http.stateTransactionRequestBodyOperation",
                    &[("operation", &Shape::Text), ("request", &Shape::Any)],
                ),
            ),
        ),
        ("metadata", &Shape::TEXTS),
    ],
);

fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// An item of a save request or the request of an upsert.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct SetRequest {
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) key: String,
    pub(super) value: Box<RawValue>,
    pub(super) etag: Option<String>,
    pub(super) metadata: Option<Metadata>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) options: SetOptions,
}

impl Default for SetRequest {
    fn default() -> Self {
        Self {
            key: String::new(),
            value: RawValue::NULL.to_owned(),
            etag: None,
            metadata: None,
            options: SetOptions::default(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SetOptions {
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) concurrency: String,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) consistency: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BulkGet {
    pub(super) keys: Option<Vec<String>>,
    pub(super) metadata: Option<Metadata>,
    /// How many reads at once; ours has no such limit, but it must be a number.
    #[serde(rename = "parallelism")]
    _parallelism: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Transaction {
    pub(super) operations: Option<Vec<Option<TransactionOperation>>>,
    pub(super) metadata: Option<Metadata>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TransactionOperation {
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) operation: String,
    /// See [`request`].
    pub(super) request: Option<Box<RawValue>>,
}

/// The request of a transaction's operation. Upstream reads it in a second step, whose complaints are worded otherwise
/// (`mapstructure`).
///
/// # Errors
/// The text of what is wrong.
pub(super) fn request(raw: Option<&RawValue>) -> Result<SetRequest, String> {
    let Some(text) = raw.map(RawValue::get).filter(|text| *text != "null") else {
        return Ok(SetRequest::default());
    };
    let fault = match serde_json::from_str(text) {
        // serde takes an array for a struct.
        Ok(request) if text.starts_with('{') => return Ok(request),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(members) = &value else {
        return Err(format!("'' expected a map, got '{}'", kind(&value)));
    };
    let mut faults = Vec::new();
    for (name, member) in members {
        let field = match name.to_ascii_lowercase().as_str() {
            "key" => "Key",
            "etag" => "ETag",
            _ => continue,
        };
        if !matches!(member, Value::String(_) | Value::Null) {
            faults.push(format!(
                "* '{field}' expected type 'string', got unconvertible type '{}', value: '{}'",
                type_name(member),
                go_value::format(member)
            ));
        }
    }
    if faults.is_empty() {
        return Err(fault.map(|error| error.to_string()).unwrap_or_default());
    }
    faults.sort();
    Err(format!(
        "{} error(s) decoding:\n\n{}",
        faults.len(),
        faults.join("\n")
    ))
}

/// Go's kind of a value that was decoded without a type.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
        other => type_name(other),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts as measured beside daprd 1.18.2.
    #[test]
    fn requests_of_operations_are_refused_in_words_of_their_own() {
        let text = |json: &str| {
            let raw = RawValue::from_string(json.to_owned()).unwrap();
            request(Some(&raw)).map(|request| request.key)
        };
        assert_eq!(text("null"), Ok(String::new()));
        assert_eq!(text(r#"{"key":null,"options":null}"#), Ok(String::new()));
        assert_eq!(text(r#"{"key":"a"}"#), Ok("a".to_owned()));
        assert_eq!(text("[]"), Err("'' expected a map, got 'slice'".to_owned()));
        assert_eq!(text("5"), Err("'' expected a map, got 'float64'".to_owned()));
        assert_eq!(
            text(r#"{"key":5}"#),
            Err("1 error(s) decoding:\n\n* 'Key' expected type 'string', got unconvertible type 'float64', value: '5'".to_owned())
        );
    }
}
