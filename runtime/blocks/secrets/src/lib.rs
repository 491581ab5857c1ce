//! The secrets building block: trait, capabilities, behaviour suite and a store in memory.

mod memory;
pub mod suite;

use std::{collections::BTreeMap, fmt, future::Future, sync::Arc};

use futures::future::BoxFuture;
use outrigger_component::{Error, Metadata, SecretString};

pub use memory::{MemorySecretStore, registration as memory_registration};

/// The keys and values of one secret.
pub type Secret = BTreeMap<String, SecretString>;

/// A secret store.
pub trait SecretStore: fmt::Debug + Send + Sync + 'static {
    /// Whether one secret may have several keys (`MULTIPLE_KEY_VALUES_PER_SECRET`).
    fn multi_valued(&self) -> bool {
        false
    }
    /// Reads one secret.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name.
    fn get(&self, name: &str, metadata: &Metadata) -> impl Future<Output = Result<Secret, Error>> + Send;
    /// Reads all secrets.
    fn all(
        &self,
        metadata: &Metadata,
    ) -> impl Future<Output = Result<BTreeMap<String, Secret>, Error>> + Send;
    /// Whether the backend answers.
    fn ping(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
    /// Lets go of connections.
    fn close(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
}

/// The erased twin of [`SecretStore`].
pub trait DynSecretStore: fmt::Debug + Send + Sync + 'static {
    /// See [`SecretStore::multi_valued`].
    fn multi_valued(&self) -> bool;
    /// See [`SecretStore::get`].
    fn get<'a>(&'a self, name: &'a str, metadata: &'a Metadata) -> BoxFuture<'a, Result<Secret, Error>>;
    /// See [`SecretStore::all`].
    fn all<'a>(&'a self, metadata: &'a Metadata) -> BoxFuture<'a, Result<BTreeMap<String, Secret>, Error>>;
    /// See [`SecretStore::ping`].
    fn ping(&self) -> BoxFuture<'_, Result<(), Error>>;
    /// See [`SecretStore::close`].
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// A shared secret store.
pub type SharedSecretStore = Arc<dyn DynSecretStore>;

impl<S: SecretStore> DynSecretStore for S {
    fn multi_valued(&self) -> bool {
        SecretStore::multi_valued(self)
    }
    fn get<'a>(&'a self, name: &'a str, metadata: &'a Metadata) -> BoxFuture<'a, Result<Secret, Error>> {
        Box::pin(SecretStore::get(self, name, metadata))
    }
    fn all<'a>(&'a self, metadata: &'a Metadata) -> BoxFuture<'a, Result<BTreeMap<String, Secret>, Error>> {
        Box::pin(SecretStore::all(self, metadata))
    }
    fn ping(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(SecretStore::ping(self))
    }
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(SecretStore::close(self))
    }
}
