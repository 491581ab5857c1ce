//! Configuration values that a service can always read: from the store, from the cache, or a default (E1.11).
//!
//! A [`Configuration`] names stores in their order of priority. It is read once at start, follows changes by
//! subscription where the store can tell them, and looks again from time to time. Reading a value never waits and
//! never fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::client::ConfigurationItem;
use crate::{Client, Error};

/// How often all values are read again, whatever was told in between.
const REFRESH: Duration = Duration::from_secs(30);
/// The wait before a store that could not be read is asked again.
const RETRY: Duration = Duration::from_secs(2);

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A store, now.
    Store,
    /// A store that does not answer at present.
    Cache,
    /// No store has it.
    Default,
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The value.
    pub value: String,
    /// Its version in the store; empty for a default.
    pub version: String,
    /// The store, unless it is a default.
    pub store: Option<String>,
    /// Whether the store answers.
    pub origin: Origin,
}

/// Values from stores in their order of priority. Clones share them.
#[derive(Debug, Clone)]
pub struct Configuration(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    keys: BTreeSet<String>,
    defaults: BTreeMap<String, String>,
    stores: Vec<Store>,
    changed: watch::Sender<u64>,
}

/// What is known of one store.
#[derive(Debug)]
struct Store {
    name: String,
    state: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    items: BTreeMap<String, ConfigurationItem>,
    answers: bool,
    subscribed: bool,
}

/// Makes a [`Configuration`].
#[derive(Debug)]
pub struct Builder {
    client: Client,
    keys: BTreeSet<String>,
    defaults: BTreeMap<String, String>,
    stores: Vec<String>,
}

impl Builder {
    /// Adds a store. Of several that have a key, the one added first counts.
    #[must_use]
    pub fn store(mut self, name: impl Into<String>) -> Self {
        self.stores.push(name.into());
        self
    }

    /// Follows a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.insert(key.into());
        self
    }

    /// Follows a key that is worth `value` when no store has it.
    #[must_use]
    pub fn default(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let key = key.into();
        self.keys.insert(key.clone());
        self.defaults.insert(key, value.into());
        self
    }

    /// Reads nothing yet; [`App::configuration`](crate::App::configuration) does, or [`Configuration::refresh`].
    pub fn build(self) -> Configuration {
        let stores = self
            .stores
            .into_iter()
            .map(|name| Store {
                name,
                state: RwLock::default(),
            })
            .collect();
        Configuration(Arc::new(Inner {
            client: self.client,
            keys: self.keys,
            defaults: self.defaults,
            stores,
            changed: watch::Sender::new(0),
        }))
    }
}

/// What the sidecar posts when values of a subscription changed.
#[derive(Debug, Deserialize)]
pub(crate) struct Update {
    #[serde(default)]
    items: BTreeMap<String, ConfigurationItem>,
}

impl Configuration {
    /// Starts to make one.
    pub fn builder(client: Client) -> Builder {
        Builder {
            client,
            keys: BTreeSet::new(),
            defaults: BTreeMap::new(),
            stores: Vec::new(),
        }
    }

    /// The value of a key as far as known: never waits, never fails.
    pub fn value(&self, key: &str) -> Option<Value> {
        for store in &self.0.stores {
            let known = store.state.read();
            if let Some(item) = known.items.get(key) {
                return Some(Value {
                    value: item.value.clone(),
                    version: item.version.clone(),
                    store: Some(store.name.clone()),
                    origin: if known.answers {
                        Origin::Store
                    } else {
                        Origin::Cache
                    },
                });
            }
        }
        self.0.defaults.get(key).map(|value| Value {
            value: value.clone(),
            version: String::new(),
            store: None,
            origin: Origin::Default,
        })
    }

    /// The value of a key as text.
    pub fn text(&self, key: &str) -> Option<String> {
        self.value(key).map(|value| value.value)
    }

    /// The value of a key as something that is read from text, such as a number. `None` also if it cannot be read.
    pub fn parse<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.text(key)?.trim().parse().ok()
    }

    /// Resolves at each change of any value. A receiver that was slow sees the last of several.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Reads all keys from all stores now. What a store that does not answer said before stays in force.
    ///
    /// # Errors
    /// The first store's that could not be read; the others have been read all the same.
    pub async fn refresh(&self) -> Result<(), Error> {
        let mut outcome = Ok(());
        for store in &self.0.stores {
            if let Err(error) = self.read(store).await {
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }

    async fn read(&self, store: &Store) -> Result<(), Error> {
        let keys: Vec<&str> = self.0.keys.iter().map(String::as_str).collect();
        match self.0.client.configuration(&store.name, &keys).await {
            Ok(items) => {
                let mut known = store.state.write();
                let changed = known.items != items;
                known.items = items;
                known.answers = true;
                drop(known);
                if changed {
                    self.tell();
                }
                Ok(())
            }
            Err(error) => {
                let mut known = store.state.write();
                known.answers = false;
                // A sidecar that went away has forgotten it.
                known.subscribed = false;
                Err(error)
            }
        }
    }

    /// Takes in what the sidecar posted about a store. A key without a value was removed.
    pub(crate) fn update(&self, store: &str, update: Update) {
        let Some(store) = self.0.stores.iter().find(|known| known.name == store) else {
            return;
        };
        let mut known = store.state.write();
        let mut changed = false;
        for (key, item) in update.items {
            if !self.0.keys.contains(&key) {
                continue;
            }
            changed |= if item.value.is_empty() && item.version.is_empty() {
                known.items.remove(&key).is_some()
            } else {
                known.items.insert(key, item.clone()).as_ref() != Some(&item)
            };
        }
        known.answers = true;
        drop(known);
        if changed {
            self.tell();
        }
    }

    fn tell(&self) {
        self.0.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Follows the stores until `stop`.
    pub(crate) async fn follow(self, stop: CancellationToken) {
        loop {
            let mut pause = REFRESH;
            for store in &self.0.stores {
                // Subscribing first leaves no gap between what is read and what is told.
                let known = store.state.read().subscribed;
                let subscribed = if known {
                    Ok(())
                } else {
                    self.subscribe(store).await
                };
                if let Err(error) = subscribed.and(self.read(store).await) {
                    tracing::warn!(store = store.name, %error, "a configuration store cannot be read; its last values stay in force");
                    pause = RETRY;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn subscribe(&self, store: &Store) -> Result<(), Error> {
        let keys: Vec<&str> = self.0.keys.iter().map(String::as_str).collect();
        match self.0.client.subscribe_configuration(&store.name, &keys).await {
            Ok(_) => store.state.write().subscribed = true,
            Err(error) if error.is_retryable() => return Err(error),
            // Not every store can tell of changes; it is read from time to time.
            Err(error) => {
                tracing::debug!(store = store.name, %error, "no subscription to a configuration store")
            }
        }
        Ok(())
    }
}
