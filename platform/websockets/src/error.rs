//! What can go wrong with a call, and how it is told (R4).

use outrigger_platform_service::BackendError;
use outrigger_platform_service::status::reasoned;
use outrigger_platform_topics::TopicError;
use tonic::{Code, Status};

use crate::target::TargetError;

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The URL may not be connected to.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// An argument is wrong.
    #[error("{0}")]
    Invalid(String),
    /// No such topic may be published to.
    #[error("topic {topic:?}: {source}")]
    Topic {
        /// As it was named.
        topic: String,
        /// Why.
        #[source]
        source: TopicError,
    },
    /// There is no connection of this id.
    #[error("there is no connection {0:?}")]
    NotFound(String),
    /// Another instance holds it (I5.1).
    #[error("connection {id:?} is held by instance {owner:?}, not by {instance:?}: ask that one")]
    NotOwner {
        /// Which connection.
        id: String,
        /// Who holds it.
        owner: String,
        /// Who was asked.
        instance: String,
    },
    /// It is not open now.
    #[error("connection {id:?} is not open: it is {status}")]
    NotOpen {
        /// Which connection.
        id: String,
        /// How it stands.
        status: &'static str,
    },
    /// The other end cannot be reached, or went away.
    #[error("{message}")]
    Peer {
        /// What kind of failure, as in lifecycle events.
        kind: &'static str,
        /// In words.
        message: String,
    },
    /// No answer in time (I2.3).
    #[error("no answer within {0} ms")]
    Timeout(u64),
    /// Too many connections, or requests that wait.
    #[error("{0}")]
    Full(String),
    /// Another process of the same name is this instance now.
    #[error("another process is instance {0:?} now; this one holds nothing any more")]
    Replaced(String),
    /// State cannot be read or written.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        match error {
            CallError::Target(_) | CallError::Invalid(_) | CallError::Topic { .. } => {
                Self::invalid_argument(message)
            }
            CallError::NotFound(_) => Self::not_found(message),
            CallError::NotOwner { id, owner, instance } => reasoned(
                Code::FailedPrecondition,
                "NOT_OWNER",
                message,
                [("connection_id", id), ("owner", owner), ("instance", instance)],
            ),
            CallError::NotOpen { id, status } => reasoned(
                Code::FailedPrecondition,
                "NOT_CONNECTED",
                message,
                [("connection_id", id), ("status", status.to_owned())],
            ),
            CallError::Peer { kind, .. } => reasoned(
                Code::Unavailable,
                "PEER_UNAVAILABLE",
                message,
                [("error_type", kind.to_owned())],
            ),
            CallError::Timeout(_) => Self::deadline_exceeded(message),
            CallError::Full(_) => Self::resource_exhausted(message),
            CallError::Replaced(_) => Self::unavailable(message),
            CallError::Backend(error) => error.into(),
        }
    }
}
