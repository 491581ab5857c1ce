//! What a handler says about a message (A2.3).

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// The answer to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// Done; the message is not seen again.
    Success,
    /// Deliver it again.
    Retry,
    /// It will never work; do not deliver it again.
    Drop,
}

impl From<()> for Ack {
    fn from((): ()) -> Self {
        Self::Success
    }
}

/// An error asks for another delivery; it is logged here, as the sidecar does not see it.
impl<E: std::fmt::Display> From<Result<(), E>> for Ack {
    fn from(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::Success,
            Err(error) => {
                tracing::warn!(%error, "a handler failed; asking for another delivery");
                Self::Retry
            }
        }
    }
}

impl IntoResponse for Ack {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Success => "SUCCESS",
            Self::Retry => "RETRY",
            Self::Drop => "DROP",
        };
        Json(json!({"status": status})).into_response()
    }
}
