//! The configuration building block: trait, items, subscriptions, and a store in memory.

mod memory;

use std::{collections::BTreeMap, fmt, future::Future, sync::Arc};

use futures::future::BoxFuture;
use outrigger_component::{Error, Metadata};

pub use memory::{MemoryConfigurationStore, registration as memory_registration};

/// One configuration item.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Item {
    /// The value.
    pub value: String,
    /// Its version, as the backend writes it.
    pub version: String,
    /// What the backend adds.
    pub metadata: Metadata,
}

/// Items by key.
pub type Items = BTreeMap<String, Item>;

/// Takes updates; called one at a time for a subscription, in the order of the changes.
pub trait UpdateHandler: Send + Sync + 'static {
    /// Takes the items that changed; a deleted key arrives with an empty item, from PostgreSQL with its last.
    fn handle(&self, items: Items) -> BoxFuture<'_, ()>;
}

/// A running subscription. Dropping it stops it without waiting.
pub trait Watching: Send + Sync + 'static {
    /// Ends it. Idempotent.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A configuration store.
pub trait ConfigurationStore: fmt::Debug + Send + Sync + 'static {
    /// Reads items; no keys means all. Absent keys are left out.
    fn get(&self, keys: &[String], metadata: &Metadata) -> impl Future<Output = Result<Items, Error>> + Send;
    /// Watches keys (all when empty); a change reaches the handler within a second (A9.2).
    fn subscribe(
        &self,
        keys: Vec<String>,
        metadata: Metadata,
        handler: Arc<dyn UpdateHandler>,
    ) -> impl Future<Output = Result<Box<dyn Watching>, Error>> + Send;
    /// Whether the backend answers.
    fn ping(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
    /// Lets go of connections.
    fn close(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
}

/// The erased twin of [`ConfigurationStore`].
pub trait DynConfigurationStore: fmt::Debug + Send + Sync + 'static {
    /// See [`ConfigurationStore::get`].
    fn get<'a>(&'a self, keys: &'a [String], metadata: &'a Metadata) -> BoxFuture<'a, Result<Items, Error>>;
    /// See [`ConfigurationStore::subscribe`].
    fn subscribe(
        &self,
        keys: Vec<String>,
        metadata: Metadata,
        handler: Arc<dyn UpdateHandler>,
    ) -> BoxFuture<'_, Result<Box<dyn Watching>, Error>>;
    /// See [`ConfigurationStore::ping`].
    fn ping(&self) -> BoxFuture<'_, Result<(), Error>>;
    /// See [`ConfigurationStore::close`].
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// A shared configuration store.
pub type SharedConfigurationStore = Arc<dyn DynConfigurationStore>;

impl<S: ConfigurationStore> DynConfigurationStore for S {
    fn get<'a>(&'a self, keys: &'a [String], metadata: &'a Metadata) -> BoxFuture<'a, Result<Items, Error>> {
        Box::pin(ConfigurationStore::get(self, keys, metadata))
    }
    fn subscribe(
        &self,
        keys: Vec<String>,
        metadata: Metadata,
        handler: Arc<dyn UpdateHandler>,
    ) -> BoxFuture<'_, Result<Box<dyn Watching>, Error>> {
        Box::pin(ConfigurationStore::subscribe(self, keys, metadata, handler))
    }
    fn ping(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(ConfigurationStore::ping(self))
    }
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(ConfigurationStore::close(self))
    }
}
