//! Why the manager does not do what it was asked.

use outrigger_platform_engine::EngineError;
use outrigger_platform_fetch::FetchError;
use outrigger_platform_service::backend::BackendError;
use tonic::Status;

/// An error of the manager; each has one gRPC code (R4).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// `INVALID_ARGUMENT`: no retry makes it better.
    #[error("{0}")]
    Invalid(String),
    /// `NOT_FOUND`.
    #[error("there is no worker {0:?}")]
    NotFound(String),
    /// `PERMISSION_DENIED`: code may not come from there (H5.3).
    #[error("{0}")]
    Denied(String),
    /// `RESOURCE_EXHAUSTED`: more workers than are allowed, or a record that everybody writes at once.
    #[error("{0}")]
    Exhausted(String),
    /// `INVALID_ARGUMENT` where the code or its type is at fault, `FAILED_PRECONDITION` where this machine lacks
    /// what runs it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// `UNAVAILABLE`: the code could not be fetched.
    #[error("the code cannot be fetched: {0}")]
    Fetch(#[source] FetchError),
    /// `UNAVAILABLE` where state or events do not answer, `ABORTED` where others wrote first too often, `DATA_LOSS`
    /// where what is stored cannot be read, `FAILED_PRECONDITION` where the request is refused, as where there is no
    /// such component.
    #[error("{trouble}: {0}", trouble = trouble(.0))]
    Backend(#[from] BackendError),
    /// `DATA_LOSS`: what lies in the state store is not what was put there (H5.2).
    #[error("{0}")]
    Corrupt(String),
}

/// What is wrong with state and events, with what to do about it.
fn trouble(error: &BackendError) -> &'static str {
    match error {
        BackendError::Conflict(_) => "others changed it at the same time; try again",
        BackendError::Malformed(_) => "what lies in the state store is spoilt, or of another version",
        BackendError::Refused(_) => {
            "state or events are not to be had; look at the components of the sidecar, or the gateway"
        }
        _ => "state and events are unavailable",
    }
}

impl From<ManagerError> for Status {
    fn from(error: ManagerError) -> Self {
        let message = error.to_string();
        match error {
            ManagerError::Invalid(_) => Self::invalid_argument(message),
            ManagerError::NotFound(_) => Self::not_found(message),
            ManagerError::Denied(_) => Self::permission_denied(message),
            ManagerError::Exhausted(_) => Self::resource_exhausted(message),
            ManagerError::Engine(EngineError::UnknownType { .. } | EngineError::Load(_)) => {
                Self::invalid_argument(message)
            }
            ManagerError::Engine(_) => Self::failed_precondition(message),
            ManagerError::Backend(BackendError::Conflict(_)) => Self::aborted(message),
            ManagerError::Backend(BackendError::Malformed(_)) => Self::data_loss(message),
            ManagerError::Backend(BackendError::Refused(_)) => Self::failed_precondition(message),
            ManagerError::Fetch(_) | ManagerError::Backend(_) => Self::unavailable(message),
            ManagerError::Corrupt(_) => Self::data_loss(message),
        }
    }
}

impl ManagerError {
    /// A word for events that does not change with the message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::NotFound(_) => "not-found",
            Self::Denied(_) => "denied",
            Self::Exhausted(_) => "exhausted",
            Self::Engine(error) => error.kind(),
            Self::Fetch(_) => "fetch",
            Self::Backend(_) => "backend",
            Self::Corrupt(_) => "corrupt",
        }
    }
}
