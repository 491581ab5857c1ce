//! Schema versions in a metadata table, as components-contrib `common/component/sql/migrations` keeps them.

use outrigger_component::Error;
use rusqlite::{Connection, OptionalExtension};

use crate::connection::failed;

/// One step: SQL that takes the schema from the version before to this one. Table names are checked identifiers.
pub(crate) type Migration = String;

/// Brings the schema up to date in one exclusive transaction. `table` is the metadata table and `key` the row of
/// it that counts the steps done.
///
/// # Errors
/// When the stored level is no number, or SQLite fails.
pub(crate) fn perform(
    connection: &Connection,
    table: &str,
    key: &str,
    steps: &[Migration],
) -> Result<(), Error> {
    let wrap = |error| failed("failed to perform migrations", error);
    // Reading first spares the exclusive lock when there is nothing to do, which other processes would feel.
    if level(connection, table, key)? == Some(steps.len()) {
        return Ok(());
    }
    connection
        .execute_batch("BEGIN EXCLUSIVE TRANSACTION")
        .map_err(wrap)?;
    let run = || {
        connection
            .execute_batch(&format!(
                "CREATE TABLE IF NOT EXISTS {table} (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)"
            ))
            .map_err(wrap)?;
        let level = level(connection, table, key)?.unwrap_or(0);
        for (at, step) in steps.iter().enumerate().skip(level) {
            tracing::info!("Performing migration {}", at + 1);
            connection.execute_batch(step).map_err(wrap)?;
            connection
                .execute(
                    &format!("REPLACE INTO {table} (key, value) VALUES (?1, ?2)"),
                    (key, (at + 1).to_string()),
                )
                .map_err(wrap)?;
        }
        connection.execute_batch("COMMIT TRANSACTION").map_err(wrap)
    };
    run().inspect_err(|_| {
        if !connection.is_autocommit() {
            // The error of the step is the one to report; the connection is closed after it.
            let _ = connection.execute_batch("ROLLBACK TRANSACTION");
        }
    })
}

/// Refuses a database that a newer version of this program has changed: for the formats that are ours alone.
///
/// # Errors
/// A configuration error that says so.
pub(crate) fn refuse_newer(
    connection: &Connection,
    table: &str,
    key: &str,
    known: usize,
) -> Result<(), Error> {
    match level(connection, table, key)? {
        Some(level) if level > known => Err(Error::configuration(format!(
            "the database has format version {level} of {key}, this version knows {known}; use a newer outrigger or another file"
        ))),
        _ => Ok(()),
    }
}

/// The level stored, `None` without table or row.
fn level(connection: &Connection, table: &str, key: &str) -> Result<Option<usize>, Error> {
    let wrap = |error| failed("failed to read migration level", error);
    let exists: bool = connection
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type='table' AND name=?1)",
            [table],
            |row| row.get(0),
        )
        .map_err(wrap)?;
    if !exists {
        return Ok(None);
    }
    // Other tools may have declared the column without a type, so any storage class is read as text.
    let text: Option<String> = connection
        .query_row(
            &format!("SELECT CAST(value AS TEXT) FROM {table} WHERE key = ?1"),
            [key],
            |row| row.get(0),
        )
        .optional()
        .map_err(wrap)?;
    text.map(|text| {
        text.parse().map_err(|_| {
            Error::configuration(format!("invalid migration level found in metadata table: {text}"))
        })
    })
    .transpose()
}
