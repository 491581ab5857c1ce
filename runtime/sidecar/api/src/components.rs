//! The components of one block, by name, while they come and go.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use outrigger_component::Properties;
use outrigger_types::ComponentName;
use tokio::sync::watch;

/// A component that is open.
#[derive(Debug)]
pub struct Loaded<T> {
    /// Its name.
    pub name: ComponentName,
    /// Its type, for example `state.sqlite`.
    pub type_name: String,
    /// Its version as the file says it.
    pub version: String,
    /// Its resolved metadata, for settings that the sidecar itself reads (`keyPrefix`, scopes, …).
    pub properties: Properties,
    /// The instance.
    pub instance: T,
}

/// Why a component could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// There is no component of this block at all.
    #[error("no component is configured")]
    NotConfigured,
    /// There is none of that name.
    #[error("not found")]
    NotFound,
    /// It is not open yet, or could not be opened; the text says why.
    #[error("{0}")]
    Unavailable(String),
}

#[derive(Debug)]
enum State<T> {
    Initialising,
    Ready(Arc<Loaded<T>>),
    Failed(String),
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Initialising => Self::Initialising,
            Self::Ready(loaded) => Self::Ready(Arc::clone(loaded)),
            Self::Failed(reason) => Self::Failed(reason.clone()),
        }
    }
}

#[derive(Debug)]
struct Slot<T> {
    state: watch::Sender<State<T>>,
    init_timeout: Duration,
}

/// The components of one block. Look-ups take no lock; changes copy the table.
///
/// A call to a component that is still initialising waits up to its init timeout (design D8), so that apps may call
/// as soon as the API answers.
#[derive(Debug)]
pub struct Components<T>(ArcSwap<HashMap<ComponentName, Arc<Slot<T>>>>);

impl<T> Default for Components<T> {
    fn default() -> Self {
        Self(ArcSwap::from_pointee(HashMap::new()))
    }
}

