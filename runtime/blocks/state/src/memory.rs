//! `state.in-memory`: everything in one map, gone with the process (components-contrib `state/in-memory`).

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use outrigger_component::{Error, ErrorKind, Registration, Spec, open_with};
use outrigger_types::StateKey;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::{
    Capabilities, DynStateStore, Etag, Expect, Item, KeyPage, KeyPattern, Like, Operation, Query, QueryItem,
    QueryResult, ReadOptions, StateStore, Ttl, TtlDialect, Value, empty_pattern, empty_prefix, etag_mismatch,
    search,
};

/// How often expired items are removed while there are any that can expire; upstream's interval. Until then they
/// are invisible already.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The store. One lock over all: an operation holds it for a few hundred nanoseconds, a transaction needs all its
/// keys at once, and a sidecar's requests cost a hundred times as much around it.
pub struct MemoryStateStore {
    shared: Arc<Shared>,
    query: bool,
}

struct Shared {
    items: Mutex<Items>,
    clock: Clock,
}

#[derive(Default)]
struct Items {
    by_key: HashMap<StateKey, Entry>,
    /// Keys by the time they expire; the number is the entry's own.
    by_expiry: BTreeMap<(SystemTime, u64), StateKey>,
    /// Counts writes: the order keys are listed in.
    next_index: u64,
    sweeping: bool,
    closed: bool,
}

struct Entry {
    value: Value,
    etag: Etag,
    expires: Option<SystemTime>,
    index: u64,
}

impl Entry {
    fn is_live(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|expires| now <= expires)
    }
}

impl MemoryStateStore {
    /// An empty store on the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(SystemTime::now)
    }

    /// An empty store on another clock.
    pub fn with_clock(clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        let shared = Shared {
            items: Mutex::default(),
            clock: Arc::new(clock),
        };
        Self {
            shared: Arc::new(shared),
            query: false,
        }
    }

    /// With or without queries. Upstream's store has none and says so, therefore they must be asked for (A3.6).
    #[must_use]
    pub fn with_query(mut self, query: bool) -> Self {
        self.query = query;
        self
    }

    /// Starts the sweeper when the first item that can expire arrives; it ends with the last one.
    fn sweep_later(&self, items: &mut Items) {
        if items.sweeping || items.by_expiry.is_empty() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        items.sweeping = true;
        runtime.spawn(sweep(Arc::downgrade(&self.shared)));
    }
}

impl Default for MemoryStateStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStateStore").finish_non_exhaustive()
    }
}

async fn sweep(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let Some(shared) = shared.upgrade() else { return };
        let now = (shared.clock)();
        let mut items = shared.items.lock();
        while let Some((&(expires, _), key)) = items.by_expiry.first_key_value() {
            if expires >= now {
                break;
            }
            let key = key.clone();
            items.remove(&key);
        }
        if items.by_expiry.is_empty() {
            items.sweeping = false;
            return;
        }
    }
}

impl Items {
    fn live(&self, key: &StateKey, now: SystemTime) -> Option<&Entry> {
        self.by_key.get(key).filter(|entry| entry.is_live(now))
    }

    fn open(&self) -> Result<(), Error> {
        if self.closed {
            Err(Error::new(ErrorKind::Closed, "the component is closed"))
        } else {
            Ok(())
        }
    }

    fn check(&self, operation: &Operation, now: SystemTime) -> Result<(), Error> {
        let (Operation::Set { key, expect, .. } | Operation::Delete { key, expect, .. }) = operation;
        match (expect, self.live(key, now)) {
            (Expect::Any, _) | (Expect::Absent, None) => Ok(()),
            (Expect::Match(etag), Some(entry)) if *etag == entry.etag => Ok(()),
            (Expect::Absent, Some(_)) => {
                Err(etag_mismatch().with_source("item already exists and no etag was passed"))
            }
            (Expect::Match(_), None) => {
                Err(etag_mismatch().with_source(format!("state not exist or expired for key={key}")))
            }
            (Expect::Match(etag), Some(entry)) => Err(etag_mismatch().with_source(format!(
                "state etag not match for key={key}: current={}, expect={}",
                entry.etag.as_str(),
                etag.as_str()
            ))),
        }
    }

