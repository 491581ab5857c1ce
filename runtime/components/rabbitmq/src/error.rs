//! From the client's errors to ours.

use lapin::{ErrorKind as ClientError, protocol::AMQPErrorKind, protocol::AMQPSoftError};
use outrigger_component::{Error, ErrorKind};

/// An error of the broker or of the connection to it, with what failed.
pub(crate) fn failed(what: &'static str, error: lapin::Error) -> Error {
    let kind = match error.kind() {
        ClientError::ProtocolError(broker) => match broker.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => ErrorKind::Forbidden,
            // Something of that name exists already, otherwise declared.
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => ErrorKind::Configuration,
            _ => ErrorKind::Unavailable,
        },
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, what).with_source(error)
}