impl<T: Send + Sync + 'static> Components<T> {
    /// Announces a component that will be opened.
    pub fn announce(&self, name: &ComponentName, init_timeout: Duration) {
        let slot = Arc::new(Slot {
            state: watch::Sender::new(State::Initialising),
            init_timeout,
        });
        self.change(|table| {
            table.insert(name.clone(), Arc::clone(&slot));
        });
    }

    /// Takes an open component out to be opened anew: calls that come wait for its successor rather than fail. Gives
    /// back the one that was open.
    pub fn renew(&self, name: &ComponentName, init_timeout: Duration) -> Option<Arc<Loaded<T>>> {
        let old = self.ready(name);
        if old.is_some() || !self.is_initialising(name) {
            self.announce(name, init_timeout);
        }
        old
    }

    /// Puts an open component in place; gives back the one it replaces.
    pub fn insert(&self, loaded: Loaded<T>) -> Option<Arc<Loaded<T>>> {
        let name = loaded.name.clone();
        let loaded = Arc::new(loaded);
        if let Some(slot) = self.0.load().get(&name) {
            return match slot.state.send_replace(State::Ready(loaded)) {
                State::Ready(old) => Some(old),
                State::Initialising | State::Failed(_) => None,
            };
        }
        let slot = Arc::new(Slot {
            state: watch::Sender::new(State::Ready(loaded)),
            init_timeout: Duration::ZERO,
        });
        self.change(|table| {
            table.insert(name.clone(), Arc::clone(&slot));
        });
        None
    }

    /// Notes that an announced component could not be opened.
    pub fn fail(&self, name: &ComponentName, reason: impl Into<String>) {
        if let Some(slot) = self.0.load().get(name) {
            slot.state.send_replace(State::Failed(reason.into()));
        }
    }

    /// Takes a component out.
    pub fn remove(&self, name: &ComponentName) -> Option<Arc<Loaded<T>>> {
        let slot = self.0.load().get(name).cloned()?;
        self.change(|table| {
            table.remove(name);
        });
        match slot
            .state
            .send_replace(State::Failed("the component was removed".to_owned()))
        {
            State::Ready(old) => Some(old),
            State::Initialising | State::Failed(_) => None,
        }
    }

    /// The component, waiting for it if it is still initialising. Cancel-safe.
    ///
    /// # Errors
    /// See [`Missing`].
    pub async fn get(&self, name: &str) -> Result<Arc<Loaded<T>>, Missing> {
        let slot = {
            let table = self.0.load();
            if table.is_empty() {
                return Err(Missing::NotConfigured);
            }
            let slot = table.get(name).ok_or(Missing::NotFound)?;
            if let State::Ready(loaded) = &*slot.state.borrow() {
                return Ok(Arc::clone(loaded));
            }
            Arc::clone(slot)
        };
        let mut state = slot.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Initialising));
        match tokio::time::timeout(slot.init_timeout, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Ready(loaded) => Ok(Arc::clone(loaded)),
                State::Failed(reason) => Err(Missing::Unavailable(reason.clone())),
                State::Initialising => Err(Missing::Unavailable(
                    "the component is still initialising".to_owned(),
                )),
            },
            Ok(Err(_)) | Err(_) => Err(Missing::Unavailable(
                "the component is still initialising".to_owned(),
            )),
        }
    }

    /// The component if it is open now.
    #[must_use]
    pub fn ready(&self, name: &str) -> Option<Arc<Loaded<T>>> {
        match &*self.0.load().get(name)?.state.borrow() {
            State::Ready(loaded) => Some(Arc::clone(loaded)),
            State::Initialising | State::Failed(_) => None,
        }
    }

    /// Whether it was announced and is still to be opened.
    #[must_use]
    pub fn is_initialising(&self, name: &str) -> bool {
        self.0
            .load()
            .get(name)
            .is_some_and(|slot| matches!(&*slot.state.borrow(), State::Initialising))
    }

    /// All open components, in the order of their names.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Loaded<T>>> {
        let table = self.0.load();
        let mut all: Vec<_> = table
            .values()
            .filter_map(|slot| match &*slot.state.borrow() {
                State::Ready(loaded) => Some(Arc::clone(loaded)),
                State::Initialising | State::Failed(_) => None,
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Announced components that are not open, each with the reason.
    #[must_use]
    pub fn pending(&self) -> Vec<(ComponentName, String)> {
        self.0
            .load()
            .iter()
            .filter_map(|(name, slot)| match &*slot.state.borrow() {
                State::Ready(_) => None,
                State::Initialising => Some((name.clone(), "initialising".to_owned())),
                State::Failed(reason) => Some((name.clone(), reason.clone())),
            })
            .collect()
    }

    /// Whether there is no component, announced or open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    fn change(&self, change: impl Fn(&mut HashMap<ComponentName, Arc<Slot<T>>>)) {
        self.0.rcu(|table| {
            let mut table = HashMap::clone(table);
            change(&mut table);
            table
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(name: &str) -> Loaded<u8> {
        Loaded {
            name: name.into(),
            type_name: "state.test".to_owned(),
            version: "v1".to_owned(),
            properties: Properties::default(),
            instance: 1,
        }
    }

    #[tokio::test]
    async fn a_call_waits_for_an_initialising_component() {
        let components = Arc::new(Components::default());
        assert_eq!(components.get("a").await.unwrap_err(), Missing::NotConfigured);
        components.announce(&"a".into(), Duration::from_secs(5));
        assert_eq!(components.get("b").await.unwrap_err(), Missing::NotFound);
        let waiting = tokio::spawn({
            let components = Arc::clone(&components);
            async move { components.get("a").await.map(|loaded| loaded.instance) }
        });
        tokio::task::yield_now().await;
        assert!(components.insert(loaded("a")).is_none());
        assert_eq!(waiting.await.unwrap(), Ok(1));
        assert!(components.insert(loaded("a")).is_some());
        assert!(components.remove(&"a".into()).is_some());
        assert_eq!(components.get("a").await.unwrap_err(), Missing::NotConfigured);
    }

    #[tokio::test]
    async fn calls_wait_for_the_successor_of_a_renewed_component() {
        let components = Arc::new(Components::default());
        components.insert(loaded("a"));
        let old = components.renew(&"a".into(), Duration::from_secs(5)).unwrap();
        assert!(components.ready("a").is_none() && components.is_initialising("a"));
        let waiting = tokio::spawn({
            let components = Arc::clone(&components);
            async move { components.get("a").await }
        });
        tokio::task::yield_now().await;
        assert!(components.renew(&"a".into(), Duration::from_secs(5)).is_none());
        components.insert(loaded("a"));
        assert!(!Arc::ptr_eq(&waiting.await.unwrap().unwrap(), &old));
    }

    #[tokio::test]
    async fn a_failed_component_says_why() {
        let components = Components::<u8>::default();
        components.announce(&"a".into(), Duration::from_secs(5));
        components.fail(&"a".into(), "no such host");
        assert_eq!(
            components.get("a").await.unwrap_err(),
            Missing::Unavailable("no such host".to_owned())
        );
        assert_eq!(components.pending().len(), 1);
    }
}
