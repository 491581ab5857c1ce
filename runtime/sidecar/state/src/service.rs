//! State operations with prefix, encryption, resiliency and metrics laid around them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Instant, SystemTime},
};

use arc_swap::ArcSwap;
use outrigger_component::{Answer, Error, ErrorKind, Properties};
use outrigger_engine_resiliency::ComponentKind;
use outrigger_sidecar_api::{ApiError, Components, Loaded, Missing, errors};
use outrigger_sidecar_resilience::{Policy, ResilienceProvider, RunError};
use outrigger_state::{Etag, Item, Operation, ReadOptions, SharedStateStore, Value};
use outrigger_telemetry::{Metrics, metrics::ComponentCall};
use outrigger_types::{AppId, ComponentName, StateKey};

use crate::{EncryptionKeys, KeyPrefix, Outbox, TraceInfo, batch::Batch};

/// Metadata of an answer that tells when an item vanishes.
const EXPIRES: &str = "ttlExpireTime";

/// What the service needs.
#[derive(Clone)]
pub struct StateServiceOptions {
    /// The app, for key prefixes.
    pub app_id: AppId,
    /// `NAMESPACE`, if it is set.
    pub namespace: Option<String>,
    /// The state stores.
    pub stores: Arc<Components<SharedStateStore>>,
    /// Policies; replaced when Resiliency resources change.
    pub resilience: Arc<ArcSwap<ResilienceProvider>>,
    /// Where operations are counted.
    pub metrics: Metrics,
    /// The outbox, if pub/sub is there.
    pub outbox: Option<Arc<dyn Outbox>>,
}

impl std::fmt::Debug for StateServiceOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateServiceOptions")
            .field("app_id", &self.app_id)
            .finish_non_exhaustive()
    }
}

/// What the sidecar itself reads from a state store's file.
#[derive(Debug, Default)]
pub struct StoreSettings {
    /// Key prefix.
    pub prefix: KeyPrefix,
    /// Encryption at rest; `None` when off.
    pub encryption: Option<EncryptionKeys>,
}

impl StoreSettings {
    /// Reads the prefix setting; encryption keys are set by who resolves secrets.
    ///
    /// # Errors
    /// When the prefix is not allowed.
    pub fn from_properties(store: &str, properties: &Properties) -> Result<Self, ApiError> {
        Ok(Self {
            prefix: KeyPrefix::from_properties(store, properties)?,
            encryption: None,
        })
    }
}

/// The state building block as served to the app.
#[derive(Debug)]
pub struct StateService {
    pub(crate) options: StateServiceOptions,
    settings: ArcSwap<HashMap<ComponentName, Arc<StoreSettings>>>,
}

/// A store with its settings, found for one request.
pub(crate) struct Store {
    pub(crate) loaded: Arc<Loaded<SharedStateStore>>,
    pub(crate) settings: Arc<StoreSettings>,
}

impl Store {
    pub(crate) fn name(&self) -> &str {
        &self.loaded.name
    }
}

impl StateService {
    /// A service over these stores.
    #[must_use]
    pub fn new(options: StateServiceOptions) -> Self {
        Self {
            options,
            settings: ArcSwap::from_pointee(HashMap::new()),
        }
    }

