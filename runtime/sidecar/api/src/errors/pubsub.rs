//! Rows of the pub/sub API; all rich (upstream `pkg/api/errors/pubsub.go`).

use std::{collections::BTreeMap, fmt::Display};

use http::StatusCode;
use tonic::Code;

use crate::{ApiError, Category, Detail};

type Facts = Option<BTreeMap<String, String>>;

fn row(
    code: &'static str,
    reason: &'static str,
    http: StatusCode,
    grpc: Code,
    message: String,
    facts: Facts,
) -> ApiError {
    ApiError::new(code, Category::Pubsub, http, grpc, message).with_detail(Detail::ErrorInfo {
        reason: reason.into(),
        metadata: facts,
    })
}

fn named_row(
    name: impl Display,
    code: &'static str,
    reason: &'static str,
    http: StatusCode,
    grpc: Code,
    message: String,
    facts: Facts,
) -> ApiError {
    ApiError::new(code, Category::Pubsub, http, grpc, message.clone())
        .with_detail(Detail::ResourceInfo {
            resource_type: "pubsub",
            resource_name: name.to_string(),
            owner: String::new(),
            description: message,
        })
        .with_detail(Detail::ErrorInfo {
            reason: reason.into(),
            metadata: facts,
        })
}

fn facts<const N: usize>(pairs: [(&str, String); N]) -> Facts {
    Some(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

fn app_facts(app_id: impl Display, cause: Option<&dyn Display>) -> Facts {
    let mut map = BTreeMap::from([("appID".to_owned(), app_id.to_string())]);
    if let Some(cause) = cause {
        map.insert("error".to_owned(), cause.to_string());
    }
    Some(map)
}

/// No pub/sub component of that name.
#[must_use]
pub fn not_found(name: impl Display, metadata: Facts) -> ApiError {
    row(
        "ERR_PUBSUB_NOT_FOUND",
        "DAPR_PUBSUB_NOT_FOUND",
        StatusCode::NOT_FOUND,
        Code::InvalidArgument,
        format!("pubsub {name} is not found"),
        metadata,
    )
}

/// No pub/sub component at all.
#[must_use]
pub fn not_configured(name: impl Display, metadata: Facts) -> ApiError {
    row(
        "ERR_PUBSUB_NOT_CONFIGURED",
        "DAPR_PUBSUB_NOT_CONFIGURED",
        StatusCode::BAD_REQUEST,
        Code::FailedPrecondition,
        format!("pubsub {name} is not configured"),
        metadata,
    )
}

/// No component named in the request.
#[must_use]
pub fn name_empty(metadata: Facts) -> ApiError {
    named_row(
        "",
        "ERR_PUBSUB_EMPTY",
        "DAPR_PUBSUB_NAME_EMPTY",
        StatusCode::NOT_FOUND,
        Code::InvalidArgument,
        "pubsub name is empty".to_owned(),
        metadata,
    )
}

/// No topic named in the request.
#[must_use]
pub fn topic_empty(name: impl Display, metadata: Facts) -> ApiError {
    let message = format!("topic is empty in pubsub {name}");
    named_row(
        name,
        "ERR_TOPIC_NAME_EMPTY",
        "DAPR_PUBSUB_TOPIC_NAME_EMPTY",
        StatusCode::NOT_FOUND,
        Code::InvalidArgument,
        message,
        metadata,
    )
}

/// Request metadata that cannot be read.
#[must_use]
pub fn metadata_deserialization(name: impl Display, metadata: Facts, cause: impl Display) -> ApiError {
    named_row(
        name,
        "ERR_PUBSUB_REQUEST_METADATA",
        "DAPR_PUBSUB_METADATA_DESERIALIZATION",
        StatusCode::BAD_REQUEST,
        Code::InvalidArgument,
        format!("failed deserializing metadata. Error: {cause}"),
        metadata,
    )
}

/// The envelope cannot be made.
#[must_use]
pub fn cloud_event_creation(name: impl Display, app_id: impl Display, cause: impl Display) -> ApiError {
    named_row(
        name,
        "ERR_PUBSUB_CLOUD_EVENTS_SER",
        "DAPR_PUBSUB_CLOUD_EVENT_CREATION",
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::InvalidArgument,
        "cannot create cloudevent".to_owned(),
        app_facts(app_id, Some(&cause)),
    )
}

/// The envelope cannot be encoded.
#[must_use]
pub fn marshal_envelope(
    name: impl Display,
    topic: impl Display,
    app_id: impl Display,
    cause: impl Display,
) -> ApiError {
    let message =
        format!("error when marshalling cloud event envelope for topic {topic} pubsub {name}: {cause}");
    named_row(
        name,
        "ERR_PUBSUB_EVENTS_SER",
        "DAPR_PUBSUB_MARSHAL_ENVELOPE",
        StatusCode::BAD_REQUEST,
        Code::InvalidArgument,
        message,
        app_facts(app_id, Some(&cause)),
    )
}

/// Bulk events cannot be encoded.
#[must_use]
pub fn marshal_events(
    name: impl Display,
    topic: impl Display,
    app_id: impl Display,
    cause: impl Display,
) -> ApiError {
    let message = format!("error marshaling events to bytes for topic {topic} pubsub {name}. error: {cause}");
    named_row(
        name,
        "ERR_PUBSUB_EVENTS_SER",
        "DAPR_PUBSUB_MARSHAL_EVENTS",
        StatusCode::BAD_REQUEST,
        Code::InvalidArgument,
        message,
        app_facts(app_id, Some(&cause)),
    )
}

/// A bulk request cannot be read.
#[must_use]
pub fn unmarshal_events(
    name: impl Display,
    topic: impl Display,
    metadata: Facts,
    cause: impl Display,
) -> ApiError {
    let message = format!("error when unmarshaling the request for topic {topic} pubsub {name}: {cause}");
    named_row(
        name,
        "ERR_PUBSUB_EVENTS_SER",
        "DAPR_PUBSUB_UNMARSHAL_EVENTS",
        StatusCode::BAD_REQUEST,
        Code::InvalidArgument,
        message,
        metadata,
    )
}

/// The broker refused the message.
#[must_use]
pub fn publish_message(name: impl Display, topic: impl Display, cause: impl Display) -> ApiError {
    let message = format!("error when publishing to topic {topic} in pubsub {name}: {cause}");
    named_row(
        name,
        "ERR_PUBSUB_PUBLISH_MESSAGE",
        "DAPR_PUBSUB_PUBLISH_MESSAGE",
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::Internal,
        message,
        facts([("topic", topic.to_string()), ("error", cause.to_string())]),
    )
}

/// The scopes deny the topic.
#[must_use]
pub fn publish_forbidden(
    name: impl Display,
    topic: impl Display,
    app_id: impl Display,
    cause: impl Display,
) -> ApiError {
    let message = format!("topic {topic} is not allowed for app id {app_id}");
    named_row(
        name,
        "ERR_PUBSUB_FORBIDDEN",
        "DAPR_PUBSUB_FORBIDDEN",
        StatusCode::FORBIDDEN,
        Code::PermissionDenied,
        message,
        facts([("topic", topic.to_string()), ("error", cause.to_string())]),
    )
}

/// The component vanished between look-up and use.
#[must_use]
pub fn vanished(name: impl Display, topic: impl Display, cause: impl Display) -> ApiError {
    let message = format!("pubsub '{name}' not found");
    named_row(
        name,
        "ERR_PUBSUB_NOT_FOUND",
        "DAPR_PUBSUB_TEST_NOT_FOUND",
        StatusCode::BAD_REQUEST,
        Code::NotFound,
        message,
        facts([("topic", topic.to_string()), ("error", cause.to_string())]),
    )
}

/// The outbox could not publish.
#[must_use]
pub fn outbox(app_id: impl Display, cause: impl Display) -> ApiError {
    row(
        "ERR_PUBLISH_OUTBOX",
        "DAPR_PUBSUB_OUTBOX",
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::Internal,
        format!("error while publishing outbox message: {cause}"),
        facts([("appID", app_id.to_string()), ("error", cause.to_string())]),
    )
}
