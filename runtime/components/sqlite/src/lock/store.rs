//! The lock store.

use std::{path::Path, sync::Arc, time::Duration};

use outrigger_component::Error;
use outrigger_lock::{LockStore, UnlockStatus};
use rusqlite::OptionalExtension;

use crate::{
    connection::{Settings, failed},
    database::Database,
    migrations,
};

/// Rows of locks nobody released that one `try_lock` removes on its way: keeps the table as small as its use.
const SWEEP: u32 = 16;
/// The clock all processes on the host share, in milliseconds.
const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";
/// The row that counts format versions.
const VERSION_KEY: &str = "lock-migrations";

/// `lock.sqlite`.
#[derive(Debug)]
pub struct SqliteLockStore {
    database: Database,
    statements: Arc<Statements>,
}

#[derive(Debug)]
struct Statements {
    sweep: String,
    take: String,
    holder: String,
    release: String,
}

impl SqliteLockStore {
    pub(super) async fn open(
        settings: Settings,
        base_dir: &Path,
        table: String,
        metadata_table: String,
    ) -> Result<Self, Error> {
        let statements = Statements {
            sweep: format!(
                "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE expires <= {NOW} LIMIT {SWEEP})"
            ),
            take: format!(
                "INSERT INTO {table} (resource, owner, expires) VALUES (?1, ?2, {NOW} + ?3)
                 ON CONFLICT (resource) DO UPDATE SET owner = excluded.owner, expires = excluded.expires
                 WHERE {table}.expires <= {NOW}"
            ),
            holder: format!("SELECT owner FROM {table} WHERE resource = ?1 AND expires > {NOW}"),
            release: format!("DELETE FROM {table} WHERE resource = ?1"),
        };
        let steps = [format!(
            "CREATE TABLE {table} (
                resource TEXT NOT NULL PRIMARY KEY,
                owner TEXT NOT NULL,
                expires INTEGER NOT NULL
            );
            CREATE INDEX {table}_expires_idx ON {table} (expires);"
        )];
        let database = Database::open(settings, base_dir, move |connection| {
            migrations::refuse_newer(connection, &metadata_table, VERSION_KEY, steps.len())?;
            migrations::perform(connection, &metadata_table, VERSION_KEY, &steps)
        })
        .await?;
        Ok(Self {
            database,
            statements: Arc::new(statements),
        })
    }
}

impl LockStore for SqliteLockStore {
    async fn try_lock(&self, resource: &str, owner: &str, expiry: Duration) -> Result<bool, Error> {
        let statements = self.statements.clone();
        let (resource, owner) = (resource.to_owned(), owner.to_owned());
        // A hundred thousand years are enough, and the sum stays an integer.
        let milliseconds = i64::try_from(expiry.as_millis()).unwrap_or(i64::MAX).min(1 << 52);
        self.database
            .write(move |connection| {
                let wrap = |error| failed("cannot take the lock", error);
                connection
                    .prepare_cached(&statements.sweep)
                    .and_then(|mut sweep| sweep.execute([]))
                    .map_err(wrap)?;
                let taken = connection
                    .prepare_cached(&statements.take)
                    .and_then(|mut take| take.execute((resource, owner, milliseconds)))
                    .map_err(wrap)?;
                Ok(taken > 0)
            })
            .await
    }

    async fn unlock(&self, resource: &str, owner: &str) -> Result<UnlockStatus, Error> {
        let statements = self.statements.clone();
        let (resource, owner) = (resource.to_owned(), owner.to_owned());
        self.database
            .write(move |connection| {
                let wrap = |error| failed("cannot release the lock", error);
                let holder: Option<String> = connection
                    .prepare_cached(&statements.holder)
                    .and_then(|mut holder| holder.query_row([&resource], |row| row.get(0)).optional())
                    .map_err(wrap)?;
                match holder {
                    None => Ok(UnlockStatus::LockDoesNotExist),
                    Some(holder) if holder != owner => Ok(UnlockStatus::LockBelongsToOthers),
                    Some(_) => {
                        connection
                            .prepare_cached(&statements.release)
                            .and_then(|mut release| release.execute([&resource]))
                            .map_err(wrap)?;
                        Ok(UnlockStatus::Success)
                    }
                }
            })
            .await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.database.ping().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.database.close().await;
        Ok(())
    }
}
