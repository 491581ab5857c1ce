//! The trait of state stores and its erased twin.

use std::{fmt, future::Future, sync::Arc};

use futures::future::BoxFuture;
use outrigger_component::Error;
use outrigger_types::StateKey;

use crate::{Etag, Item, KeyPage, KeyPattern, Operation, Query, QueryResult, ReadOptions, TtlDialect};

/// What a store can do, as data: layers refuse what is not there with Dapr's error, backends never check again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Items have versions (`ETAG`).
    pub etag: bool,
    /// Several operations at once (`TRANSACTIONAL`).
    pub transactional: bool,
    /// Items can expire (`TTL`).
    pub ttl: bool,
    /// Documents can be searched (`QUERY_API`).
    pub query: bool,
    /// All keys of a prefix can be removed at once (`DELETE_WITH_PREFIX`).
    pub delete_with_prefix: bool,
    /// Keys can be listed by a pattern (`KEYS_LIKE`).
    pub keys_like: bool,
    /// How times to live are read.
    pub ttl_dialect: TtlDialect,
    /// At most this many operations in one transaction.
    pub max_transaction: Option<usize>,
    /// Names left out of [`Capabilities::names`]: what the store can do although Dapr's component of the same type
    /// does not say so.
    pub unlisted: &'static [&'static str],
}

impl Capabilities {
    /// Dapr's feature names, in the order the metadata API lists them.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        [
            (self.etag, "ETAG"),
            (self.transactional, "TRANSACTIONAL"),
            (self.ttl, "TTL"),
            (self.query, "QUERY_API"),
            (self.delete_with_prefix, "DELETE_WITH_PREFIX"),
            (self.keys_like, "KEYS_LIKE"),
        ]
        .into_iter()
        .filter_map(|(has, name)| (has && !self.unlisted.contains(&name)).then_some(name))
        .collect()
    }
}

