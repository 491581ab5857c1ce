//! The client library's errors in our terms, with the texts Go's client prints.

use outrigger_component::{Error, ErrorKind};
use redis::RedisError;

/// What the server said, as go-redis prints it: `WRONGTYPE Operation against …`; other errors in the library's words.
pub(crate) fn text(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => error.to_string(),
    }
}

/// An error of the server or of the way to it. A lost connection and an expired time may be tried again.
pub(crate) fn failed(error: &RedisError) -> Error {
    let kind = if error.is_timeout() {
        ErrorKind::Timeout
    } else if error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error() {
        ErrorKind::Unavailable
    } else {
        ErrorKind::Internal
    };
    Error::new(kind, text(error))
}

/// An answer that this command never gives.
pub(crate) fn unexpected(command: &'static str) -> Error {
    Error::internal(format!("unexpected answer of Redis to {command}"))
}

/// The component has been closed.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "component is closed")
}
