//! The distributed lock block: trait, and a store in memory.

mod memory;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use outrigger_component::Error;

pub use memory::{MemoryLockStore, registration as memory_registration};

/// What an unlock found; the numbers are Dapr's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlockStatus {
    /// Released.
    Success = 0,
    /// Nobody holds it.
    LockDoesNotExist = 1,
    /// Somebody else holds it.
    LockBelongsToOthers = 2,
    /// It could not be found out.
    InternalError = 3,
}

/// A lock store. A lock is held until it is released or its time is over, whichever comes first.
pub trait LockStore: fmt::Debug + Send + Sync + 'static {
    /// Takes the lock if it is free; `false` when somebody (the same owner included) holds it.
    fn try_lock(
        &self,
        resource: &str,
        owner: &str,
        expiry: Duration,
    ) -> impl Future<Output = Result<bool, Error>> + Send;
    /// Releases the lock if this owner holds it.
    fn unlock(&self, resource: &str, owner: &str)
    -> impl Future<Output = Result<UnlockStatus, Error>> + Send;
    /// Whether the backend answers.
    fn ping(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
    /// Lets go of connections.
    fn close(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
}

/// The erased twin of [`LockStore`].
pub trait DynLockStore: fmt::Debug + Send + Sync + 'static {
    /// See [`LockStore::try_lock`].
    fn try_lock<'a>(
        &'a self,
        resource: &'a str,
        owner: &'a str,
        expiry: Duration,
    ) -> BoxFuture<'a, Result<bool, Error>>;
    /// See [`LockStore::unlock`].
    fn unlock<'a>(&'a self, resource: &'a str, owner: &'a str) -> BoxFuture<'a, Result<UnlockStatus, Error>>;
    /// See [`LockStore::ping`].
    fn ping(&self) -> BoxFuture<'_, Result<(), Error>>;
    /// See [`LockStore::close`].
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// A shared lock store.
pub type SharedLockStore = Arc<dyn DynLockStore>;

impl<S: LockStore> DynLockStore for S {
    fn try_lock<'a>(
        &'a self,
        resource: &'a str,
        owner: &'a str,
        expiry: Duration,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(LockStore::try_lock(self, resource, owner, expiry))
    }
    fn unlock<'a>(&'a self, resource: &'a str, owner: &'a str) -> BoxFuture<'a, Result<UnlockStatus, Error>> {
        Box::pin(LockStore::unlock(self, resource, owner))
    }
    fn ping(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(LockStore::ping(self))
    }
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(LockStore::close(self))
    }
}
