//! Encoded answers as HTTP.

use axum::body::Body as HttpBody;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderValue, StatusCode, header};
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, SerializeOptions, Value};
use serde_json::json;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::metadata;
use crate::request::HTTP_BODY;
use crate::rule::Rule;
use crate::status::{error_response, status_json};
use crate::upstream::Messages;

/// How the messages of a stream stand in one HTTP body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A JSON array; the default, as google's servers answer.
    Array,
    /// A line each, `application/x-ndjson`.
    Lines,
    /// Server-sent events, `text/event-stream`, which browsers read by themselves.
    Events,
}

impl Format {
    /// The first of a request's accepted types that is one of ours.
    pub(crate) fn of(accept: Option<&HeaderValue>) -> Self {
        let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
        accept
            .split(',')
            .filter_map(|kind| match kind.split(';').next().unwrap_or_default().trim() {
                "application/json" => Some(Self::Array),
                "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Self::Lines),
                "text/event-stream" => Some(Self::Events),
                _ => None,
            })
            .next()
            .unwrap_or(Self::Array)
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Array => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }

    fn open(self) -> &'static str {
        if self == Self::Array { "[" } else { "" }
    }

    fn item(self, first: bool, json: &str) -> String {
        match self {
            Self::Array if first => json.to_owned(),
            Self::Array => format!(",{json}"),
            Self::Lines => format!("{json}\n"),
            Self::Events => format!("data: {json}\n\n"),
        }
    }

    fn close(self) -> &'static str {
        if self == Self::Array { "]" } else { "" }
    }
}

/// The answer of a unary call.
pub(crate) fn unary(rule: &Rule, pool: &DescriptorPool, metadata: MetadataMap, message: &Bytes) -> Response {
    let mut response = match body(rule, message) {
        Ok(Answer::Json(json)) => {
            let json_type = HeaderValue::from_static("application/json");
            (StatusCode::OK, [(header::CONTENT_TYPE, json_type)], json).into_response()
        }
        Ok(Answer::Raw(content_type, data)) => {
            let content_type = HeaderValue::from_str(&content_type)
                .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
            (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], data).into_response()
        }
        Err(status) => return error_response(pool, &status),
    };
    response.headers_mut().extend(metadata::response(metadata));
    response
}

/// The answer of a server stream. An error on the way is the last item, `{"error":{"code":…}}`: the HTTP status has
/// been sent by then.
pub(crate) fn stream(
    rule: Rule,
    pool: DescriptorPool,
    format: Format,
    metadata: MetadataMap,
    messages: Messages,
) -> Response {
    let mut first = true;
    let mut failed = false;
    let items = messages.map(move |message| {
        let json = match message.and_then(|message| body(&rule, &message)) {
            Ok(Answer::Json(json)) => json,
            Ok(Answer::Raw(_, data)) => String::from_utf8_lossy(&data).into_owned(),
            Err(status) => {
                failed = true;
                json!({"error": status_json(&pool, &status)}).to_string()
            }
        };
        let item = format.item(std::mem::take(&mut first), &json);
        (failed, item)
    });
    // Up to the first error, that one included.
    let items = items.scan(false, |over, (failed, item)| {
        let go_on = !std::mem::replace(over, failed);
        futures::future::ready(go_on.then_some(item))
    });
    let whole = futures::stream::once(async move { format.open().to_owned() })
        .chain(items)
        .chain(futures::stream::once(async move { format.close().to_owned() }))
        .filter(|text| futures::future::ready(!text.is_empty()))
        .map(Ok::<_, std::convert::Infallible>);
    let kind = HeaderValue::from_static(format.content_type());
    let mut response = (
        StatusCode::OK,
        [(header::CONTENT_TYPE, kind)],
        HttpBody::from_stream(whole),
    )
        .into_response();
    response.headers_mut().extend(metadata::response(metadata));
    response
}

enum Answer {
    Json(String),
    Raw(String, Bytes),
}

fn body(rule: &Rule, message: &Bytes) -> Result<Answer, Status> {
    let message = DynamicMessage::decode(rule.method.output(), message.clone()).map_err(|error| {
        Status::internal(format!(
            "the answer is no {}: {error}",
            rule.method.output().full_name()
        ))
    })?;
    let Some(field) = &rule.response_body else {
        return match raw(&message) {
            Some((content_type, data)) => Ok(Answer::Raw(content_type, data)),
            None => to_json(&message).map(Answer::Json),
        };
    };
    if let Some((content_type, data)) = message.get_field(field).as_message().and_then(raw) {
        return Ok(Answer::Raw(content_type, data));
    }
    let mut json: serde_json::Value =
        serde_json::from_str(&to_json(&message)?).map_err(|error| Status::internal(error.to_string()))?;
    let value = json.get_mut(field.json_name()).map(serde_json::Value::take);
    Ok(Answer::Json(value.unwrap_or_default().to_string()))
}

fn raw(message: &DynamicMessage) -> Option<(String, Bytes)> {
    if message.descriptor().full_name() != HTTP_BODY {
        return None;
    }
    let content_type = message.get_field_by_name("content_type")?.as_str()?.to_owned();
    let data = message
        .get_field_by_name("data")
        .as_deref()
        .and_then(Value::as_bytes)?
        .clone();
    Some((content_type, data))
}

/// A message's proto3 JSON: lowerCamelCase names, 64-bit integers as text, enums by name. Fields at their default
/// are written, so that a client need not know which may be missing; those with presence are not.
pub fn to_json(message: &DynamicMessage) -> Result<String, Status> {
    let mut text = Vec::new();
    let mut writer = serde_json::Serializer::new(&mut text);
    message
        .serialize_with_options(&mut writer, &SerializeOptions::new().skip_default_fields(false))
        .map_err(|error| Status::internal(format!("the answer has no JSON: {error}")))?;
    String::from_utf8(text).map_err(|error| Status::internal(error.to_string()))
}
