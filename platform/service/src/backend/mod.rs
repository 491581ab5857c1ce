//! State and events, by the sidecar or by the gateway (requirements F1, F5, Z1).

mod gateway;
mod sidecar;

use std::sync::Arc;

use futures::future::BoxFuture;
use outrigger_kit::client::Verdict;
use outrigger_kit::{Ack, Client, Event, RetryPolicy};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Tries of [`Backend::update`] before it gives up against others who write the same key.
const UPDATE_TRIES: u32 = 50;

/// A value and its version.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The value.
    pub value: Value,
    /// Its version; changes with every write.
    pub etag: String,
}

impl Stored {
    /// The value as a `T`.
    ///
    /// # Errors
    /// [`BackendError::Malformed`] if it is none.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, BackendError> {
        T::deserialize(&self.value).map_err(|error| BackendError::Malformed(error.to_string()))
    }
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect<'a> {
    /// Anything: the last write wins.
    Any,
    /// No such key.
    Absent,
    /// The value of this version.
    Etag(&'a str),
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The stored value is not the one that was expected.
    #[error("somebody else wrote first: {0}")]
    Conflict(String),
    /// It may work later.
    #[error("{0}")]
    Unavailable(String),
    /// It will not work.
    #[error("{0}")]
    Refused(String),
    /// What is stored cannot be read.
    #[error("a stored value is not what it should be: {0}")]
    Malformed(String),
}

impl BackendError {
    /// Whether somebody else wrote first.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<BackendError> for tonic::Status {
    fn from(error: BackendError) -> Self {
        let message = error.to_string();
        match error {
            BackendError::Conflict(_) => Self::aborted(message),
            BackendError::Unavailable(_) => Self::unavailable(message),
            BackendError::Refused(_) | BackendError::Malformed(_) => Self::internal(message),
        }
    }
}

/// The two ways, as one.
trait Ways: std::fmt::Debug + Send + Sync {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, BackendError>>;
    fn save<'a>(
        &'a self,
        key: &'a str,
        value: Value,
        expect: Expect<'a>,
    ) -> BoxFuture<'a, Result<(), BackendError>>;
    fn delete<'a>(&'a self, key: &'a str, etag: Option<&'a str>) -> BoxFuture<'a, Result<(), BackendError>>;
    fn publish<'a>(
        &'a self,
        topic: &'a str,
        event: &'a Event<Value>,
    ) -> BoxFuture<'a, Result<(), BackendError>>;
    fn publish_all<'a>(
        &'a self,
        topic: &'a str,
        events: &'a [Event<Value>],
    ) -> BoxFuture<'a, Result<Vec<usize>, BackendError>>;
    fn subscribe<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Deliveries, BackendError>>;
}

/// State and events of one service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Backend(Arc<dyn Ways>);

impl Backend {
    /// By the sidecar: events are delivered at least once.
    pub fn sidecar(client: Client, state_store: &str, pubsub: &str) -> Self {
        Self(Arc::new(sidecar::Sidecar::new(client, state_store, pubsub)))
    }

    /// By the gateway's `State` and `Pubsub` services, in the name of `service` (F7). The gateway's streams know no
    /// verdicts: what was delivered is not delivered again.
    pub fn gateway(channel: tonic::transport::Channel, service: &str, retry: RetryPolicy) -> Self {
        Self(Arc::new(gateway::Gateway::new(channel, service, retry)))
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`BackendError`].
    pub async fn get(&self, key: &str) -> Result<Option<Stored>, BackendError> {
        self.0.get(key).await
    }

    /// Writes a key. A conditional write is never repeated, as the repeat could meet its own first try: after
    /// [`BackendError::Unavailable`] it may have taken place.
    ///
    /// # Errors
    /// [`BackendError::Conflict`] if what is there is not what was expected.
    pub async fn save(
        &self,
        key: &str,
        value: &(impl Serialize + ?Sized),
        expect: Expect<'_>,
    ) -> Result<(), BackendError> {
        let value =
            serde_json::to_value(value).map_err(|error| BackendError::Malformed(error.to_string()))?;
        self.0.save(key, value, expect).await
    }

