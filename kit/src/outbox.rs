//! State and event in one transaction.
//!
//! [`Outbox::commit`] writes the caller's operations and the events they mean in one state transaction: both are
//! there or neither. A relay publishes the events right after and then forgets them. What a crash left unsent is
//! sent by [`Outbox::recover`] on the next start, before the service is ready. Delivery is at least once; a repeat
//! has the same event id. Events carry the trace of their commit (`traceparent`) unless they have one.
//!
//! Dapr's own outbox (component metadata `outboxPublishPubsub`) promises the same, but its events wait at least a
//! second by design, only one upsert's value can be the event, and nobody can see how many wait. This one needs
//! nothing of the sidecar but transactions and publishing.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::try_join_all;
use serde_json::Value;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::client::{Operation, Publication, StateStore};
use crate::{Client, Error, Event, telemetry};

/// Events wait in this many documents, so that writers of different subjects seldom meet. All instances of a
/// service must agree on it.
const SHARDS: usize = 8;
/// Events that one shard may hold; a commit beyond it is refused.
const MAX_WAITING: usize = 500;
/// How often the relay looks at all shards for what other instances left behind.
const SWEEP: Duration = Duration::from_secs(5);
/// The wait after a failed publish, doubling up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Tries to strike sent events off a shard that others write to.
const STRIKE_TRIES: usize = 20;

/// The outbox of one service. Clones share it.
#[derive(Debug, Clone)]
pub struct Outbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    state: StateStore,
    prefix: String,
    pubsub: String,
    topic: String,
    shards: Vec<Shard>,
}

#[derive(Debug, Default)]
struct Shard {
    /// Commits of this process take turns, so that they do not meet each other's etags.
    turn: Mutex<()>,
    /// One relay at a time keeps the order of events.
    relay: Mutex<()>,
    work: Notify,
    waiting: AtomicUsize,
}

impl Outbox {
    /// An outbox in `store`, under keys that begin with `prefix`, for events to `topic` of `pubsub`.
    pub fn new(
        client: &Client,
        store: &str,
        prefix: impl Into<String>,
        pubsub: impl Into<String>,
        topic: impl Into<String>,
    ) -> Self {
        Self(Arc::new(Inner {
            client: client.clone(),
            state: client.state(store),
            prefix: prefix.into(),
            pubsub: pubsub.into(),
            topic: topic.into(),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
        }))
    }

    fn key(&self, shard: usize) -> String {
        format!("{}outbox/{shard}", self.0.prefix)
    }

    /// The shard of a subject: the same in every instance and build, hence no seeded hasher.
    fn shard(subject: &str) -> usize {
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        subject.hash(&mut hasher);
        usize::try_from(hasher.finish() % SHARDS as u64).unwrap_or_default()
    }

    /// Carries out `operations` and keeps `events` for sending, all or nothing. `subject` chooses the shard; events
    /// of one subject are sent in the order of their commits.
    ///
    /// # Errors
    /// [`Error::Conflict`] where an etag of `operations` did not match, or another instance wrote to the shard:
    /// read again and repeat. [`Error::OutboxFull`] if too many events wait.
    pub async fn commit(
        &self,
        subject: &str,
        mut operations: Vec<Operation>,
        events: &[Event<Value>],
    ) -> Result<(), Error> {
        let index = Self::shard(subject);
        let shard = &self.0.shards[index];
        let key = self.key(index);
        let turn = shard.turn.lock().await;
        let stored = self.0.state.get::<Vec<Value>>(&key).await?;
        let (mut waiting, etag) = match stored {
            Some(item) => (item.value, item.etag),
            None => (Vec::new(), None),
        };
        if waiting.len() + events.len() > MAX_WAITING {
            return Err(Error::OutboxFull(waiting.len()));
        }
        let trace = telemetry::carried();
        for event in events {
            let mut event = serde_json::to_value(event).map_err(|source| Error::Json {
                what: "the event",
                source,
            })?;
            // It is sent later, by the relay, and still belongs to the request that committed it.
            if let Value::Object(attributes) = &mut event
                && !attributes.contains_key("traceparent")
            {
                let trace = trace.iter().cloned();
                attributes.extend(trace.map(|(name, value)| (name, Value::from(value))));
            }
            waiting.push(event);
        }
        operations.push(Operation::upsert(key, &waiting)?.if_match(etag.as_deref()));
        self.0.state.transaction(&operations).await?;
        drop(turn);
        shard.waiting.store(waiting.len(), Ordering::Relaxed);
        shard.work.notify_one();
        Ok(())
    }

