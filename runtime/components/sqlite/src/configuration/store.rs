//! The configuration store.

use std::{path::Path, sync::Arc};

use outrigger_component::{Error, Metadata};
use outrigger_configuration::{ConfigurationStore, Item, Items, UpdateHandler, Watching};
use rusqlite::{Connection, Row};

use super::watch::Watcher;
use crate::{
    connection::{Settings, failed},
    database::Database,
    migrations,
};

/// The row that counts format versions.
const VERSION_KEY: &str = "configuration-migrations";

/// `configuration.sqlite`.
#[derive(Debug)]
pub struct SqliteConfigurationStore {
    reader: Reader,
    watcher: Watcher,
    table: String,
}

/// Reads items; cheap to clone into subscriptions.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub(super) database: Database,
    statements: Arc<Statements>,
}

#[derive(Debug)]
struct Statements {
    one: String,
    all: String,
}

impl Reader {
    /// The items of these keys; of all when there are none.
    pub(super) async fn read(&self, keys: &[String]) -> Result<Items, Error> {
        let (statements, keys) = (self.statements.clone(), keys.to_vec());
        self.database
            .read(move |connection| {
                let mut items = Items::new();
                if keys.is_empty() {
                    collect(connection, &statements.all, [], &mut items)?;
                }
                for key in &keys {
                    collect(connection, &statements.one, [key], &mut items)?;
                }
                Ok(items)
            })
            .await
    }
}

fn collect(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    items: &mut Items,
) -> Result<(), Error> {
    let wrap = |error| failed("cannot read the configuration", error);
    let mut statement = connection.prepare_cached(sql).map_err(wrap)?;
    let mut rows = statement.query(parameters).map_err(wrap)?;
    while let Some(row) = rows.next().map_err(wrap)? {
        let (key, item) = item(row).map_err(wrap)?;
        items.insert(key, item);
    }
    Ok(())
}

fn item(row: &Row<'_>) -> Result<(String, Item), rusqlite::Error> {
    let metadata: Option<String> = row.get(3)?;
    // Written by whoever keeps the table; what is no JSON object of texts is no metadata.
    let metadata: Metadata = metadata
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    Ok((
        row.get(0)?,
        Item {
            value: row.get(1)?,
            version: row.get(2)?,
            metadata,
        },
    ))
}

impl SqliteConfigurationStore {
    pub(super) async fn open(
        settings: Settings,
        base_dir: &Path,
        table: String,
        metadata_table: String,
    ) -> Result<Self, Error> {
        let columns = "SELECT key, CAST(value AS TEXT), CAST(version AS TEXT), metadata FROM";
        let statements = Statements {
            one: format!("{columns} {table} WHERE key = ?1"),
            all: format!("{columns} {table}"),
        };
        let steps = [format!(
            "CREATE TABLE {table} (
                key TEXT NOT NULL PRIMARY KEY,
                value TEXT NOT NULL,
                version TEXT NOT NULL DEFAULT '',
                metadata TEXT
            );"
        )];
        let database = Database::open(settings, base_dir, move |connection| {
            migrations::refuse_newer(connection, &metadata_table, VERSION_KEY, steps.len())?;
            migrations::perform(connection, &metadata_table, VERSION_KEY, &steps)
        })
        .await?;
        let reader = Reader {
            database,
            statements: Arc::new(statements),
        };
        Ok(Self {
            watcher: Watcher::new(reader.clone()),
            reader,
            table,
        })
    }

    /// Writes an item, or removes it: Dapr's block only reads, so this is for tools.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn set(&self, key: &str, item: Option<Item>) -> Result<(), Error> {
        let (table, key) = (self.table.clone(), key.to_owned());
        self.reader
            .database
            .write(move |connection| {
                let done = match item {
                    None => connection.execute(&format!("DELETE FROM {table} WHERE key = ?1"), [key]),
                    Some(item) => {
                        let metadata = (!item.metadata.is_empty())
                            .then(|| serde_json::to_string(&item.metadata))
                            .transpose()
                            .map_err(|error| {
                                Error::internal("cannot write the metadata").with_source(error)
                            })?;
                        connection.execute(
                            &format!(
                                "REPLACE INTO {table} (key, value, version, metadata) VALUES (?1, ?2, ?3, ?4)"
                            ),
                            (key, item.value, item.version, metadata),
                        )
                    }
                };
                done.map(drop)
                    .map_err(|error| failed("cannot write the configuration", error))
            })
            .await
    }
}

impl ConfigurationStore for SqliteConfigurationStore {
    async fn get(&self, keys: &[String], _metadata: &Metadata) -> Result<Items, Error> {
        self.reader.read(keys).await
    }

    async fn subscribe(
        &self,
        keys: Vec<String>,
        _metadata: Metadata,
        handler: Arc<dyn UpdateHandler>,
    ) -> Result<Box<dyn Watching>, Error> {
        self.watcher.subscribe(keys, handler).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.reader.database.ping().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.watcher.close();
        self.reader.database.close().await;
        Ok(())
    }
}