    fn apply(&mut self, operation: Operation, now: SystemTime) -> Option<Etag> {
        match operation {
            Operation::Set { key, value, ttl, .. } => {
                let etag = new_etag();
                let expires = match ttl {
                    Ttl::Seconds(seconds) if seconds > 0 => {
                        Some(now + Duration::from_secs(u64::from(seconds)))
                    }
                    Ttl::Seconds(_) | Ttl::Default | Ttl::Never => None,
                };
                let index = self.next_index;
                self.next_index += 1;
                if let Some(expires) = expires {
                    self.by_expiry.insert((expires, index), key.clone());
                }
                let entry = Entry {
                    value: owned(&value),
                    etag: etag.clone(),
                    expires,
                    index,
                };
                if let Some(Entry {
                    expires: Some(expires),
                    index,
                    ..
                }) = self.by_key.insert(key, entry)
                {
                    self.by_expiry.remove(&(expires, index));
                }
                Some(etag)
            }
            Operation::Delete { key, .. } => {
                self.remove(&key);
                None
            }
        }
    }

    fn remove(&mut self, key: &StateKey) {
        if let Some(Entry {
            expires: Some(expires),
            index,
            ..
        }) = self.by_key.remove(key)
        {
            self.by_expiry.remove(&(expires, index));
        }
    }
}

/// A copy: what arrives is often a slice of a request body or read buffer many times its size, which it would pin.
fn owned(value: &Value) -> Value {
    match value {
        Value::Json(bytes) => Value::Json(Bytes::copy_from_slice(bytes)),
        Value::Binary(bytes) => Value::Binary(Bytes::copy_from_slice(bytes)),
    }
}

fn new_etag() -> Etag {
    let mut buffer = Uuid::encode_buffer();
    Etag::new(&*Uuid::new_v4().hyphenated().encode_lower(&mut buffer))
}

impl StateStore for MemoryStateStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            etag: true,
            transactional: true,
            ttl: true,
            query: self.query,
            delete_with_prefix: true,
            keys_like: true,
            ttl_dialect: TtlDialect::Memory,
            ..Capabilities::default()
        }
    }

    async fn get(&self, key: &StateKey, _options: &ReadOptions) -> Result<Option<Item>, Error> {
        let now = (self.shared.clock)();
        let items = self.shared.items.lock();
        items.open()?;
        Ok(items.live(key, now).map(item))
    }

    async fn get_many(&self, keys: &[StateKey], _options: &ReadOptions) -> Vec<Result<Option<Item>, Error>> {
        let now = (self.shared.clock)();
        let items = self.shared.items.lock();
        keys.iter()
            .map(|key| items.open().map(|()| items.live(key, now).map(item)))
            .collect()
    }

    /// All expectations are checked against the state before the transaction, then all is applied.
    async fn transact(&self, operations: Vec<Operation>) -> Result<Vec<Option<Etag>>, Error> {
        let now = (self.shared.clock)();
        let mut items = self.shared.items.lock();
        items.open()?;
        for operation in &operations {
            items.check(operation, now)?;
        }
        let etags = operations
            .into_iter()
            .map(|operation| items.apply(operation, now))
            .collect();
        self.sweep_later(&mut items);
        Ok(etags)
    }

    async fn apply_each(&self, operations: Vec<Operation>) -> Vec<Result<Option<Etag>, Error>> {
        let now = (self.shared.clock)();
        let mut items = self.shared.items.lock();
        let answers = operations
            .into_iter()
            .map(|operation| {
                items.open()?;
                items.check(&operation, now)?;
                Ok(items.apply(operation, now))
            })
            .collect();
        self.sweep_later(&mut items);
        answers
    }

    async fn keys(&self, pattern: KeyPattern) -> Result<KeyPage, Error> {
        if pattern.like.is_empty() {
            return Err(empty_pattern());
        }
        let like = Like::new(&pattern.like);
        let from: u64 = match &pattern.token {
            None => 0,
            Some(token) => token
                .parse()
                .map_err(|error| Error::invalid("invalid continue token").with_source(error))?,
        };
        let now = (self.shared.clock)();
        let mut found: Vec<(u64, StateKey)> = {
            let items = self.shared.items.lock();
            items.open()?;
            let hits = items.by_key.iter().filter(|(key, entry)| {
                entry.index >= from && entry.is_live(now) && like.matches(key.as_str())
            });
            hits.map(|(key, entry)| (entry.index, key.clone())).collect()
        };
        found.sort_unstable_by_key(|(index, _)| *index);
        let size = pattern
            .page_size
            .filter(|size| *size > 0)
            .map_or(usize::MAX, |size| size as usize);
        let token = found.get(size).map(|(index, _)| index.to_string());
        Ok(KeyPage {
            keys: found.into_iter().take(size).map(|(_, key)| key).collect(),
            token,
        })
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
        let mut items = self.shared.items.lock();
        items.open()?;
        let doomed: Vec<StateKey> = items
            .by_key
            .keys()
            .filter(|key| {
                key.as_str()
                    .strip_prefix(&prefix)
                    .is_some_and(|rest| !rest.contains("||"))
            })
            .cloned()
            .collect();
        for key in &doomed {
            items.remove(key);
        }
        Ok(doomed.len() as u64)
    }

    async fn query(&self, query: Query, _options: ReadOptions) -> Result<QueryResult, Error> {
        if !self.query {
            return Err(Error::unsupported("the state store does not support queries"));
        }
        let now = (self.shared.clock)();
        let mut found: Vec<(u64, QueryItem)> = {
            let items = self.shared.items.lock();
            items.open()?;
            let live = items.by_key.iter().filter(|(_, entry)| entry.is_live(now));
            live.map(|(key, entry)| {
                let data = entry.value.bytes().clone();
                (
                    entry.index,
                    QueryItem {
                        key: key.clone(),
                        data,
                        etag: Some(entry.etag.clone()),
                    },
                )
            })
            .collect()
        };
        found.sort_unstable_by_key(|(index, _)| *index);
        search(found.into_iter().map(|(_, item)| item), &query)
    }

    async fn close(&self) -> Result<(), Error> {
        *self.shared.items.lock() = Items {
            closed: true,
            ..Items::default()
        };
        Ok(())
    }
}

