//! The tables of `state.sqlite`, step for step as upstream creates them (`state/sqlite/sqlite_migrations.go`).

use outrigger_component::Error;
use rusqlite::Connection;

use crate::migrations;

/// Brings the tables up to date; tables made by the Go component or by hand are taken as they are.
pub(super) fn migrate(connection: &Connection, table: &str, metadata_table: &str) -> Result<(), Error> {
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {table} (
            key TEXT NOT NULL PRIMARY KEY,
            value TEXT NOT NULL,
            is_binary BOOLEAN NOT NULL,
            etag TEXT NOT NULL,
            expiration_time TIMESTAMP DEFAULT NULL,
            update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
        )"
    );
    migrations::perform(connection, metadata_table, "migrations", &[create])
}
