//! Answers: one shape of errors for all services.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use outrigger_kit::Error;
use serde_json::{Value, json};

/// An error answer: `{"error":{"code","message"}, …}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// The present state of what the caller wanted to change.
    current: Option<Value>,
}

impl Refusal {
    /// A refusal with a stable code and words for a person.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            current: None,
        }
    }

    /// Tells what is there instead of what the caller expected.
    #[must_use]
    pub fn with_current(mut self, current: Value) -> Self {
        self.current = Some(current);
        self
    }

    /// What goes wrong with a request that makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID", message)
    }

    /// What does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    /// What may work in a moment.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message)
    }
}

/// A sidecar, an app or a store that is away is 503 with a hint when to come back (N5); nothing was lost.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        // A sidecar that has just started again has no components yet.
        let starting = matches!(&error, Error::Status { code, .. } if code.ends_with("_NOT_CONFIGURED"));
        if starting || error.is_retryable() || matches!(error, Error::Conflict { .. }) {
            tracing::warn!(%error, "answering that the service is unavailable");
            return Self::unavailable(match error {
                Error::AppUnavailable { app_id, .. } => format!("the {app_id} service cannot be reached"),
                Error::OutboxFull(_) => "too many events wait to be sent".to_owned(),
                Error::Conflict { .. } => "too many changes at once".to_owned(),
                _ => "the sidecar cannot be reached".to_owned(),
            });
        }
        tracing::error!(%error, "answering an internal error");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({"error": {"code": self.code, "message": self.message}});
        if let Some(current) = self.current {
            body["current"] = current;
        }
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
