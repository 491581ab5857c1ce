//! What can come of a call (E2.5): a variant per gRPC status, with the details that services send along.

use std::collections::BTreeMap;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The reason of a refusal because of the contract's version (E2.7).
const VERSION_MISMATCH: &str = "API_VERSION_MISMATCH";

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Options name no address that could be called, or metadata that could not be sent.
    #[error("{what}: {why}")]
    Options {
        /// Which option, with its value unless that may be a secret.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// What was to be sent or was received is no JSON of the expected form.
    #[error("JSON: {0}")]
    Json(String),
    /// No event with the correlation id arrived in time (E2.8).
    #[error("no reply on topic {topic:?} to correlation id {correlation_id} within {waited:?}")]
    NoReply {
        /// Where the reply was awaited.
        topic: String,
        /// What it would have carried.
        correlation_id: String,
        /// How long.
        waited: std::time::Duration,
    },
    /// Service and client speak different versions of the contract; one of them has to be replaced.
    #[error("API version mismatch: {0}")]
    ApiVersionMismatch(Box<Failure>),
    /// `CANCELLED`.
    #[error("cancelled: {0}")]
    Cancelled(Box<Failure>),
    /// `UNKNOWN`.
    #[error("unknown error: {0}")]
    Unknown(Box<Failure>),
    /// `INVALID_ARGUMENT`; [`Failure::violations`] may name fields.
    #[error("invalid argument: {0}")]
    InvalidArgument(Box<Failure>),
    /// `DEADLINE_EXCEEDED`, told by the service or found here.
    #[error("deadline exceeded: {0}")]
    DeadlineExceeded(Box<Failure>),
    /// `NOT_FOUND`.
    #[error("not found: {0}")]
    NotFound(Box<Failure>),
    /// `ALREADY_EXISTS`.
    #[error("already exists: {0}")]
    AlreadyExists(Box<Failure>),
    /// `PERMISSION_DENIED`.
    #[error("permission denied: {0}")]
    PermissionDenied(Box<Failure>),
    /// `RESOURCE_EXHAUSTED`.
    #[error("resource exhausted: {0}")]
    ResourceExhausted(Box<Failure>),
    /// `FAILED_PRECONDITION`; [`Failure::reason`] is `NOT_OWNER` where another instance has the connection.
    #[error("failed precondition: {0}")]
    FailedPrecondition(Box<Failure>),
    /// `ABORTED`: an ETag is not the stored one.
    #[error("aborted: {0}")]
    Aborted(Box<Failure>),
    /// `OUT_OF_RANGE`.
    #[error("out of range: {0}")]
    OutOfRange(Box<Failure>),
    /// `UNIMPLEMENTED`.
    #[error("unimplemented: {0}")]
    Unimplemented(Box<Failure>),
    /// `INTERNAL`.
    #[error("internal error: {0}")]
    Internal(Box<Failure>),
    /// `UNAVAILABLE`: nothing answers, or the service says so.
    #[error("unavailable: {0}")]
    Unavailable(Box<Failure>),
    /// `DATA_LOSS`.
    #[error("data loss: {0}")]
    DataLoss(Box<Failure>),
    /// `UNAUTHENTICATED`.
    #[error("unauthenticated: {0}")]
    Unauthenticated(Box<Failure>),
}

/// What a status says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// For people.
    pub message: String,
    /// For programs: the reason of `google.rpc.ErrorInfo`, such as `NOT_OWNER`.
    pub reason: Option<String>,
    /// Whose reason it is.
    pub domain: Option<String>,
    /// What belongs to the reason.
    pub metadata: BTreeMap<String, String>,
    /// Fields of the request that are wrong, from `google.rpc.BadRequest`.
    pub violations: Vec<Violation>,
}

/// A field of a request, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The path of the field.
    pub field: String,
    /// What is wrong.
    pub description: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        for violation in &self.violations {
            write!(f, "; {}: {}", violation.field, violation.description)?;
        }
        Ok(())
    }
}

impl Failure {
    fn of(status: &Status) -> Box<Self> {
        let details = status.get_error_details();
        let mut failure = Self {
            message: status.message().to_owned(),
            ..Self::default()
        };
        if let Some(info) = details.error_info() {
            failure.reason = Some(info.reason.clone());
            failure.domain = Some(info.domain.clone());
            failure.metadata = info
                .metadata
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
        }
        if let Some(request) = details.bad_request() {
            failure.violations = request
                .field_violations
                .iter()
                .map(|violation| Violation {
                    field: violation.field.clone(),
                    description: violation.description.clone(),
                })
                .collect();
        }
        Box::new(failure)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::of_code(status.code(), Failure::of(&status))
    }
}

impl Error {
    fn of_code(code: Code, failure: Box<Failure>) -> Self {
        match code {
            // A success that arrives as an error is a fault of the transport.
            Code::Ok | Code::Unknown => Self::Unknown(failure),
            Code::Cancelled => Self::Cancelled(failure),
            Code::InvalidArgument => Self::InvalidArgument(failure),
            Code::DeadlineExceeded => Self::DeadlineExceeded(failure),
            Code::NotFound => Self::NotFound(failure),
            Code::AlreadyExists => Self::AlreadyExists(failure),
            Code::PermissionDenied => Self::PermissionDenied(failure),
            Code::ResourceExhausted => Self::ResourceExhausted(failure),
            Code::FailedPrecondition if failure.reason.as_deref() == Some(VERSION_MISMATCH) => {
                Self::ApiVersionMismatch(failure)
            }
            Code::FailedPrecondition => Self::FailedPrecondition(failure),
            Code::Aborted => Self::Aborted(failure),
            Code::OutOfRange => Self::OutOfRange(failure),
            Code::Unimplemented => Self::Unimplemented(failure),
            Code::Internal => Self::Internal(failure),
            Code::Unavailable => Self::Unavailable(failure),
            Code::DataLoss => Self::DataLoss(failure),
            Code::Unauthenticated => Self::Unauthenticated(failure),
        }
    }

