//! The resolver.

use std::{path::Path, sync::Arc, time::Duration};

use outrigger_component::{Error, ErrorKind};
use outrigger_name_resolution::{Addresses, Instance, Resolver, Target};
use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::MissedTickBehavior};
use uuid::Uuid;

use super::config::Config;
use crate::{connection::failed, database::Database, migrations};

/// How long after a failed renewal the next try comes.
const RETRY: Duration = Duration::from_millis(50);

/// `nameresolution.sqlite`.
#[derive(Debug)]
pub struct SqliteResolver {
    database: Database,
    statements: Arc<Statements>,
    /// From one renewal to the next.
    renewal: Duration,
    cleanup_interval: Duration,
    announcement: Mutex<Option<Announcement>>,
}

#[derive(Debug)]
struct Statements {
    register: String,
    renew: String,
    holder: String,
    withdraw: String,
    resolve: String,
    cleanup_due: String,
    cleanup: String,
}

/// This sidecar's row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    id: String,
    address: String,
    app_id: String,
}

#[derive(Debug)]
struct Announcement {
    row: Row,
    task: JoinHandle<()>,
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Statements {
    fn new(table: &str, metadata_table: &str, update_interval: Duration) -> Self {
        let live = format!(
            "unixepoch(CURRENT_TIMESTAMP) - last_update < {}",
            update_interval.as_secs()
        );
        Self {
            // The address is unique: whoever listens there now takes over what an earlier process left. Upstream
            // leaves the namespace empty, and so do all that share its table.
            register: format!(
                "REPLACE INTO {table} (registration_id, address, app_id, namespace, last_update)
                 VALUES (?1, ?2, ?3, '', unixepoch(CURRENT_TIMESTAMP))"
            ),
            renew: format!(
                "UPDATE {table} SET last_update = unixepoch(CURRENT_TIMESTAMP)
                 WHERE registration_id = ?1 AND address = ?2"
            ),
            holder: format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE address = ?1 AND {live})"),
            withdraw: format!("DELETE FROM {table} WHERE registration_id = ?1 AND address = ?2"),
            resolve: format!("SELECT address FROM {table} WHERE app_id = ?1 AND {live} ORDER BY address"),
            cleanup_due: format!(
                "INSERT INTO {metadata_table} (key, value) VALUES ('nr-last-cleanup', CURRENT_TIMESTAMP)
                 ON CONFLICT (key) DO UPDATE SET value = CURRENT_TIMESTAMP
                 WHERE unixepoch(CURRENT_TIMESTAMP) - unixepoch(value) >= ?1"
            ),
            cleanup: format!("DELETE FROM {table} WHERE NOT ({live})"),
        }
    }
}

impl SqliteResolver {
    pub(super) async fn open(config: Config, base_dir: &Path) -> Result<Self, Error> {
        let Config {
            settings,
            table,
            metadata_table,
            update_interval,
            cleanup_interval,
        } = config;
        if settings.is_memory() {
            tracing::warn!(
                "name resolution in an in-memory SQLite database: other processes cannot be found"
            );
        }
        let statements = Statements::new(&table, &metadata_table, update_interval);
        let renewal = update_interval.saturating_sub(settings.timeout);
        let database = Database::open(settings, base_dir, move |connection| {
            let create = format!(
                "CREATE TABLE {table} (
                    registration_id TEXT NOT NULL PRIMARY KEY,
                    address TEXT NOT NULL,
                    app_id TEXT NOT NULL,
                    namespace TEXT NOT NULL,
                    last_update INTEGER NOT NULL
                );
                CREATE UNIQUE INDEX {table}_address_idx ON {table} (address);
                CREATE INDEX {table}_last_update_idx ON {table} (last_update);"
            );
            migrations::perform(connection, &metadata_table, "nr-migrations", &[create])
        })
        .await?;
        Ok(Self {
            database,
            statements: Arc::new(statements),
            renewal,
            cleanup_interval,
            announcement: Mutex::new(None),
        })
    }
}

impl Resolver for SqliteResolver {
    async fn register(&self, instance: Instance) -> Result<(), Error> {
        if instance.app_id.as_str().is_empty() {
            return Err(Error::configuration("name is missing"));
        }
        if instance.internal_address.port() == 0 {
            return Err(Error::configuration("port is missing or invalid"));
        }
        let row = Row {
            id: Uuid::new_v4().to_string(),
            address: instance.internal_address.to_string(),
            app_id: instance.app_id.as_str().to_owned(),
        };
        write_row(&self.database, &self.statements, row.clone()).await?;
        let keeper = Keeper {
            database: self.database.clone(),
            statements: self.statements.clone(),
            row: row.clone(),
            renewal: self.renewal,
            cleanup_interval: self.cleanup_interval,
        };
        let task = tokio::spawn(keeper.run());
        // An earlier announcement of ours ends here; its row is replaced or runs out.
        *self.announcement.lock() = Some(Announcement { row, task });
        Ok(())
    }

