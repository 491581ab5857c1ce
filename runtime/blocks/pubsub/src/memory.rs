//! `pubsub.in-memory`: a bus inside one sidecar.
//!
//! Behaves as components-contrib `pubsub/in-memory` (with `common/eventbus`): every subscription of a topic gets
//! every message whatever its group, a trailing `*` in the subscribed topic stands for one or more characters,
//! messages of a subscription come one after the other in the order of publishing, and a message nobody subscribed
//! to is gone. A delivery names the topic as it was subscribed, pattern included. A refused message is logged and
//! dropped, because the runtime's own inbound retries have been spent by then; `redeliverInterval` changes that.
//!
//! Other than upstream, publishing does not wait for handlers: a bounded queue per subscription takes the messages
//! and publishers wait only while it is full.

mod queue;
mod subscription;

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use outrigger_component::{Error, ErrorKind, Metadata, Open, Registration, Spec, open_with};
use outrigger_types::Topic;
use tokio::time::Instant;

use crate::{
    BulkFailure, Capabilities, DynPubSub, Handler, Outgoing, OutgoingEntry, PubSub, SubscribeRequest,
    Subscription,
};
use queue::{Item, Queue};

/// Metadata key of a message that names its ordering lane (A2.7).
const PARTITION_KEY: &str = "partitionKey";
/// Messages a subscription may hold before publishers wait. Upstream has no queue; redis' default is 100.
const QUEUE_DEPTH: usize = 1000;
/// The most a queue may be set to: bounds memory whatever the file says.
const MAX_QUEUE_DEPTH: usize = 1_000_000;
/// The most handlers of one subscription that may run at once.
const MAX_CONCURRENCY: usize = 10_000;
/// What closed subscriptions left behind waits this long for a successor: the gap of a hot reload.
const PARK_FOR: Duration = Duration::from_secs(60);
/// For how many subscriptions leftovers are kept.
const MAX_PARKED: usize = 64;

/// How the bus behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Messages a subscription holds, queued, waiting for redelivery or in a handler, before publishers wait.
    pub queue_depth: usize,
    /// Handlers of one subscription that run at once. Above one, only messages with equal `partitionKey` keep
    /// their order.
    pub concurrency: usize,
    /// When a refused message is delivered again; `None` drops it, as upstream does.
    pub redeliver_after: Option<Duration>,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            queue_depth: QUEUE_DEPTH,
            concurrency: 1,
            redeliver_after: None,
        }
    }
}

impl MemoryOptions {
    fn parse(spec: &Spec) -> Result<Self, Error> {
        let number = |name, default: usize, max: usize| {
            let value = spec.properties.number::<usize>(name)?.unwrap_or(default);
            if (1..=max).contains(&value) {
                Ok(value)
            } else {
                Err(Error::configuration(format!(
                    "metadata field {name:?} must be from 1 to {max}"
                )))
            }
        };
        Ok(Self {
            queue_depth: number("queueDepth", QUEUE_DEPTH, MAX_QUEUE_DEPTH)?,
            concurrency: number("concurrency", 1, MAX_CONCURRENCY)?,
            redeliver_after: spec
                .properties
                .duration("redeliverInterval")?
                .filter(|interval| !interval.is_zero()),
        })
    }
}

/// `pubsub.in-memory`. Metadata, all optional and ours (upstream has none):
///
/// | name | default | meaning |
/// | --- | --- | --- |
/// | `queueDepth` | 1000 | messages a subscription holds before publishers wait |
/// | `concurrency` | 1 | handlers of a subscription at once; above 1 order is kept per `partitionKey` only |
/// | `redeliverInterval` | 0 (never) | Go duration after which a refused message is delivered again |
#[must_use]
pub fn registration() -> Registration<dyn DynPubSub> {
    Registration {
        type_names: &["pubsub.in-memory"],
        versions: &["v1"],
        validate,
    }
}

fn validate(spec: &Spec) -> Result<Open<dyn DynPubSub>, Error> {
    let options = MemoryOptions::parse(spec)?;
    Ok(open_with(move |_host| async move {
        Ok(Arc::new(MemoryPubSub::with_options(options)) as Arc<dyn DynPubSub>)
    }))
}

/// A bus inside one process.
#[derive(Clone)]
pub struct MemoryPubSub(Arc<Bus>);

impl fmt::Debug for MemoryPubSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPubSub")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

impl Default for MemoryPubSub {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryPubSub {
    /// A bus that behaves as upstream's.
    #[must_use]
    pub fn new() -> Self {
        Self::with_options(MemoryOptions::default())
    }

    /// A bus with other bounds or with redelivery.
    #[must_use]
    pub fn with_options(options: MemoryOptions) -> Self {
        Self(Arc::new(Bus {
            options,
            queues: RwLock::default(),
            parked: Mutex::default(),
            closed: AtomicBool::new(false),
        }))
    }
}

impl PubSub for MemoryPubSub {
    fn capabilities(&self) -> Capabilities {
        // Bulk publishing is native but not announced: upstream's metadata lists wildcards alone.
        Capabilities {
            bulk_publish: false,
            message_ttl: false,
            wildcards: true,
        }
    }

