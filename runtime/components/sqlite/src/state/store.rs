//! The state store on top of the database handle.

use std::{path::Path, sync::Arc};

use outrigger_component::Error;
use outrigger_state::{
    Capabilities, Etag, Item, KeyPage, KeyPattern, Operation, ReadOptions, StateStore, empty_prefix,
};
use outrigger_types::StateKey;
use parking_lot::Mutex;
use rusqlite::Connection;

use super::{cleanup::Cleanup, config::Config, schema, statements::Statements};
use crate::database::Database;

/// Up to this many keys are read on the calling thread.
const PROMPT_KEYS: usize = 16;

/// `state.sqlite`. Writes of all callers share commits; each is durable when it is acknowledged.
#[derive(Debug)]
pub struct SqliteStateStore {
    database: Database,
    statements: Arc<Statements>,
    cleanup: Mutex<Option<Cleanup>>,
}

impl SqliteStateStore {
    pub(super) async fn open(config: Config, base_dir: &Path) -> Result<Self, Error> {
        let (table, metadata_table) = (config.table.clone(), config.metadata_table.clone());
        let database = Database::open(config.settings, base_dir, move |connection| {
            schema::migrate(connection, &table, &metadata_table)
        })
        .await?;
        let statements = Arc::new(Statements::new(&config.table));
        let cleanup = (!config.cleanup_interval.is_zero()).then(|| {
            Cleanup::start(
                database.clone(),
                config.cleanup_interval,
                config.table,
                config.metadata_table,
            )
        });
        Ok(Self {
            database,
            statements,
            cleanup: Mutex::new(cleanup),
        })
    }
}

impl StateStore for SqliteStateStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            etag: true,
            transactional: true,
            ttl: true,
            keys_like: true,
            delete_with_prefix: true,
            // Upstream's component does not offer it; the metadata API lists what upstream lists.
            unlisted: &["DELETE_WITH_PREFIX"],
            ..Capabilities::default()
        }
    }

    async fn get(&self, key: &StateKey, _options: &ReadOptions) -> Result<Option<Item>, Error> {
        let (statements, key) = (self.statements.clone(), key.clone());
        self.database
            .read(move |connection| statements.get(connection, &key))
            .await
    }

    async fn get_many(&self, keys: &[StateKey], _options: &ReadOptions) -> Vec<Result<Option<Item>, Error>> {
        let (statements, wanted) = (self.statements.clone(), keys.to_vec());
        let job = move |connection: &Connection| {
            Ok(wanted
                .iter()
                .map(|key| statements.get(connection, key))
                .collect::<Vec<_>>())
        };
        let read = if keys.len() <= PROMPT_KEYS {
            self.database.read_prompt(job).await
        } else {
            self.database.read(job).await
        };
        read.unwrap_or_else(|error| copies(&error, keys.len()))
    }

    async fn transact(&self, operations: Vec<Operation>) -> Result<Vec<Option<Etag>>, Error> {
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        let statements = self.statements.clone();
        self.database
            .write(move |connection| {
                operations
                    .iter()
                    .map(|operation| statements.apply(connection, operation))
                    .collect()
            })
            .await
    }

    /// One job: every operation is one statement, and a statement that fails undoes only itself.
    async fn apply_each(&self, operations: Vec<Operation>) -> Vec<Result<Option<Etag>, Error>> {
        let count = operations.len();
        if count == 0 {
            return Vec::new();
        }
        let statements = self.statements.clone();
        let written = self
            .database
            .write(move |connection| {
                Ok(operations
                    .iter()
                    .map(|operation| statements.apply(connection, operation))
                    .collect())
            })
            .await;
        written.unwrap_or_else(|error| copies(&error, count))
    }

    async fn keys(&self, pattern: KeyPattern) -> Result<KeyPage, Error> {
        let statements = self.statements.clone();
        self.database
            .read(move |connection| statements.keys(connection, &pattern))
            .await
    }

    async fn delete_prefix(&self, prefix: &str) -> Result<u64, Error> {
        if matches!(prefix, "" | "||") {
            return Err(empty_prefix());
        }
        let prefix = if prefix.ends_with("||") {
            prefix.to_owned()
        } else {
            format!("{prefix}||")
        };
        let statements = self.statements.clone();
        self.database
            .write(move |connection| statements.delete_prefix(connection, &prefix))
            .await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.database.ping().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.cleanup.lock().take();
        self.database.close().await;
        Ok(())
    }
}

/// The same failure for every one of several operations that shared it.
fn copies<T>(error: &Error, count: usize) -> Vec<Result<T, Error>> {
    (0..count)
        .map(|_| Err(Error::new(error.kind(), error.message().to_owned()).with_retry(error.retry())))
        .collect()
}