    async fn resolve(&self, target: &Target) -> Result<Addresses, Error> {
        let (statements, app_id) = (self.statements.clone(), target.app_id.as_str().to_owned());
        let addresses: Addresses = self
            .database
            .read(move |connection| {
                connection
                    .prepare_cached(&statements.resolve)
                    .and_then(|mut resolve| resolve.query_map([app_id], |row| row.get(0))?.collect())
                    .map_err(|error| failed("failed to look up address", error))
            })
            .await?;
        if addresses.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "no host found with the given ID"));
        }
        Ok(addresses)
    }

    async fn close(&self) -> Result<(), Error> {
        let row = self
            .announcement
            .lock()
            .take()
            .map(|announcement| announcement.row.clone());
        if let Some(row) = row {
            let statements = self.statements.clone();
            let withdrawn = self
                .database
                .write(move |connection| {
                    connection
                        .execute(&statements.withdraw, [row.id, row.address])
                        .map_err(|error| failed("failed to unregister host", error))
                })
                .await;
            self.database.close().await;
            return withdrawn.map(drop);
        }
        self.database.close().await;
        Ok(())
    }
}

async fn write_row(database: &Database, statements: &Arc<Statements>, row: Row) -> Result<(), Error> {
    let statements = statements.clone();
    database
        .write(move |connection| {
            connection
                .execute(&statements.register, [row.id, row.address, row.app_id])
                .map(drop)
                .map_err(|error| failed("failed to register host", error))
        })
        .await
}

/// What a renewal found.
enum Renewal {
    Done,
    /// The row is gone and the address free: it was cleaned up while this process or host slept.
    Vanished,
    /// Somebody else listens at our address.
    TakenOver,
}

/// Keeps the row alive and removes dead ones.
struct Keeper {
    database: Database,
    statements: Arc<Statements>,
    row: Row,
    renewal: Duration,
    cleanup_interval: Duration,
}

impl Keeper {
    async fn run(self) {
        let mut renewals = tokio::time::interval(self.renewal);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        renewals.tick().await;
        let cleanup_interval = if self.cleanup_interval.is_zero() {
            Duration::MAX
        } else {
            self.cleanup_interval
        };
        let mut last_cleanup = tokio::time::Instant::now();
        loop {
            renewals.tick().await;
            match self.renew().await {
                Ok(Renewal::Done) => {}
                Ok(Renewal::Vanished) => {
                    tracing::warn!(
                        address = self.row.address,
                        "host registration had run out, registering again"
                    );
                    if let Err(error) = write_row(&self.database, &self.statements, self.row.clone()).await {
                        tracing::error!(error = error.chain(), "cannot register the host again");
                    }
                }
                Ok(Renewal::TakenOver) => {
                    // Upstream ends its process here. Whoever took the address answers there; we no longer claim it.
                    tracing::error!(address = self.row.address, "Host registration lost");
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Closed => return,
                Err(error) => {
                    tracing::error!(error = error.chain(), "Failed to update host registration");
                    renewals.reset_after(RETRY);
                }
            }
            if last_cleanup.elapsed() >= cleanup_interval {
                last_cleanup = tokio::time::Instant::now();
                if let Err(error) = self.clean_up().await {
                    tracing::error!(error = error.chain(), "cannot remove dead host registrations");
                }
            }
        }
    }

    async fn renew(&self) -> Result<Renewal, Error> {
        let (statements, row) = (self.statements.clone(), self.row.clone());
        self.database
            .write(move |connection| {
                let wrap = |error| failed("cannot renew the registration", error);
                let renewed = connection
                    .prepare_cached(&statements.renew)
                    .and_then(|mut renew| renew.execute([&row.id, &row.address]))
                    .map_err(wrap)?;
                if renewed > 0 {
                    return Ok(Renewal::Done);
                }
                let taken: bool = connection
                    .query_row(&statements.holder, [&row.address], |row| row.get(0))
                    .map_err(wrap)?;
                Ok(if taken {
                    Renewal::TakenOver
                } else {
                    Renewal::Vanished
                })
            })
            .await
    }

    async fn clean_up(&self) -> Result<(), Error> {
        let statements = self.statements.clone();
        // Upstream compares seconds with milliseconds here, so its clean-up runs once; this one goes by the interval.
        let age = i64::try_from(self.cleanup_interval.as_secs()).unwrap_or(i64::MAX);
        self.database
            .write(move |connection| {
                let wrap = |error| failed("cannot remove dead rows", error);
                if connection.execute(&statements.cleanup_due, [age]).map_err(wrap)? > 0 {
                    connection.execute(&statements.cleanup, []).map_err(wrap)?;
                }
                Ok(())
            })
            .await
    }
}
