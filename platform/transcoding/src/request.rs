//! A request's path, query and body as one encoded message.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};
use serde_json::value::RawValue;
use tonic::Status;

use crate::bind;
use crate::rule::{Body, Rule};
use crate::status::http_status;

/// `google.api.HttpBody`: bytes of any type in place of JSON.
pub(crate) const HTTP_BODY: &str = "google.api.HttpBody";

/// A request that is no message of its method.
pub(crate) struct Refusal {
    pub(crate) status: Status,
    pub(crate) http: StatusCode,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self {
            http: http_status(status.code()),
            status,
        }
    }
}

fn invalid(reason: impl Into<String>) -> Refusal {
    Status::invalid_argument(reason).into()
}

/// Builds and encodes the message: first the body, then the query, then the path, so that a path's variable always
/// wins over a field of the body.
pub(crate) fn message(
    rule: &Rule,
    path: &[(Vec<String>, String)],
    query: &str,
    content_type: Option<&HeaderValue>,
    body: Bytes,
) -> Result<Bytes, Refusal> {
    let mut message = match &rule.body {
        Body::None if !body.is_empty() => {
            return Err(invalid(format!(
                "{} {} takes no body",
                rule.http_method,
                rule.template.openapi()
            )));
        }
        Body::None => DynamicMessage::new(rule.method.input()),
        Body::Whole => whole(rule.method.input(), content_type, body)?,
        Body::Field(field) => one_field(rule.method.input(), field, content_type, body)?,
    };
    if rule.body != Body::Whole {
        let in_body = match &rule.body {
            Body::Field(field) => Some(vec![field.name().to_owned()]),
            Body::None | Body::Whole => None,
        };
        let taken = rule.template.variables().chain(in_body.as_deref());
        bind::query(&mut message, query, taken).map_err(invalid)?;
    } else if !query.is_empty() {
        return Err(invalid("all fields are in the body, none in the query"));
    }
    for (field, text) in path {
        bind::path(&mut message, field, text).map_err(invalid)?;
    }
    Ok(message.encode_to_vec().into())
}

fn whole(
    kind: MessageDescriptor,
    content_type: Option<&HeaderValue>,
    body: Bytes,
) -> Result<DynamicMessage, Refusal> {
    if kind.full_name() == HTTP_BODY {
        return Ok(http_body(kind, content_type, body));
    }
    check_json(content_type, &body)?;
    if body.is_empty() {
        return Ok(DynamicMessage::new(kind));
    }
    from_json(kind, &body).map_err(invalid)
}

/// The body is the JSON of one field, of whatever kind: it is read as a message with that field alone.
fn one_field(
    kind: MessageDescriptor,
    field: &FieldDescriptor,
    content_type: Option<&HeaderValue>,
    body: Bytes,
) -> Result<DynamicMessage, Refusal> {
    if let Kind::Message(inner) = field.kind()
        && inner.full_name() == HTTP_BODY
        && !field.is_list()
    {
        let mut message = DynamicMessage::new(kind);
        message.set_field(field, Value::Message(http_body(inner, content_type, body)));
        return Ok(message);
    }
    check_json(content_type, &body)?;
    if body.is_empty() {
        return Ok(DynamicMessage::new(kind));
    }
    let value: &RawValue =
        serde_json::from_slice(&body).map_err(|error| invalid(format!("the body is no JSON: {error}")))?;
    let object = format!(
        "{{{}:{}}}",
        serde_json::Value::from(field.json_name()),
        value.get()
    );
    from_json(kind, object.as_bytes()).map_err(invalid)
}

/// Reads a message's proto3 JSON. Unknown fields are an error, as is anything after it.
pub fn from_json(kind: MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, String> {
    let name = kind.full_name().to_owned();
    let mut reader = serde_json::Deserializer::from_slice(json);
    let message = DynamicMessage::deserialize(kind, &mut reader)
        .map_err(|error| format!("the JSON is no {name}: {error}"))?;
    reader
        .end()
        .map_err(|error| format!("the JSON of {name} does not end: {error}"))?;
    Ok(message)
}

/// A body that says it is something else is no JSON by accident: a page of another origin can post text and forms
/// without asking first.
fn check_json(content_type: Option<&HeaderValue>, body: &Bytes) -> Result<(), Refusal> {
    let Some(content_type) = content_type.filter(|_| !body.is_empty()) else {
        return Ok(());
    };
    let text = content_type.to_str().unwrap_or_default();
    let kind = text
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if kind == "application/json" || kind.ends_with("+json") {
        return Ok(());
    }
    Err(Refusal {
        status: Status::invalid_argument(format!("the body is {text:?}, not application/json")),
        http: StatusCode::UNSUPPORTED_MEDIA_TYPE,
    })
}

fn http_body(kind: MessageDescriptor, content_type: Option<&HeaderValue>, body: Bytes) -> DynamicMessage {
    let mut message = DynamicMessage::new(kind);
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    for (name, value) in [
        ("content_type", Value::String(content_type.to_owned())),
        ("data", Value::Bytes(body)),
    ] {
        if let Some(field) = message.descriptor().get_field_by_name(name) {
            message.set_field(&field, value);
        }
    }
    message
}