    async fn publish(&self, message: Outgoing) -> Result<(), Error> {
        self.0.check_open()?;
        let queues = self.0.matching(&message.topic);
        if !queues.is_empty() {
            let item = self.0.item(message.data, message.metadata, Instant::now());
            self.0.push(&queues, &[item]).await;
        }
        Ok(())
    }

    async fn publish_bulk(
        &self,
        topic: &Topic,
        entries: Vec<OutgoingEntry>,
        _metadata: &Metadata,
    ) -> Vec<BulkFailure> {
        if self.0.check_open().is_err() {
            return entries
                .into_iter()
                .map(|entry| BulkFailure {
                    id: entry.id,
                    error: closed(),
                })
                .collect();
        }
        let queues = self.0.matching(topic);
        if !queues.is_empty() {
            let now = Instant::now();
            let items: Vec<_> = entries
                .into_iter()
                .map(|entry| self.0.item(entry.data, entry.metadata, now))
                .collect();
            self.0.push(&queues, &items).await;
        }
        Vec::new()
    }

    async fn subscribe(
        &self,
        request: SubscribeRequest,
        handler: Arc<dyn Handler>,
    ) -> Result<Subscription, Error> {
        self.0.check_open()?;
        if request.topic.is_empty() {
            return Err(Error::invalid("the topic is empty"));
        }
        Ok(Subscription::new(subscription::start(&self.0, request, handler)))
    }

    async fn close(&self) -> Result<(), Error> {
        self.0.closed.store(true, Ordering::Release);
        let queues = std::mem::take(&mut *self.0.queues.write().unwrap_or_else(PoisonError::into_inner));
        for queue in queues {
            queue.stop(queue::Phase::Closed);
        }
        Ok(())
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "component is closed")
}

/// Messages of a subscription that ended before its handler saw them.
struct Parked {
    group: String,
    topic: Topic,
    since: Instant,
    items: VecDeque<Item>,
}

struct Bus {
    options: MemoryOptions,
    queues: RwLock<Vec<Arc<Queue>>>,
    parked: Mutex<VecDeque<Parked>>,
    closed: AtomicBool,
}

impl Bus {
    fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) {
            Err(closed())
        } else {
            Ok(())
        }
    }

    fn item(&self, data: Bytes, metadata: Metadata, at: Instant) -> Item {
        // Lanes cost a lookup per message; a serial subscription without redelivery is in order anyway.
        let ordered = self.options.concurrency > 1 || self.options.redeliver_after.is_some();
        let key = if ordered {
            metadata.get(PARTITION_KEY).filter(|key| !key.is_empty())
        } else {
            None
        };
        Item {
            data,
            key: key.map(|key| Arc::from(key.as_str())),
            metadata: Arc::new(metadata),
            at,
        }
    }

    fn matching(&self, topic: &Topic) -> Vec<Arc<Queue>> {
        let queues = self.queues.read().unwrap_or_else(PoisonError::into_inner);
        queues
            .iter()
            .filter(|queue| matches(queue.topic(), topic))
            .cloned()
            .collect()
    }

    /// Gives the items to every queue; waits for the full ones after the others have theirs.
    async fn push(&self, queues: &[Arc<Queue>], items: &[Item]) {
        let mut full = Vec::new();
        for queue in queues {
            if !queue.try_push(items) {
                full.push(queue);
            }
        }
        for queue in full {
            queue.push(items).await;
        }
    }

    fn register(&self, queue: Arc<Queue>) {
        self.queues
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(queue);
    }

    fn unregister(&self, queue: &Arc<Queue>) {
        self.queues
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|other| !Arc::ptr_eq(other, queue));
    }

    fn park(&self, group: &str, topic: &Topic, items: VecDeque<Item>) {
        if items.is_empty() || self.closed.load(Ordering::Acquire) {
            return;
        }
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        if parked.len() == MAX_PARKED {
            parked.pop_front();
        }
        parked.push_back(Parked {
            group: group.to_owned(),
            topic: topic.clone(),
            since: Instant::now(),
            items,
        });
    }

    fn unpark(&self, group: &str, topic: &Topic) -> VecDeque<Item> {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        parked.retain(|left| left.since.elapsed() < PARK_FOR);
        let at = parked
            .iter()
            .position(|left| left.group == group && left.topic == *topic);
        at.and_then(|at| parked.remove(at))
            .map(|left| left.items)
            .unwrap_or_default()
    }
}

/// Whether a message of this topic belongs to what was subscribed; `a*` takes `ab` but not `a`.
fn matches(subscribed: &str, topic: &str) -> bool {
    subscribed == topic
        || subscribed
            .strip_suffix('*')
            .is_some_and(|prefix| topic.len() > prefix.len() && topic.starts_with(prefix))
}

#[cfg(test)]
mod tests;
