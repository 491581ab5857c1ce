//! The tables, step for step as upstream creates them (`state/postgresql/v1/migrations.go`, `v2/postgresql.go`).

use outrigger_component::Error;

use super::config::{Config, Version};
use crate::{
    database::Database,
    migrations::{Migrations, row_id_step},
};

/// The row of the metadata table that counts the steps.
fn migrations_key(config: &Config) -> String {
    match config.version {
        Version::V1 => "migrations".to_owned(),
        Version::V2 => format!("migrations-state-v2-{}", config.table_prefix),
    }
}

/// The row of the metadata table with the time of the last removal of expired rows.
pub(super) fn cleanup_key(config: &Config) -> String {
    match config.version {
        Version::V1 => "last-cleanup".to_owned(),
        Version::V2 => format!("last-cleanup-state-v2-{}", config.table_prefix),
    }
}

fn steps(version: Version, table: &str) -> Vec<String> {
    match version {
        Version::V1 => vec![
            format!(
                "CREATE TABLE IF NOT EXISTS {table} (
                    key text NOT NULL PRIMARY KEY,
                    value jsonb NOT NULL,
                    isbinary boolean NOT NULL,
                    insertdate TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
                    updatedate TIMESTAMP WITH TIME ZONE NULL
                )"
            ),
            format!("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS expiredate TIMESTAMP WITH TIME ZONE"),
            row_id_step(table, "insertdate"),
        ],
        Version::V2 => vec![
            format!(
                "CREATE TABLE IF NOT EXISTS {table} (
                    key text NOT NULL PRIMARY KEY,
                    value bytea NOT NULL,
                    etag uuid NOT NULL DEFAULT gen_random_uuid(),
                    created_at timestamp with time zone NOT NULL DEFAULT now(),
                    updated_at timestamp with time zone,
                    expires_at timestamp with time zone
                );
                CREATE INDEX IF NOT EXISTS {name} ON {table} (expires_at);",
                // The name the server gives an index without one, as upstream's is.
                name = index_name(table),
            ),
            row_id_step(table, "created_at"),
        ],
    }
}

fn index_name(table: &str) -> String {
    let name = table.rsplit_once('.').map_or(table, |(_, name)| name);
    match name.strip_suffix('"') {
        Some(quoted) => format!("{quoted}_expires_at_idx\""),
        None => format!("{name}_expires_at_idx"),
    }
}

/// Brings the tables up to date; tables made by the Go component are taken as they are.
pub(super) async fn migrate(database: &Database, config: &Config) -> Result<(), Error> {
    Migrations {
        metadata_table: &config.metadata_table,
        key: &migrations_key(config),
        table: &config.table,
        schema: config.schema.as_deref(),
        steps: &steps(config.version, &config.table),
    }
    .perform(database)
    .await
}
