//! What can go wrong when talking to a sidecar.

use std::time::Duration;

use http::StatusCode;

/// An error of the client, typed by what the caller can do about it (E1.5, E1.6).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The sidecar could not be reached: it is not there, or it went away before it answered.
    #[error("the sidecar at {endpoint} is unavailable")]
    SidecarUnavailable {
        /// Where it was looked for.
        endpoint: String,
        /// Whether the request may have reached it; then only an idempotent request is safe to repeat.
        reached: bool,
        /// What the connection said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The sidecar did not answer in time.
    #[error("the sidecar did not answer within {0:?}")]
    Timeout(Duration),
    /// The sidecar is there but could not reach the app, or the app's sidecar.
    #[error("app {app_id} is unavailable: {message}")]
    AppUnavailable {
        /// The app called.
        app_id: String,
        /// The sidecar's words.
        message: String,
    },
    /// What was named does not exist: a store, a pub/sub component, a binding.
    #[error("not found ({code}): {message}")]
    NotFound {
        /// Dapr's error code, such as `ERR_STATE_STORE_NOT_FOUND`.
        code: String,
        /// The sidecar's words.
        message: String,
    },
    /// Somebody else wrote first: the etag is no longer that of the stored value (A3.8).
    #[error("conflict: {message}")]
    Conflict {
        /// The sidecar's words.
        message: String,
    },
    /// The secret store has no such secret.
    #[error("secret {name:?} not found in {store:?}")]
    SecretNotFound {
        /// The store asked.
        store: String,
        /// The secret asked for.
        name: String,
    },
    /// Another answer of the sidecar than success.
    #[error("the sidecar answered {status} ({code}): {message}")]
    Status {
        /// The HTTP status.
        status: StatusCode,
        /// Dapr's error code, empty if the answer had none.
        code: String,
        /// The sidecar's words.
        message: String,
    },
    /// A body could not be written or read as JSON.
    #[error("{what} is not the expected JSON")]
    Json {
        /// Which body.
        what: &'static str,
        /// The parser's words.
        #[source]
        source: serde_json::Error,
    },
    /// The answer is longer than the client accepts.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The outbox holds as many unsent events as it may (see [`crate::outbox`]).
    #[error("the outbox is full: {0} events wait to be sent")]
    OutboxFull(usize),
    /// Too many calls of the dependency failed lately; nothing was sent (E1.7).
    #[error("{dependency} is left alone after too many failures; try again in {retry_after:?}")]
    CircuitOpen {
        /// `dapr` for the sidecar, `app <id>` for an app.
        dependency: String,
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// The request cannot be made from what was passed.
    #[error("invalid request: {0}")]
    Invalid(String),
}

impl Error {
    /// Whether the same request may succeed later. True for what is transient: no sidecar, no app, time-outs,
    /// overload, gateway errors. A [`Conflict`](Self::Conflict) is not: read again first.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::SidecarUnavailable { .. }
            | Self::Timeout(_)
            | Self::AppUnavailable { .. }
            | Self::CircuitOpen { .. }
            | Self::OutboxFull(_) => true,
            Self::Status { status, .. } => transient(*status),
            _ => false,
        }
    }

    /// Whether it speaks against the health of what was called, and so counts for its circuit breaker.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Self::SidecarUnavailable { .. } | Self::Timeout(_) | Self::AppUnavailable { .. } => true,
            Self::Status { status, .. } => transient(*status),
            _ => false,
        }
    }

    /// Whether the request is known not to have been carried out, so that even one that is not idempotent may be
    /// repeated.
    pub fn never_sent(&self) -> bool {
        match self {
            Self::SidecarUnavailable { reached, .. } => !reached,
            Self::CircuitOpen { .. } => true,
            Self::Status { status, .. } => *status == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }

    /// The HTTP status that a service should answer its own caller with.
    pub fn status(&self) -> StatusCode {
        match self {
            _ if self.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound { .. } | Self::SecretNotFound { .. } => StatusCode::NOT_FOUND,
            Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Reads an error answer of the sidecar: `{"errorCode":…,"message":…}`, or plain text.
    pub(crate) fn from_answer(status: StatusCode, body: &[u8]) -> Self {
        let (code, message) = match serde_json::from_slice::<ErrorBody>(body) {
            Ok(body) => (body.error_code, body.message),
            Err(_) => (
                String::new(),
                String::from_utf8_lossy(&body[..body.len().min(MAX_MESSAGE)]).into_owned(),
            ),
        };
        // A transaction answers 500 for every cause, etag errors too (dapr pkg/api/http/http.go,
        // onPostStateTransaction); the words come from components-contrib state/errors.go.
        let lost_race = code == "ERR_STATE_TRANSACTION" && message.contains("etag mismatch");
        if status == StatusCode::CONFLICT || lost_race {
            return Self::Conflict { message };
        }
        if code.ends_with("_NOT_FOUND") {
            return Self::NotFound { code, message };
        }
        Self::Status {
            status,
            code,
            message,
        }
    }
}

/// How much of a plain-text error answer is kept.
const MAX_MESSAGE: usize = 1024;

#[derive(serde::Deserialize)]
pub(crate) struct ErrorBody {
    #[serde(rename = "errorCode")]
    pub(crate) error_code: String,
    #[serde(default)]
    pub(crate) message: String,
}

fn transient(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Error {
        Error::from_answer(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn a_lost_race_is_a_conflict_in_both_spellings() {
        let saved = answer(
            409,
            r#"{"errorCode":"ERR_STATE_SAVE","message":"possible etag mismatch"}"#,
        );
        assert!(matches!(saved, Error::Conflict { .. }));
        let transacted = answer(
            500,
            r#"{"errorCode":"ERR_STATE_TRANSACTION","message":"error while executing state transaction: possible etag mismatch. error from state store"}"#,
        );
        assert!(matches!(transacted, Error::Conflict { .. }) && !transacted.is_retryable());
    }

    #[test]
    fn other_answers_keep_status_and_code() {
        let missing = answer(400, r#"{"errorCode":"ERR_STATE_STORE_NOT_FOUND","message":"no"}"#);
        assert!(matches!(missing, Error::NotFound { .. }));
        let busy = answer(503, "busy");
        assert!(
            busy.is_retryable()
                && matches!(&busy, Error::Status { code, message, .. } if code.is_empty() && message == "busy")
        );
        assert!(!answer(500, r#"{"errorCode":"ERR_X","message":"no"}"#).is_retryable());
    }
}
