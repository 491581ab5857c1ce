//! The configuration store.

use std::sync::Arc;

use futures::future::BoxFuture;
use outrigger_component::{Error, Host, Metadata};
use outrigger_configuration::{ConfigurationStore, Items, UpdateHandler, Watching};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::{
    config::{Config, check_keys},
    listener::{Listener, Place},
    reader::Reader,
    subscription,
};
use crate::{database::Database, statement::Param};

/// `configuration.postgresql`. Subscriptions share one connection beside the pool's.
#[derive(Debug)]
pub struct PostgresConfigurationStore {
    config: Config,
    database: Arc<Database>,
    reader: Reader,
    listener: Listener,
}

impl PostgresConfigurationStore {
    pub(super) async fn open(config: Config, host: &Host) -> Result<Self, Error> {
        let database = Arc::new(Database::open(&config.settings, host).await?);
        let table = &config.table;
        let found = database
            .read(
                "error in checking if configtable exists",
                "SELECT to_regclass($1)::text",
                &[Param::Text(table)],
            )
            .await?;
        if !matches!(found.first().map(|row| row.text(0)), Some(Ok(Some(_)))) {
            return Err(Error::configuration(format!(
                "postgreSQL configuration table '{table}' does not exist"
            )));
        }
        Ok(Self {
            reader: Reader::new(database.clone(), table),
            listener: Listener::new(database.connector().clone()),
            database,
            config,
        })
    }
}

impl ConfigurationStore for PostgresConfigurationStore {
    async fn get(&self, keys: &[String], _metadata: &Metadata) -> Result<Items, Error> {
        check_keys(keys)?;
        self.reader.read(keys).await
    }

    async fn subscribe(
        &self,
        keys: Vec<String>,
        metadata: Metadata,
        handler: Arc<dyn UpdateHandler>,
    ) -> Result<Box<dyn Watching>, Error> {
        if self.database.is_closed() {
            return Err(crate::error::closed());
        }
        let channel = self.config.channel(&metadata)?;
        let (subscriber, inbox) = subscription::subscription(channel, keys.clone());
        let place = self.listener.add(subscriber, self.database.timeout()).await?;
        // Read after listening has begun, so that no change falls between the two.
        let seen = self.reader.read(&keys).await?;
        let task = tokio::spawn(subscription::run(self.reader.clone(), inbox, seen, handler));
        Ok(Box::new(Running {
            place: Mutex::new(Some(place)),
            task,
        }))
    }

    async fn ping(&self) -> Result<(), Error> {
        self.database.ping().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.listener.close();
        self.database.close();
        Ok(())
    }
}

struct Running {
    place: Mutex<Option<Place>>,
    task: JoinHandle<()>,
}

impl Watching for Running {
    fn close(&self) -> BoxFuture<'_, ()> {
        self.place.lock().take();
        self.task.abort();
        Box::pin(std::future::ready(()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}