fn item(entry: &Entry) -> Item {
    Item {
        value: entry.value.clone(),
        etag: Some(entry.etag.clone()),
        expires: entry.expires,
    }
}

/// The component type `state.in-memory`. Metadata, ours: `enableQuery` adds the query API.
#[must_use]
pub fn registration() -> Registration<dyn DynStateStore> {
    Registration {
        type_names: &["state.in-memory"],
        versions: &["v1"],
        validate,
    }
}

fn validate(spec: &Spec) -> Result<outrigger_component::Open<dyn DynStateStore>, Error> {
    let query = spec.properties.truthy("enableQuery");
    Ok(open_with(move |_host| async move {
        Ok(Arc::new(MemoryStateStore::new().with_query(query)) as Arc<dyn DynStateStore>)
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::{SharedStateStore, WriteOptions, suite};

    #[tokio::test]
    async fn behaves_as_a_state_store() {
        suite::run(|| async { Arc::new(MemoryStateStore::new().with_query(true)) as SharedStateStore }).await;
    }

    #[test]
    fn lists_the_names_upstream_lists() {
        let names = StateStore::capabilities(&MemoryStateStore::new()).names();
        assert_eq!(
            names,
            ["ETAG", "TRANSACTIONAL", "TTL", "DELETE_WITH_PREFIX", "KEYS_LIKE"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn expired_items_are_freed_without_being_touched() {
        let elapsed = Arc::new(AtomicU64::new(0));
        let clock = elapsed.clone();
        let store = MemoryStateStore::with_clock(move || {
            SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + clock.load(Ordering::Relaxed))
        });
        let set = |key: &str, ttl| Operation::Set {
            key: key.into(),
            value: Value::Binary(Bytes::new()),
            expect: Expect::Any,
            ttl,
            options: WriteOptions::default(),
        };
        let operations = vec![
            set("a", Ttl::Seconds(1)),
            set("b", Ttl::Seconds(5)),
            set("c", Ttl::Default),
        ];
        StateStore::transact(&store, operations).await.unwrap();
        // Written again: the old time must not remove it.
        StateStore::transact(&store, vec![set("b", Ttl::Never)])
            .await
            .unwrap();
        elapsed.store(2, Ordering::Relaxed);
        tokio::time::sleep(SWEEP_INTERVAL * 2).await;
        let items = store.shared.items.lock();
        assert_eq!(
            (items.by_key.len(), items.by_expiry.len(), items.sweeping),
            (2, 0, false)
        );
    }
}
