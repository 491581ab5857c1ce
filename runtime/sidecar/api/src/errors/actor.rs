//! Rows of the actor API that carry texts of their own (upstream `pkg/messages/predefined.go`).

use std::fmt::Display;

use http::StatusCode;
use tonic::Code;

use crate::{ApiError, Category};

/// An actor type that belongs to the workflow runtime.
#[must_use]
pub fn type_reserved(actor_type: &str) -> ApiError {
    ApiError::new(
        "ERR_ACTOR_TYPE_RESERVED",
        Category::Actor,
        StatusCode::FORBIDDEN,
        Code::PermissionDenied,
        format!(
            "actor type {actor_type:?} is reserved for the Dapr workflow runtime; direct actor API access is not permitted"
        ),
    )
}

/// The actor runtime has ended.
#[must_use]
pub fn runtime_closed() -> ApiError {
    ApiError::new(
        "ERR_ACTOR_RUNTIME_CLOSED",
        Category::Actor,
        StatusCode::SERVICE_UNAVAILABLE,
        Code::Unavailable,
        "actor runtime is closed",
    )
}

/// An actor's method failed.
#[must_use]
pub fn invoke_failed(cause: impl Display) -> ApiError {
    ApiError::new(
        "ERR_ACTOR_INVOKE_METHOD",
        Category::Actor,
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::Internal,
        format!("error invoke actor method: {cause}"),
    )
}
