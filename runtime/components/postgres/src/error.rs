//! What the server's failures mean.

use deadpool_postgres::{PoolError, TimeoutType};
use outrigger_component::{Error, ErrorKind, Retry};
use tokio_postgres::error::SqlState;

/// One line, as pgx writes it: `ERROR: duplicate key … (SQLSTATE 23505)`.
pub(crate) fn text(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!(
            "{}: {} (SQLSTATE {})",
            db.severity(),
            db.message(),
            db.code().code()
        );
    }
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Turns the server's error into ours; classes of SQLSTATE are of PostgreSQL's Appendix A.
pub(crate) fn failed(what: &'static str, error: &tokio_postgres::Error) -> Error {
    let ours = match error.code() {
        None if is_connection(error) => Error::unavailable(what),
        None => Error::internal(what),
        Some(code) => match (code.code().get(..2).unwrap_or_default(), code) {
            // The other transaction won; the same request may win next time.
            ("40", _) => Error::internal(what),
            // Connection exceptions, resources, shutdown and start-up, a standby that was the primary.
            ("08" | "53" | "58", _) => Error::unavailable(what),
            (_, &SqlState::QUERY_CANCELED | &SqlState::LOCK_NOT_AVAILABLE) => {
                Error::new(ErrorKind::Timeout, what)
            }
            ("57", _) | (_, &SqlState::READ_ONLY_SQL_TRANSACTION) => Error::unavailable(what),
            // The value is one the column cannot hold.
            ("22" | "23" | "54", _) => Error::invalid(what),
            (_, &SqlState::INSUFFICIENT_PRIVILEGE) => Error::new(ErrorKind::Forbidden, what),
            _ => Error::internal(what).with_retry(Retry::Permanent),
        },
    };
    ours.with_source(text(error))
}

/// A failure to connect at start-up: wrong credentials and names do not get better by themselves (design D8).
pub(crate) fn not_connected(error: &tokio_postgres::Error) -> Error {
    let what = "failed to connect to the database";
    match error.code().map(|code| code.code().get(..2).unwrap_or_default()) {
        // Invalid authorization, unknown database, unknown parameters.
        Some("28" | "3D" | "22" | "42") => Error::configuration(what),
        _ => Error::unavailable(what),
    }
    .with_source(text(error))
}

/// The pool gave no connection.
pub(crate) fn pool_failed(what: &'static str, error: PoolError) -> Error {
    match error {
        PoolError::Closed => closed(),
        PoolError::Timeout(TimeoutType::Wait) => {
            Error::new(ErrorKind::Exhausted, what).with_source("all connections to the database are in use")
        }
        PoolError::Timeout(_) => Error::unavailable(what).with_source("connecting takes too long"),
        PoolError::Backend(error) => Error::unavailable(what).with_source(text(&error)),
        error => Error::unavailable(what).with_source(error.to_string()),
    }
}

/// The component is closed.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the PostgreSQL component is closed")
}

/// Whether the connection, and not the statement, failed.
pub(crate) fn is_connection(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>())
}

/// Whether the connection should not be used again: it is gone, the server goes, it became a standby, or what was
/// prepared on it is no longer good there.
pub(crate) fn spoils_connection(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        None => true,
        Some(code) => {
            matches!(code.code().get(..2), Some("08" | "57" | "26"))
                || *code == SqlState::READ_ONLY_SQL_TRANSACTION
                || *code == SqlState::FEATURE_NOT_SUPPORTED
        }
    }
}

/// Whether the server undid the whole transaction for the sake of another.
pub(crate) fn lost_to_another(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE)
    )
}

/// Whether another session created the same thing meanwhile. Which of these it is depends on how far both got: the
/// catalogue's index, the table's row type or its name.
pub(crate) fn made_by_another(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(
            &SqlState::UNIQUE_VIOLATION
                | &SqlState::DUPLICATE_OBJECT
                | &SqlState::DUPLICATE_TABLE
                | &SqlState::DUPLICATE_SCHEMA
        )
    )
}

/// The same failure for every one of several operations that shared it.
pub(crate) fn copies<T>(error: &Error, count: usize) -> Vec<Result<T, Error>> {
    (0..count).map(|_| Err(copy(error))).collect()
}

/// The same failure once more; the causes become one text.
pub(crate) fn copy(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.message().to_owned()).with_retry(error.retry());
    match error
        .chain()
        .strip_prefix(error.message())
        .and_then(|rest| rest.strip_prefix(": "))
    {
        Some(causes) => copy.with_source(causes.to_owned()),
        None => copy,
    }
}