    /// How many events wait to be sent, as last seen by this instance.
    pub fn waiting(&self) -> usize {
        self.0
            .shards
            .iter()
            .map(|shard| shard.waiting.load(Ordering::Relaxed))
            .sum()
    }

    /// Sends everything that waits now; for [`App::recover`](crate::App::recover).
    ///
    /// # Errors
    /// The first that occurs; what was sent until then is not sent again.
    pub async fn recover(&self) -> Result<(), Error> {
        try_join_all((0..SHARDS).map(|shard| self.drain(shard)))
            .await
            .map(drop)
    }

    /// Sends events as they are committed, until `stop`; then makes one last round.
    pub async fn relay(&self, stop: CancellationToken) {
        let shards = (0..SHARDS).map(|shard| self.relay_shard(shard, &stop));
        futures::future::join_all(shards).await;
    }

    async fn relay_shard(&self, index: usize, stop: &CancellationToken) {
        let shard = &self.0.shards[index];
        let mut pause = PAUSE.0;
        loop {
            let last = stop.is_cancelled();
            match self.drain(index).await {
                Ok(()) => pause = PAUSE.0,
                Err(error) if last => {
                    tracing::warn!(%error, "events stay in the outbox until the next start");
                }
                Err(error) => {
                    tracing::warn!(%error, ?pause, "cannot send events; they wait");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = stop.cancelled() => {}
                    }
                    pause = (pause * 2).min(PAUSE.1);
                    continue;
                }
            }
            if last {
                return;
            }
            tokio::select! {
                () = shard.work.notified() => {}
                () = tokio::time::sleep(SWEEP) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Sends the events of one shard in their order, then strikes them off.
    async fn drain(&self, index: usize) -> Result<(), Error> {
        let shard = &self.0.shards[index];
        let key = self.key(index);
        let _alone = shard.relay.lock().await;
        let Some(item) = self.0.state.get::<Vec<Value>>(&key).await? else {
            shard.waiting.store(0, Ordering::Relaxed);
            return Ok(());
        };
        shard.waiting.store(item.value.len(), Ordering::Relaxed);
        let mut sent = Vec::with_capacity(item.value.len());
        let mut failure = None;
        for stored in item.value {
            let bytes = serde_json::to_vec(&stored).unwrap_or_default();
            match Event::from_json(&bytes) {
                Ok(event) => {
                    let message = Publication::event(&event)
                        .metadata("partitionKey", event.subject.as_deref().unwrap_or_default());
                    let span = telemetry::sending(|name| event.extension(name));
                    let publish = self.0.client.publish(&self.0.pubsub, &self.0.topic, message);
                    if let Err(error) = publish.instrument(span).await {
                        failure = Some(error);
                        break;
                    }
                }
                // It was checked when it was written; somebody else changed it. It can never be sent.
                Err(error) => tracing::error!(%error, "dropping what is no event from the outbox"),
            }
            sent.push(stored);
        }
        if !sent.is_empty() {
            self.strike(index, &sent).await?;
        }
        failure.map_or(Ok(()), Err)
    }

    async fn strike(&self, index: usize, sent: &[Value]) -> Result<(), Error> {
        let shard = &self.0.shards[index];
        let key = self.key(index);
        let mut tries = 0;
        loop {
            let turn = shard.turn.lock().await;
            let Some(item) = self.0.state.get::<Vec<Value>>(&key).await? else {
                return Ok(());
            };
            let left: Vec<_> = item
                .value
                .into_iter()
                .filter(|event| !sent.contains(event))
                .collect();
            let write = Operation::upsert(key.clone(), &left)?.if_match(item.etag.as_deref());
            let written = self.0.state.save(&[write]).await;
            drop(turn);
            match written {
                Ok(()) => {
                    shard.waiting.store(left.len(), Ordering::Relaxed);
                    return Ok(());
                }
                Err(Error::Conflict { .. }) if tries < STRIKE_TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// FNV-1a: tiny, and its result never changes.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
