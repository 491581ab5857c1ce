//! Events as the sidecar sends them over gRPC: attributes as fields, put together again.

use base64::Engine as _;
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// The attributes that gRPC sends as fields, put together again.
pub(crate) struct Parts {
    pub(crate) id: String,
    pub(crate) source: String,
    pub(crate) kind: String,
    pub(crate) content_type: String,
    pub(crate) data: Bytes,
    pub(crate) extensions: Option<prost_types::Struct>,
}

/// The event as its JSON form.
pub(crate) fn event(parts: Parts, pubsub: &str, topic: &str) -> Map<String, Value> {
    let mut event = Map::new();
    if let Some(extensions) = parts.extensions {
        event.extend(
            extensions
                .fields
                .into_iter()
                .map(|(key, value)| (key, plain(value))),
        );
    }
    let essence = parts.content_type.split(';').next().unwrap_or_default().trim();
    let is_json = essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json");
    let decoded = is_json
        .then(|| serde_json::from_slice::<Value>(&parts.data).ok())
        .flatten();
    match (decoded, std::str::from_utf8(&parts.data)) {
        (Some(value), _) => event.insert("data".to_owned(), value),
        (None, Ok(text)) if !is_json => event.insert("data".to_owned(), Value::from(text)),
        _ => event.insert(
            "data_base64".to_owned(),
            Value::from(base64::engine::general_purpose::STANDARD.encode(&parts.data)),
        ),
    };
    for (name, value) in [
        ("specversion", "1.0"),
        ("id", &parts.id),
        ("source", &parts.source),
        ("type", &parts.kind),
        ("datacontenttype", &parts.content_type),
        ("topic", topic),
        ("pubsubname", pubsub),
    ] {
        event.insert(name.to_owned(), Value::from(value));
    }
    event
}

fn plain(value: prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => json!(value),
        Some(Kind::NumberValue(value)) => json!(value),
        Some(Kind::StringValue(value)) => json!(value),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(plain).collect()),
        Some(Kind::StructValue(map)) => Value::Object(
            map.fields
                .into_iter()
                .map(|(key, value)| (key, plain(value)))
                .collect(),
        ),
    }
}