    /// Removes a key, if `etag` is given only in that version. One that is not there is no error.
    ///
    /// # Errors
    /// [`BackendError::Conflict`] where the version did not match.
    pub async fn delete(&self, key: &str, etag: Option<&str>) -> Result<(), BackendError> {
        self.0.delete(key, etag).await
    }

    /// Changes a record that others may change as well: reads, applies `change`, writes if nobody else did, else
    /// begins anew. `change` gets `None` for a key that is not there; its own `None` leaves things as they are.
    ///
    /// # Errors
    /// [`BackendError::Conflict`] if others were first fifty times.
    pub async fn update<T: DeserializeOwned + Serialize>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<T>) -> Option<T>,
    ) -> Result<(), BackendError> {
        for attempt in 0..UPDATE_TRIES {
            let stored = self.get(key).await?;
            let present = stored.as_ref().map(Stored::read).transpose()?;
            let Some(next) = change(present) else {
                return Ok(());
            };
            let expect = stored
                .as_ref()
                .map_or(Expect::Absent, |stored| Expect::Etag(&stored.etag));
            match self.save(key, &next, expect).await {
                Err(error) if error.is_conflict() => {
                    // Spreads those who meet; the key is part of the record, not of the wait.
                    let spread = u64::from(uuid::Uuid::new_v4().as_bytes()[0] % 16);
                    let wait = u64::from(attempt.min(8)) * 2 + spread;
                    tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
                }
                outcome => return outcome,
            }
        }
        Err(BackendError::Conflict(format!(
            "{key}: others were first {UPDATE_TRIES} times"
        )))
    }

    /// Publishes an event as it is.
    ///
    /// # Errors
    /// [`BackendError`]; the event may have been published all the same, its id tells a repeat.
    pub async fn publish(&self, topic: &str, event: &Event<Value>) -> Result<(), BackendError> {
        self.0.publish(topic, event).await
    }

    /// Publishes events of one topic in their order, in one call where there is one; answers the places of those that
    /// were not taken. Their order is that of the events as long as all are taken.
    ///
    /// # Errors
    /// [`BackendError`] for all of them; any may have been published all the same, their ids tell repeats.
    pub async fn publish_all(
        &self,
        topic: &str,
        events: &[Event<Value>],
    ) -> Result<Vec<usize>, BackendError> {
        match events {
            [] => Ok(Vec::new()),
            [event] => self.0.publish(topic, event).await.map(|()| Vec::new()),
            events => self.0.publish_all(topic, events).await,
        }
    }

    /// Reads a topic from now on, through restarts of whoever delivers, until the answer is dropped.
    ///
    /// # Errors
    /// [`BackendError`] if the subscription cannot be had.
    pub async fn subscribe(&self, topic: &str) -> Result<Deliveries, BackendError> {
        self.0.subscribe(topic).await
    }
}

/// The events of a topic. Dropping it ends the subscription: events that have no verdict by then come again.
#[derive(Debug)]
pub struct Deliveries(Source);

#[derive(Debug)]
enum Source {
    Sidecar(outrigger_kit::client::Deliveries),
    Gateway {
        receiver: mpsc::Receiver<Delivery>,
        _reader: AbortOnDropHandle<()>,
    },
}

impl Deliveries {
    /// The next event.
    ///
    /// Cancel-safe: an event is not lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Delivery> {
        match &mut self.0 {
            Source::Sidecar(deliveries) => deliveries.next().await.map(|delivery| Delivery {
                event: delivery.event,
                topic: delivery.topic,
                verdict: Some(delivery.verdict),
            }),
            Source::Gateway { receiver, .. } => receiver.recv().await,
        }
    }
}

/// One event that waits for its verdict. Dropped without one, it asks to be delivered again, where that is known.
#[derive(Debug)]
pub struct Delivery {
    /// The event.
    pub event: Event<Value>,
    /// The topic that it was read from.
    pub topic: String,
    verdict: Option<Verdict>,
}

impl Delivery {
    /// Whether a verdict is heard, so that an event that asks for it is delivered again. The gateway's streams know
    /// none: who takes an event from them has to see it through.
    pub fn comes_again(&self) -> bool {
        self.verdict.is_some()
    }

    /// Tells what became of the event.
    pub fn settle(self, ack: Ack) {
        if let Some(verdict) = self.verdict {
            verdict.settle(ack);
        }
    }
}
