//! Sidecars in memory, for tests of services without any runtime (E1.15).
//!
//! A [`Cluster`] holds what sidecars share: state stores, topics, who is where. Each [`Sidecar`] listens on a port of
//! its own and speaks the part of Dapr's HTTP API that the client uses: state with etags, TTL, bulk and
//! transactions, publish, programmatic and streaming subscriptions with redelivery, invocation by app-id over all instances,
//! secrets, configuration, locks, bindings, metadata and health. Faults can be set: a sidecar that is down, a broker
//! that refuses, answers that get lost.

mod blocks;
mod broker;
mod sidecar;
mod state;
mod stream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::Value;

use broker::Broker;
pub use sidecar::Sidecar;
use state::Stores;

/// What all sidecars of a test share. Clones are the same cluster.
#[derive(Debug, Clone, Default)]
pub struct Cluster(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    stores: Stores,
    broker: Broker,
    /// The instances of each app, and whose turn it is.
    apps: Mutex<BTreeMap<String, Vec<Arc<Place>>>>,
    turn: AtomicUsize,
    secrets: Mutex<BTreeMap<String, BTreeMap<String, Secret>>>,
    configuration: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    locks: Mutex<BTreeMap<String, (String, tokio::time::Instant)>>,
    bindings: Mutex<Vec<BindingCall>>,
    bindings_fail: AtomicBool,
    /// Prepared answers of conversation components, by what is said to them.
    conversations: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    /// Who asked to be told of configuration changes.
    watchers: Mutex<Vec<Watcher>>,
    /// Name and type of components, as the metadata lists them.
    components: Mutex<BTreeMap<String, String>>,
}

/// A configuration subscription of one sidecar.
#[derive(Debug)]
struct Watcher {
    store: String,
    /// All if empty.
    keys: Vec<String>,
    id: String,
    sidecar: std::sync::Weak<sidecar::Inner>,
}

/// The keys and values of one secret.
type Secret = BTreeMap<String, String>;

/// One sidecar as the others see it.
#[derive(Debug)]
struct Place {
    app_id: String,
    app: Mutex<Option<SocketAddr>>,
    app_token: Option<String>,
    down: AtomicBool,
}

/// An output binding as it was invoked.
#[derive(Debug, Clone, PartialEq)]
pub struct BindingCall {
    /// The binding.
    pub binding: String,
    /// The operation.
    pub operation: String,
    /// The data.
    pub data: Value,
}

/// Where an app is, as found for an invocation.
struct Target {
    address: SocketAddr,
    token: Option<String>,
}

impl Cluster {
    /// A cluster without sidecars.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a sidecar for one instance of an app, without tokens.
    ///
    /// # Errors
    /// If no port can be listened on.
    pub async fn sidecar(&self, app_id: &str) -> std::io::Result<Sidecar> {
        Sidecar::start(self.clone(), app_id, None, None).await
    }

    /// Starts a sidecar that asks its app for `api_token` and shows it `app_token`.
    ///
    /// # Errors
    /// If no port can be listened on.
    pub async fn sidecar_with_tokens(
        &self,
        app_id: &str,
        api_token: &str,
        app_token: &str,
    ) -> std::io::Result<Sidecar> {
        Sidecar::start(
            self.clone(),
            app_id,
            Some(api_token.to_owned()),
            Some(app_token.to_owned()),
        )
        .await
    }

    /// Adds a secret.
    pub fn set_secret(&self, store: &str, secret: &str, key: &str, value: &str) {
        let mut secrets = self.0.secrets.lock();
        let values = secrets
            .entry(store.to_owned())
            .or_default()
            .entry(secret.to_owned())
            .or_default();
        values.insert(key.to_owned(), value.to_owned());
    }

    /// Sets a configuration value and tells the apps that subscribed to it.
    pub fn set_configuration(&self, store: &str, key: &str, value: &str) {
        self.0
            .configuration
            .lock()
            .entry(store.to_owned())
            .or_default()
            .insert(key.to_owned(), value.to_owned());
        let mut watchers = self.0.watchers.lock();
        watchers.retain(|watcher| watcher.sidecar.strong_count() > 0);
        for watcher in watchers.iter() {
            let wanted = watcher.keys.is_empty() || watcher.keys.iter().any(|wanted| wanted == key);
            if watcher.store == store
                && wanted
                && let Some(sidecar) = watcher.sidecar.upgrade()
            {
                let (store, key, value) = (store.to_owned(), key.to_owned(), value.to_owned());
                let id = watcher.id.clone();
                tokio::spawn(async move { sidecar.tell_configuration(&id, &store, &key, &value).await });
            }
        }
    }

    /// Lists a component in the sidecars' metadata.
    pub fn add_component(&self, name: &str, kind: &str) {
        self.0.components.lock().insert(name.to_owned(), kind.to_owned());
    }

    /// Makes every publish fail with 500, as when the broker is down, or work again.
    pub fn set_broker_down(&self, down: bool) {
        self.0.broker.set_down(down);
    }

    /// Makes every publish to a topic be answered with `status`, or (`None`) work again: 403 as where the app may not
    /// publish to it, 500 as where the broker does not take it for reasons of its own.
    pub fn refuse_topic(&self, topic: &str, status: Option<http::StatusCode>) {
        self.0.broker.set_refused(topic, status);
    }

    /// The events published to a topic so far, oldest first.
    pub fn published(&self, topic: &str) -> Vec<Value> {
        self.0.broker.published(topic)
    }

    /// How many events were published to a topic so far.
    pub fn published_count(&self, topic: &str) -> usize {
        self.0.broker.published_count(topic)
    }

    /// The output bindings invoked so far.
    pub fn binding_calls(&self) -> Vec<BindingCall> {
        self.0.bindings.lock().clone()
    }

    /// Makes every output binding fail with 500, or work again.
    pub fn set_bindings_down(&self, down: bool) {
        self.0.bindings_fail.store(down, Ordering::Relaxed);
    }

    /// Adds a conversation component that answers `said` with `answer`, and everything else with itself.
    pub fn set_conversation(&self, component: &str, said: &str, answer: &str) {
        self.0
            .conversations
            .lock()
            .entry(component.to_owned())
            .or_default()
            .insert(said.to_owned(), answer.to_owned());
    }

    /// The keys of a state store, in their order.
    pub fn state_keys(&self, store: &str) -> Vec<String> {
        self.0.stores.keys(store)
    }

    /// Makes the next `count` writes to state take place but lose their answers (500), as when a sidecar is killed
    /// between commit and answer.
    pub fn lose_state_answers(&self, count: usize) {
        self.0.stores.lose_answers(count);
    }

    fn enter(&self, place: Arc<Place>) {
        self.0
            .apps
            .lock()
            .entry(place.app_id.clone())
            .or_default()
            .push(place);
    }

    fn leave(&self, place: &Arc<Place>) {
        if let Some(places) = self.0.apps.lock().get_mut(&place.app_id) {
            places.retain(|other| !Arc::ptr_eq(other, place));
        }
    }

    /// The next instance of an app, in turn.
    fn target(&self, app_id: &str) -> Option<Target> {
        let apps = self.0.apps.lock();
        let up: Vec<_> = apps
            .get(app_id)?
            .iter()
            .filter(|place| !place.down.load(Ordering::Relaxed))
            .filter_map(|place| {
                Some(Target {
                    address: (*place.app.lock())?,
                    token: place.app_token.clone(),
                })
            })
            .collect();
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        let index = turn.checked_rem(up.len())?;
        up.into_iter().nth(index)
    }
}