    /// An error from a status's name and message, as they stand in answers that are no status themselves.
    pub(crate) fn of_name(name: &str, message: String) -> Self {
        Self::of_code(
            code_of_name(name),
            Box::new(Failure {
                message,
                ..Failure::default()
            }),
        )
    }

    pub(crate) fn late(what: &str, limit: std::time::Duration) -> Self {
        Self::of_name("DEADLINE_EXCEEDED", format!("{what} within {limit:?}"))
    }

    /// The gRPC status; `None` for what was found wrong on this side.
    pub fn code(&self) -> Option<Code> {
        Some(match self {
            Self::Options { .. } | Self::Json(_) | Self::NoReply { .. } => return None,
            Self::Cancelled(_) => Code::Cancelled,
            Self::Unknown(_) => Code::Unknown,
            Self::InvalidArgument(_) => Code::InvalidArgument,
            Self::DeadlineExceeded(_) => Code::DeadlineExceeded,
            Self::NotFound(_) => Code::NotFound,
            Self::AlreadyExists(_) => Code::AlreadyExists,
            Self::PermissionDenied(_) => Code::PermissionDenied,
            Self::ResourceExhausted(_) => Code::ResourceExhausted,
            Self::FailedPrecondition(_) | Self::ApiVersionMismatch(_) => Code::FailedPrecondition,
            Self::Aborted(_) => Code::Aborted,
            Self::OutOfRange(_) => Code::OutOfRange,
            Self::Unimplemented(_) => Code::Unimplemented,
            Self::Internal(_) => Code::Internal,
            Self::Unavailable(_) => Code::Unavailable,
            Self::DataLoss(_) => Code::DataLoss,
            Self::Unauthenticated(_) => Code::Unauthenticated,
        })
    }

    /// What the status says, if the error is one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Options { .. } | Self::Json(_) | Self::NoReply { .. } => None,
            Self::ApiVersionMismatch(failure)
            | Self::Cancelled(failure)
            | Self::Unknown(failure)
            | Self::InvalidArgument(failure)
            | Self::DeadlineExceeded(failure)
            | Self::NotFound(failure)
            | Self::AlreadyExists(failure)
            | Self::PermissionDenied(failure)
            | Self::ResourceExhausted(failure)
            | Self::FailedPrecondition(failure)
            | Self::Aborted(failure)
            | Self::OutOfRange(failure)
            | Self::Unimplemented(failure)
            | Self::Internal(failure)
            | Self::Unavailable(failure)
            | Self::DataLoss(failure)
            | Self::Unauthenticated(failure) => Some(failure),
        }
    }

    /// The reason for programs, such as `NOT_OWNER`.
    pub fn reason(&self) -> Option<&str> {
        self.failure()?.reason.as_deref()
    }
}

/// Names as gRPC writes them; what is none is `Unknown`.
fn code_of_name(name: &str) -> Code {
    match name {
        "CANCELLED" => Code::Cancelled,
        "INVALID_ARGUMENT" => Code::InvalidArgument,
        "DEADLINE_EXCEEDED" => Code::DeadlineExceeded,
        "NOT_FOUND" => Code::NotFound,
        "ALREADY_EXISTS" => Code::AlreadyExists,
        "PERMISSION_DENIED" => Code::PermissionDenied,
        "RESOURCE_EXHAUSTED" => Code::ResourceExhausted,
        "FAILED_PRECONDITION" => Code::FailedPrecondition,
        "ABORTED" => Code::Aborted,
        "OUT_OF_RANGE" => Code::OutOfRange,
        "UNIMPLEMENTED" => Code::Unimplemented,
        "INTERNAL" => Code::Internal,
        "UNAVAILABLE" => Code::Unavailable,
        "DATA_LOSS" => Code::DataLoss,
        "UNAUTHENTICATED" => Code::Unauthenticated,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn every_code_has_a_variant_and_a_name() {
        for (number, name) in [
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        ]
        .into_iter()
        .enumerate()
        {
            let code = Code::from(i32::try_from(number).unwrap() + 1);
            let error = Error::from(Status::new(code, "why"));
            assert_eq!(error.code(), Some(code), "{name}");
            assert_eq!(error.failure().unwrap().message, "why");
            assert_eq!(Error::of_name(name, "why".to_owned()), error, "{name}");
        }
    }

    #[test]
    fn details_are_kept() {
        let mut details =
            ErrorDetails::with_error_info("NOT_OWNER", "virtufin", [("owner".into(), "b".into())]);
        details.add_bad_request_violation("id", "not here");
        let status = Status::with_error_details(Code::FailedPrecondition, "elsewhere", details);
        let error = Error::from(status);
        assert_eq!(error.reason(), Some("NOT_OWNER"));
        let Error::FailedPrecondition(failure) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(failure.metadata["owner"], "b");
        assert_eq!(failure.violations[0].field, "id");
        assert_eq!(
            error.to_string(),
            "failed precondition: elsewhere (NOT_OWNER); id: not here"
        );
    }

    #[test]
    fn a_version_mismatch_says_so() {
        let details = ErrorDetails::with_error_info(VERSION_MISMATCH, "virtufin", []);
        let status = Status::with_error_details(Code::FailedPrecondition, "server has 2.0.0", details);
        let error = Error::from(status);
        assert!(matches!(error, Error::ApiVersionMismatch(_)), "{error:?}");
        assert!(
            error
                .to_string()
                .starts_with("API version mismatch: server has 2.0.0")
        );
    }
}