/// A state store. All methods are safe to cancel: a dropped future either applied wholly or not at all, but the
/// caller no longer learns which. An acknowledged write survives a crash of the process (and of the machine where
/// the backend promises it).
pub trait StateStore: fmt::Debug + Send + Sync + 'static {
    /// What this store can do. Constant over its life.
    fn capabilities(&self) -> Capabilities;

    /// Feature names as the metadata API lists them. A store that is told its features by another process repeats
    /// them, also those that mean nothing to us.
    fn features(&self) -> Vec<String> {
        self.capabilities()
            .names()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// At most this many operations in one transaction; `None` for no bound. A store of another process is asked when
    /// first somebody wants to know.
    fn transaction_limit(&self) -> impl Future<Output = Option<usize>> + Send {
        async { self.capabilities().max_transaction }
    }

    /// Reads one item; `None` when absent or expired.
    fn get(
        &self,
        key: &StateKey,
        options: &ReadOptions,
    ) -> impl Future<Output = Result<Option<Item>, Error>> + Send;

    /// Reads several items, answers in the order of the keys. The default asks for them one after the other.
    fn get_many(
        &self,
        keys: &[StateKey],
        options: &ReadOptions,
    ) -> impl Future<Output = Vec<Result<Option<Item>, Error>>> + Send {
        async move {
            let mut answers = Vec::with_capacity(keys.len());
            for key in keys {
                answers.push(self.get(key, options).await);
            }
            answers
        }
    }

    /// Applies all operations in order or none, isolated from others. Answers the new etag of each (deletes have
    /// none, nor have unconditional sets whose value another caller's replaced at once). Stores without the transactional capability are only ever given one operation.
    ///
    /// # Errors
    /// `EtagMismatch` when one expectation does not hold, `EtagInvalid` when an etag is not of this store's form.
    fn transact(
        &self,
        operations: Vec<Operation>,
    ) -> impl Future<Output = Result<Vec<Option<Etag>>, Error>> + Send;

    /// Applies operations independently of one another, answers in order. The default makes one transaction each;
    /// a backend may pipeline.
    fn apply_each(
        &self,
        operations: Vec<Operation>,
    ) -> impl Future<Output = Vec<Result<Option<Etag>, Error>>> + Send {
        async move {
            let mut answers = Vec::with_capacity(operations.len());
            for operation in operations {
                answers.push(
                    self.transact(vec![operation])
                        .await
                        .map(|mut etags| etags.pop().flatten()),
                );
            }
            answers
        }
    }

    /// Lists keys (capability `keys_like`).
    fn keys(&self, _pattern: KeyPattern) -> impl Future<Output = Result<KeyPage, Error>> + Send {
        async { Err(Error::unsupported("the state store does not list keys")) }
    }

    /// Removes the keys `<prefix>||<rest>` where the rest has no further `||` (capability `delete_with_prefix`);
    /// answers how many. The `||` is added to a prefix that does not end with it (contrib `state/requests.go`).
    ///
    /// # Errors
    /// `InvalidRequest` when the prefix is empty or `||`.
    fn delete_prefix(&self, _prefix: &str) -> impl Future<Output = Result<u64, Error>> + Send {
        async { Err(Error::unsupported("the state store does not delete by prefix")) }
    }

    /// Searches documents (capability `query`).
    fn query(
        &self,
        _query: Query,
        _options: ReadOptions,
    ) -> impl Future<Output = Result<QueryResult, Error>> + Send {
        async { Err(Error::unsupported("the state store does not support queries")) }
    }

    /// Whether the backend answers.
    fn ping(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// Stops background work and lets go of connections and files. Later calls answer `Closed`.
    fn close(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
}

/// The erased twin of [`StateStore`]: what callers hold and layers wrap. Implemented for every store.
pub trait DynStateStore: fmt::Debug + Send + Sync + 'static {
    /// See [`StateStore::capabilities`].
    fn capabilities(&self) -> Capabilities;
    /// See [`StateStore::features`].
    fn features(&self) -> Vec<String>;
    /// See [`StateStore::transaction_limit`].
    fn transaction_limit(&self) -> BoxFuture<'_, Option<usize>>;
    /// See [`StateStore::get`].
    fn get<'a>(
        &'a self,
        key: &'a StateKey,
        options: &'a ReadOptions,
    ) -> BoxFuture<'a, Result<Option<Item>, Error>>;
    /// See [`StateStore::get_many`].
    fn get_many<'a>(
        &'a self,
        keys: &'a [StateKey],
        options: &'a ReadOptions,
    ) -> BoxFuture<'a, Vec<Result<Option<Item>, Error>>>;
    /// See [`StateStore::transact`].
    fn transact(&self, operations: Vec<Operation>) -> BoxFuture<'_, Result<Vec<Option<Etag>>, Error>>;
    /// See [`StateStore::apply_each`].
    fn apply_each(&self, operations: Vec<Operation>) -> BoxFuture<'_, Vec<Result<Option<Etag>, Error>>>;
    /// See [`StateStore::keys`].
    fn keys(&self, pattern: KeyPattern) -> BoxFuture<'_, Result<KeyPage, Error>>;
    /// See [`StateStore::delete_prefix`].
    fn delete_prefix<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<u64, Error>>;
    /// See [`StateStore::query`].
    fn query(&self, query: Query, options: ReadOptions) -> BoxFuture<'_, Result<QueryResult, Error>>;
    /// See [`StateStore::ping`].
    fn ping(&self) -> BoxFuture<'_, Result<(), Error>>;
    /// See [`StateStore::close`].
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// A shared store.
pub type SharedStateStore = Arc<dyn DynStateStore>;

impl<S: StateStore> DynStateStore for S {
    fn capabilities(&self) -> Capabilities {
        StateStore::capabilities(self)
    }
    fn features(&self) -> Vec<String> {
        StateStore::features(self)
    }
    fn transaction_limit(&self) -> BoxFuture<'_, Option<usize>> {
        Box::pin(StateStore::transaction_limit(self))
    }
    fn get<'a>(
        &'a self,
        key: &'a StateKey,
        options: &'a ReadOptions,
    ) -> BoxFuture<'a, Result<Option<Item>, Error>> {
        Box::pin(StateStore::get(self, key, options))
    }
    fn get_many<'a>(
        &'a self,
        keys: &'a [StateKey],
        options: &'a ReadOptions,
    ) -> BoxFuture<'a, Vec<Result<Option<Item>, Error>>> {
        Box::pin(StateStore::get_many(self, keys, options))
    }
    fn transact(&self, operations: Vec<Operation>) -> BoxFuture<'_, Result<Vec<Option<Etag>>, Error>> {
        Box::pin(StateStore::transact(self, operations))
    }
    fn apply_each(&self, operations: Vec<Operation>) -> BoxFuture<'_, Vec<Result<Option<Etag>, Error>>> {
        Box::pin(StateStore::apply_each(self, operations))
    }
    fn keys(&self, pattern: KeyPattern) -> BoxFuture<'_, Result<KeyPage, Error>> {
        Box::pin(StateStore::keys(self, pattern))
    }
    fn delete_prefix<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(StateStore::delete_prefix(self, prefix))
    }
    fn query(&self, query: Query, options: ReadOptions) -> BoxFuture<'_, Result<QueryResult, Error>> {
        Box::pin(StateStore::query(self, query, options))
    }
    fn ping(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(StateStore::ping(self))
    }
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(StateStore::close(self))
    }
}