    /// Sets what the sidecar reads from a store's file; before the store is put in place.
    pub fn configure(&self, store: &ComponentName, settings: StoreSettings) {
        let settings = Arc::new(settings);
        self.settings.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.insert(store.clone(), Arc::clone(&settings));
            all
        });
    }

    pub(crate) async fn store(&self, name: &str, app_id: &str) -> Result<Store, ApiError> {
        let loaded = self
            .options
            .stores
            .get(name)
            .await
            .map_err(|missing| match missing {
                Missing::NotConfigured => errors::state::not_configured(name, app_id),
                Missing::NotFound => errors::state::not_found(name, app_id),
                Missing::Unavailable(reason) => errors::state::not_found(name, app_id)
                    .with_codes(http::StatusCode::SERVICE_UNAVAILABLE, tonic::Code::Unavailable)
                    .with_context(&reason),
            })?;
        let settings = self.settings.load().get(name).cloned().unwrap_or_default();
        Ok(Store { loaded, settings })
    }

    pub(crate) fn key(&self, store: &Store, key: &str) -> Result<StateKey, ApiError> {
        let namespace = self.options.namespace.as_deref();
        store
            .settings
            .prefix
            .apply(store.name(), &self.options.app_id, namespace, key)
    }

    pub(crate) fn policy(&self, store: &Store) -> Policy {
        self.options
            .resilience
            .load()
            .component_outbound(store.name(), ComponentKind::Statestore)
    }

    fn count<T, E>(&self, store: &Store, operation: &str, outcome: &Result<T, E>, began: Option<Instant>) {
        if let Some(began) = began {
            self.options.metrics.component_call(
                ComponentCall::State,
                store.name(),
                operation,
                outcome.is_ok(),
                began.elapsed(),
            );
        }
    }

    fn clock(&self) -> Option<Instant> {
        self.options.metrics.is_enabled().then(Instant::now)
    }

    /// Reads one item, decrypted.
    pub(crate) async fn read(
        &self,
        store: &Store,
        key: &StateKey,
        options: &ReadOptions,
    ) -> Result<Option<Item>, RunError<Error>> {
        let began = self.clock();
        let read = self
            .policy(store)
            .run(|_| store.loaded.instance.get(key, options))
            .await;
        self.count(store, "get", &read, began);
        match (read?, &store.settings.encryption) {
            (Some(mut item), Some(keys)) => {
                item.value = Value::Binary(keys.decrypt(item.value.bytes()).map_err(RunError::Op)?);
                Ok(Some(item))
            }
            (item, _) => Ok(item),
        }
    }

    /// Reads several items, decrypted; answers in the order of the keys.
    pub(crate) async fn read_many(
        &self,
        store: &Store,
        keys: &[StateKey],
        options: &ReadOptions,
    ) -> Result<Vec<Result<Option<Item>, Error>>, RunError<Error>> {
        let began = self.clock();
        let read: Result<_, RunError<Error>> = self
            .policy(store)
            .run(|_| async { whole(store.loaded.instance.get_many(keys, options).await) })
            .await;
        self.count(store, "bulk_get", &read, began);
        let mut answers = read?;
        if let Some(keys) = &store.settings.encryption {
            for answer in &mut answers {
                if let Ok(Some(item)) = answer {
                    match keys.decrypt(item.value.bytes()) {
                        Ok(plain) => item.value = Value::Binary(plain),
                        Err(error) => *answer = Err(error),
                    }
                }
            }
        }
        Ok(answers)
    }

    /// Applies operations independently of one another; only what failed and may succeed is tried again. An entry that
    /// is an error is an operation that cannot be formed: it fails, the others are done. `name` is the metric's
    /// operation.
    pub(crate) async fn write_each(
        &self,
        store: &Store,
        operations: Vec<Result<Operation, Error>>,
        name: &str,
    ) -> Result<(), RunError<Error>> {
        let began = self.clock();
        let mut operations = operations;
        let written = match operations.pop() {
            Some(only) if operations.is_empty() => self.write_one(store, only).await,
            last => {
                operations.extend(last);
                self.write_batch(store, &Batch::new(operations)).await
            }
        };
        self.count(store, name, &written, began);
        written
    }

    async fn write_one(
        &self,
        store: &Store,
        operation: Result<Operation, Error>,
    ) -> Result<(), RunError<Error>> {
        let operation = operation.map_err(RunError::Op)?;
        let write = |_| store.loaded.instance.transact(vec![operation.clone()]);
        self.policy(store).run(write).await.map(|_| ())
    }

    async fn write_batch(&self, store: &Store, batch: &Batch) -> Result<(), RunError<Error>> {
        let attempt = |_| async {
            let (places, operations) = batch.left();
            if operations.is_empty() {
                return Ok(());
            }
            let answers = store.loaded.instance.apply_each(operations).await;
            batch.settle(places.into_iter().zip(answers))
        };
        self.policy(store).run(attempt).await?;
        batch.failure().map_or(Ok(()), |error| Err(RunError::Op(error)))
    }

    /// Applies operations all or none, through the outbox where the store has one.
    pub(crate) async fn transact(
        &self,
        store: &Store,
        operations: Vec<Operation>,
        trace: TraceInfo,
    ) -> Result<Result<Vec<Option<Etag>>, RunError<Error>>, ApiError> {
        let outbox = self
            .options
            .outbox
            .as_ref()
            .filter(|outbox| outbox.enabled(store.name()));
        let (operations, ticket) = match outbox {
            None => (operations, None),
            Some(outbox) => {
                let prepared = outbox
                    .prepare(store.name(), operations, trace)
                    .await
                    .map_err(|cause| errors::pubsub::outbox(&self.options.app_id, cause))?;
                (prepared.operations, Some(prepared.ticket))
            }
        };
        let began = self.clock();
        let done = self
            .policy(store)
            .run(|_| store.loaded.instance.transact(operations.clone()))
            .await;
        self.count(store, "transaction", &done, began);
        if let (Some(outbox), Some(ticket)) = (outbox, ticket) {
            outbox.settled(ticket, done.is_ok());
        }
        Ok(done)
    }

    /// Encrypts a value if the store wants that; `plain` is upstream's text of it.
    pub(crate) fn sealed(
        store: &Store,
        value: Value,
        plain: impl FnOnce(&Value) -> Vec<u8>,
    ) -> Result<Value, Error> {
        match &store.settings.encryption {
            None => Ok(value),
            Some(keys) => keys.encrypt(&plain(&value)).map(Value::Binary),
        }
    }
}

/// What holds of all keys is an error of the call and not of each: the backend is away, or the component decided on
/// an answer to the whole.
fn whole<T>(mut answers: Vec<Result<T, Error>>) -> Result<Vec<Result<T, Error>>, Error> {
    let of_all = |answer: &Result<T, Error>| {
        let error = answer.as_ref().err();
        error.is_some_and(|error| error.kind() == ErrorKind::Unavailable || error.answer().is_some())
    };
    if !answers.is_empty() && answers.iter().all(of_all) {
        return answers.swap_remove(0).map(|_| Vec::new());
    }
    Ok(answers)
}

/// The answer that the component decided itself, in place of the sidecar's row.
pub(crate) fn own_answer(error: &RunError<Error>) -> Option<&Answer> {
    match error {
        RunError::Op(error) => error.answer(),
        _ => None,
    }
}

/// The row for a surface that repeats the component's own answer where there is one.
pub(crate) fn or_own(error: &RunError<Error>, row: impl FnOnce() -> ApiError) -> ApiError {
    own_answer(error).map_or_else(row, ApiError::from_component)
}

/// Metadata of an answer.
pub(crate) fn item_metadata(item: &Item) -> Option<(&'static str, String)> {
    item.expires.map(|at| (EXPIRES, rfc3339(at)))
}

fn rfc3339(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at)
        .map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .unwrap_or_default()
}

/// The text of a component error, its chain on one line; etag errors with upstream's words.
pub(crate) fn error_text(error: &RunError<Error>) -> String {
    match error {
        RunError::Op(error) => error.chain(),
        other => other.to_string(),
    }
}
