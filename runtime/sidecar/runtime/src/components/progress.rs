//! Components that are on their way: those whose backend is away, those that wait for a secret store.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use outrigger_resources::kinds::{Component, Resource as _};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::Readiness;

/// The part of readiness that components are.
const PART: &str = "components";

/// What is still to come.
pub(crate) struct Progress {
    readiness: Arc<Readiness>,
    /// By name, why a component is not open yet.
    away: Mutex<BTreeMap<String, String>>,
    retries: Mutex<HashMap<String, CancellationToken>>,
    /// The store's name with the component as its file has it.
    waiting: Mutex<Vec<(String, Component)>>,
    given_up: watch::Sender<Option<String>>,
}

impl Progress {
    /// Nothing is on its way; what is will be a part of `readiness`.
    pub(crate) fn new(readiness: Arc<Readiness>) -> Self {
        Self {
            readiness,
            away: Mutex::default(),
            retries: Mutex::default(),
            waiting: Mutex::default(),
            given_up: watch::Sender::new(None),
        }
    }

    /// A backend does not answer.
    pub(super) fn away(&self, name: &str, reason: String) {
        self.away.lock().insert(name.to_owned(), reason);
        self.tell();
    }

    /// A component is open.
    pub(super) fn arrived(&self, name: &str) {
        self.retries.lock().remove(name);
        self.away.lock().remove(name);
        self.tell();
    }

    /// A component is retried until the token is cancelled.
    pub(super) fn retry(&self, name: &str) -> CancellationToken {
        let token = CancellationToken::new();
        let before = self.retries.lock().insert(name.to_owned(), token.clone());
        if let Some(before) = before {
            before.cancel();
        }
        token
    }

    /// A component's file is gone or another one: what was on its way for it no longer is.
    pub(super) fn forget(&self, name: &str) {
        if let Some(retry) = self.retries.lock().remove(name) {
            retry.cancel();
        }
        self.waiting
            .lock()
            .retain(|(_, component)| component.name() != name);
        self.away.lock().remove(name);
        self.tell();
    }

    /// The instance ends: nothing more is to come.
    pub(crate) fn end(&self) {
        for (_, retry) in self.retries.lock().drain() {
            retry.cancel();
        }
        self.waiting.lock().clear();
    }

    pub(super) fn wait_for_store(&self, store: String, component: Component) {
        self.waiting.lock().push((store, component));
    }

    /// Those that waited for a store, which is open now.
    pub(super) fn waiting_for_store(&self, store: &str) -> Vec<Component> {
        let mut waiting = self.waiting.lock();
        let (ready, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut *waiting)
            .into_iter()
            .partition(|(wanted, _)| wanted == store);
        *waiting = rest;
        ready.into_iter().map(|(_, component)| component).collect()
    }

    /// A component failed that the sidecar cannot go on without, while nobody waited for it.
    pub(super) fn give_up(&self, reason: String) {
        self.given_up.send_replace(Some(reason));
    }

    /// Waits for a failure that ends the sidecar. Cancel-safe.
    pub(crate) async fn gave_up(&self) -> String {
        let mut given_up = self.given_up.subscribe();
        let reason = given_up.wait_for(Option::is_some).await;
        // The sender is ours, so there is always a word.
        reason.ok().and_then(|reason| reason.clone()).unwrap_or_default()
    }

    fn tell(&self) {
        let away = self.away.lock();
        if away.is_empty() {
            self.readiness.ready(PART);
        } else {
            let reasons: Vec<&str> = away.values().map(String::as_str).collect();
            self.readiness.not_ready(PART, reasons.join("; "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_again_when_the_last_one_arrived() {
        let readiness = Arc::new(Readiness::default());
        let progress = Progress::new(Arc::clone(&readiness));
        progress.away("a", "a is away".to_owned());
        progress.away("b", "b is away".to_owned());
        progress.arrived("a");
        assert_eq!(readiness.missing(), "[components (b is away)]");
        progress.forget("b");
        assert!(readiness.is_ready());
    }

    #[test]
    fn those_that_wait_leave_with_their_store_or_their_file() {
        let progress = Progress::new(Arc::default());
        for name in ["a", "b"] {
            let mut component = Component::default();
            name.clone_into(&mut component.meta.name);
            progress.wait_for_store("vault".to_owned(), component);
        }
        progress.forget("a");
        assert!(progress.waiting_for_store("other").is_empty());
        let ready = progress.waiting_for_store("vault");
        assert_eq!(ready.iter().map(|c| c.name()).collect::<Vec<_>>(), ["b"]);
        assert!(progress.waiting_for_store("vault").is_empty());
    }
}
