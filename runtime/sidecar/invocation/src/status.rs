//! Codes: HTTP status ↔ gRPC code, and the error of one invocation (upstream `pkg/messaging/v1/util.go`).

use std::{collections::HashMap, fmt};

use http::StatusCode;
use outrigger_sidecar_resilience::{Code as PolicyCode, Retry, Retryable};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The longest value that `ErrorInfo` metadata takes.
const MAX_DETAIL: usize = 63;

/// The HTTP status of a gRPC code (grpc-gateway's table).
#[must_use]
pub fn http_from_grpc(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        // Not 412, deliberately: the preconditions meant are not those of HTTP.
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The gRPC code of an HTTP status (gRPC's table, with Dapr's differences).
#[must_use]
pub fn grpc_from_http(status: u16) -> Code {
    match status {
        200..300 => Code::Ok,
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        408 => Code::Cancelled,
        409 => Code::AlreadyExists,
        429 => Code::ResourceExhausted,
        501 => Code::Unimplemented,
        503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => Code::Unknown,
    }
}

/// The gRPC status that an app's HTTP answer becomes for a gRPC caller; `None` for a success. `body` goes, cut, into
/// the details.
#[must_use]
pub fn status_from_http(status: u16, body: &[u8]) -> Option<Status> {
    let code = grpc_from_http(status);
    if code == Code::Ok {
        return None;
    }
    let reason = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("");
    let cut = &body[..body.len().min(MAX_DETAIL)];
    let metadata = HashMap::from([
        ("http.code".to_owned(), status.to_string()),
        (
            "http.error_message".to_owned(),
            String::from_utf8_lossy(cut).into_owned(),
        ),
    ]);
    let info = tonic_types::ErrorInfo::new(reason, "dapr.io", metadata);
    Some(Status::with_error_details_vec(code, reason, vec![info.into()]))
}

/// Why an invocation came to no answer of the app.
#[derive(Debug, Clone)]
pub struct InvokeError {
    /// The gRPC code, where the failure has one.
    code: Option<Code>,
    message: String,
    /// What goes before the text, as upstream wraps errors.
    prefix: Option<String>,
    /// Whether another attempt cannot help or cannot be made.
    permanent: bool,
    /// Whether the peer did nothing with the request.
    unsent: bool,
}

impl InvokeError {
    /// A failure that is a gRPC status.
    pub(crate) fn status(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: Some(code),
            message: message.into(),
            prefix: None,
            permanent: false,
            unsent: false,
        }
    }

    /// A failure without a code.
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self {
            code: None,
            message: message.into(),
            prefix: None,
            permanent: false,
            unsent: false,
        }
    }

    /// No connection.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::status(Code::Unavailable, message)
    }

    /// The same, of a request that the peer did nothing with.
    pub(crate) fn unsent(mut self) -> Self {
        self.unsent = true;
        self
    }

    /// Whether the peer did nothing with the request: another one may be asked at once.
    pub(crate) fn is_unsent(&self) -> bool {
        self.unsent
    }

    /// The same, not to be tried again.
    pub(crate) fn permanent(mut self) -> Self {
        self.permanent = true;
        self
    }

    /// The same, as far as a further policy is concerned.
    pub(crate) fn undecided(mut self) -> Self {
        self.permanent = false;
        self
    }

    /// The same, wrapped by another text.
    pub(crate) fn wrapped(mut self, prefix: String) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// The gRPC code; `Unknown` where the failure has none.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code.unwrap_or(Code::Unknown)
    }

    /// Whether the built-in service retries try again: a lost or refused connection.
    pub(crate) fn is_connection_failure(&self) -> bool {
        matches!(self.code, Some(Code::Unavailable | Code::Unauthenticated))
    }

    /// As the status of a gRPC answer.
    pub(crate) fn to_status(&self) -> Status {
        let message = match &self.prefix {
            Some(_) => self.to_string(),
            None => self.message.clone(),
        };
        Status::new(self.code(), message)
    }
}

impl fmt::Display for InvokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(prefix) = &self.prefix {
            f.write_str(prefix)?;
        }
        match self.code {
            Some(code) => write!(
                f,
                "rpc error: code = {} desc = {}",
                outrigger_types::grpc_code_name(code.into()),
                self.message
            ),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for InvokeError {}

impl From<Status> for InvokeError {
    fn from(status: Status) -> Self {
        Self::status(status.code(), status.message())
    }
}

impl Retryable for InvokeError {
    fn verdict(&self) -> Retry {
        if self.permanent {
            Retry::Permanent
        } else {
            match self.code {
                Some(code) => Retry::Code(PolicyCode::Grpc(code as i32)),
                None => Retry::Transient,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_map_both_ways_as_upstream() {
        for (status, code) in [
            (204, Code::Ok),
            (302, Code::Unknown),
            (400, Code::Internal),
            (404, Code::NotFound),
            (409, Code::AlreadyExists),
            (500, Code::Unknown),
            (502, Code::Unknown),
            (503, Code::Unavailable),
        ] {
            assert_eq!(grpc_from_http(status), code, "{status}");
        }
        assert_eq!(http_from_grpc(Code::FailedPrecondition).as_u16(), 400);
        assert_eq!(http_from_grpc(Code::Cancelled).as_u16(), 408);
        assert!(status_from_http(201, b"").is_none());
    }

    #[test]
    fn details_carry_the_cut_body() {
        let status = status_from_http(404, &[b'x'; 100]).unwrap();
        assert_eq!(status.message(), "Not Found");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata["http.error_message"].len(), MAX_DETAIL);
        assert_eq!(info.metadata["http.code"], "404");
    }

    #[test]
    fn errors_print_as_go_prints_them() {
        let error = InvokeError::status(Code::Internal, "oh");
        assert_eq!(error.to_string(), "rpc error: code = Internal desc = oh");
        let error = InvokeError::unavailable("x")
            .wrapped("failed to invoke target a after 3 retries. Error: ".into());
        assert_eq!(
            error.to_string(),
            "failed to invoke target a after 3 retries. Error: rpc error: code = Unavailable desc = x"
        );
        assert_eq!(InvokeError::plain("y").to_string(), "y");
    }
}
