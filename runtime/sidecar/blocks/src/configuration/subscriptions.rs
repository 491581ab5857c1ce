//! The subscriptions that run.

use std::collections::HashMap;

use outrigger_configuration::Watching;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Most subscriptions at once: each holds a watcher in its store, so there must be a bound.
pub(super) const MAX_SUBSCRIPTIONS: usize = 1024;

/// One subscription.
pub(super) struct Subscription {
    /// Its store.
    pub(super) store: String,
    /// Stops updates at once, before the store has let go.
    pub(super) stop: CancellationToken,
    /// Its watcher.
    pub(super) watching: Box<dyn Watching>,
}

impl Subscription {
    async fn end(self) {
        self.stop.cancel();
        self.watching.close().await;
    }
}

/// The subscriptions by id; `None` once closed.
pub(super) struct Subscriptions(Mutex<Option<HashMap<String, Subscription>>>);

impl Default for Subscriptions {
    fn default() -> Self {
        Self(Mutex::new(Some(HashMap::new())))
    }
}

impl std::fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriptions")
            .field("count", &self.0.lock().as_ref().map(HashMap::len))
            .finish()
    }
}

impl Subscriptions {
    /// Why no further subscription may be made, if so.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        match &*self.0.lock() {
            None => Some("the sidecar is shutting down"),
            Some(running) if running.len() >= MAX_SUBSCRIPTIONS => Some("there are too many subscriptions"),
            Some(_) => None,
        }
    }

    /// Adds a subscription; gives it back when there is no place for it.
    pub(super) fn add(&self, id: &str, subscription: Subscription) -> Result<(), Subscription> {
        match &mut *self.0.lock() {
            Some(running) if running.len() < MAX_SUBSCRIPTIONS => {
                running.insert(id.to_owned(), subscription);
                Ok(())
            }
            _ => Err(subscription),
        }
    }

    /// Whether a subscription of that id runs.
    pub(super) fn has(&self, id: &str) -> bool {
        self.0
            .lock()
            .as_ref()
            .is_some_and(|running| running.contains_key(id))
    }

    /// Ends a subscription; `false` when there is none of that id.
    pub(super) async fn end(&self, id: &str) -> bool {
        let Some(subscription) = self.take(id) else {
            return false;
        };
        subscription.end().await;
        true
    }

    /// Takes a subscription out; dropping it ends it without waiting.
    pub(super) fn take(&self, id: &str) -> Option<Subscription> {
        self.0.lock().as_mut()?.remove(id)
    }

    /// Ends some subscriptions.
    pub(super) async fn end_where(&self, which: impl Fn(&Subscription) -> bool) {
        let ended: Vec<Subscription> = match &mut *self.0.lock() {
            None => return,
            Some(running) => running
                .extract_if(|_, subscription| which(subscription))
                .map(|(_, ended)| ended)
                .collect(),
        };
        futures::future::join_all(ended.into_iter().map(Subscription::end)).await;
    }

    /// Ends all subscriptions and takes no more.
    pub(super) async fn close(&self) {
        let Some(running) = self.0.lock().take() else {
            return;
        };
        futures::future::join_all(running.into_values().map(Subscription::end)).await;
    }
}
