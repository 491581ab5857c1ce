//! From received messages to events on a topic (I4): in order, in batches, never dropped in silence.
//!
//! What waits to be published is bounded in bytes; when it is full the socket is not read, and the server feels it.
//! While whoever passes events on is away, a batch is tried again until it works or publishing is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outrigger_kit::CancellationToken;
use outrigger_platform_service::Backend;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::DropGuard;

use crate::events::{self, Counts, Received};

/// What a message counts at least: it takes memory even when it is empty.
const LEAST_COST: usize = 512;
/// Bytes of one batch, unless a single message has more; as events in JSON they are half as many again, and sidecars
/// take 4 MiB.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// The wait before a batch is tried again: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long a stop waits for the batch under way.
const STOP: Duration = Duration::from_secs(5);
/// How long what still waits may take to leave at the end (F10).
const FLUSH: Duration = Duration::from_secs(5);

/// Counters of one connection.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) received: AtomicU64,
    pub(crate) published: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) answers: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> Counts {
        Counts {
            received: self.received.load(Ordering::Relaxed),
            published: self.published.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            answers: self.answers.load(Ordering::Relaxed),
        }
    }
}

/// A topic that messages go to, until it is stopped.
#[derive(Debug)]
pub(crate) struct Route {
    topic: String,
    stopped: CancellationToken,
}

/// Bounds of one outlet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes that wait.
    pub(crate) bytes: usize,
    /// Messages of one batch.
    pub(crate) batch: usize,
    /// A batch that waits longer than this for whoever passes it on is stuck.
    pub(crate) patience: Duration,
}

/// Where a connection's messages leave.
#[derive(Debug)]
pub(crate) struct Outlet {
    route: Mutex<Option<Arc<Route>>>,
    /// Held while a batch is under way, so that a stop can wait for it.
    gate: tokio::sync::Mutex<()>,
    sender: mpsc::Sender<Item>,
    space: Arc<Semaphore>,
    bounds: Bounds,
    counters: Arc<Counters>,
    /// Whether messages cannot be published at this time.
    stuck: watch::Sender<bool>,
    finish: CancellationToken,
    drained: CancellationToken,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Published,
    /// Whoever passes events on will never take it.
    Refused,
    /// Nobody wants it to be published any more.
    Stopped,
}

/// A message that waits.
#[derive(Debug)]
pub(crate) struct Item {
    route: Arc<Route>,
    received: Received,
    opening: Arc<str>,
    _space: OwnedSemaphorePermit,
}

/// A message for which there is no space yet.
#[derive(Debug)]
pub(crate) struct Held {
    route: Arc<Route>,
    received: Received,
    opening: Arc<str>,
}

impl Outlet {
    /// An outlet, and the work that empties it.
    pub(crate) fn new(
        backend: Backend,
        id: String,
        url: String,
        bounds: Bounds,
        counters: Arc<Counters>,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        // As many as fit into the bytes, so that whoever has space never waits here.
        let (sender, receiver) = mpsc::channel((bounds.bytes / LEAST_COST).max(1));
        let outlet = Arc::new(Self {
            route: Mutex::new(None),
            gate: tokio::sync::Mutex::new(()),
            sender,
            space: Arc::new(Semaphore::new(bounds.bytes.max(LEAST_COST))),
            bounds,
            counters,
            stuck: watch::Sender::new(false),
            finish: CancellationToken::new(),
            drained: CancellationToken::new(),
        });
        let drained = outlet.drained.clone().drop_guard();
        let emptier = Emptier {
            outlet: outlet.clone(),
            backend,
            id,
            url,
            receiver,
            next: None,
        };
        let work = async move {
            emptier.run().await;
            drop(drained);
        };
        (outlet, work)
    }

    /// Every later message goes to this topic.
    pub(crate) fn start(&self, topic: String) {
        let mut route = self.route.lock();
        if route.as_ref().is_none_or(|route| route.topic != topic) {
            *route = Some(Arc::new(Route {
                topic,
                stopped: CancellationToken::new(),
            }));
        }
    }

    /// No message goes anywhere; when this returns none is under way either, unless whoever passes events on takes
    /// longer than five seconds over one call.
    pub(crate) async fn stop(&self) {
        let Some(route) = self.route.lock().take() else {
            return;
        };
        route.stopped.cancel();
        let _ = timeout(STOP, self.gate.lock()).await;
    }

    /// Where messages go now.
    pub(crate) fn route(&self) -> Option<Arc<Route>> {
        self.route.lock().clone()
    }

    /// Puts a message into the queue, or gives it back where there is no space.
    pub(crate) fn offer(
        &self,
        route: Arc<Route>,
        received: Received,
        opening: &Arc<str>,
    ) -> Result<(), Held> {
        let held = Held {
            route,
            received,
            opening: opening.clone(),
        };
        match self.space.clone().try_acquire_many_owned(self.cost(&held)) {
            Ok(space) => {
                self.put(held, space);
                Ok(())
            }
            Err(_) => Err(held),
        }
    }

    /// Waits for space for a message. Cancel-safe: the message stays with the caller.
    pub(crate) async fn space(&self, held: &Held) -> Option<OwnedSemaphorePermit> {
        self.space.clone().acquire_many_owned(self.cost(held)).await.ok()
    }

    /// Puts a message into the queue that there is space for.
    pub(crate) fn put(&self, held: Held, space: OwnedSemaphorePermit) {
        let item = Item {
            route: held.route,
            received: held.received,
            opening: held.opening,
            _space: space,
        };
        if self.sender.try_send(item).is_err() {
            // Only after the end; nobody reads the socket then either.
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn cost(&self, held: &Held) -> u32 {
        let cost = held
            .received
            .payload
            .len()
            .clamp(LEAST_COST, self.bounds.bytes.max(LEAST_COST));
        u32::try_from(cost).unwrap_or(u32::MAX)
    }

    /// A message that was held when its connection ended.
    pub(crate) fn give_up(&self, held: Held) {
        drop(held);
        self.counters.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// When this is dropped, what waits leaves, for some seconds, and then the work ends.
    pub(crate) fn finish_on_drop(&self) -> DropGuard {
        self.finish.clone().drop_guard()
    }

    /// Whether messages cannot be published: whoever passes them on is away for too long, or refuses them for good.
    pub(crate) fn stuck(&self) -> watch::Receiver<bool> {
        self.stuck.subscribe()
    }

    /// Waits for the end of the work.
    pub(crate) async fn drained(&self) {
        self.drained.cancelled().await;
    }
}

/// Takes messages out of the queue and publishes them.
struct Emptier {
    outlet: Arc<Outlet>,
    backend: Backend,
    id: String,
    url: String,
    receiver: mpsc::Receiver<Item>,
    /// Taken out, but of another topic than the batch before it, or too much for it.
    next: Option<Item>,
}

impl Emptier {
    async fn run(mut self) {
        let finish = self.outlet.finish.clone();
        let out_of_time = CancellationToken::new();
        let emptied = async {
            loop {
                tokio::select! {
                    batch = self.batch() => match batch {
                        Some(batch) => self.publish(batch, &out_of_time).await,
                        None => return,
                    },
                    () = finish.cancelled() => break,
                }
            }
            // What comes late is not taken; what is left when time is up is counted, not published.
            self.receiver.close();
            while let Some(batch) = self.batch().await {
                self.publish(batch, &out_of_time).await;
            }
        };
        let watch = async {
            finish.cancelled().await;
            tokio::time::sleep(FLUSH).await;
            out_of_time.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = emptied => {}
            () = watch => {}
        }
    }

    /// The next messages of one topic, at least one. Cancel-safe up to the first of them.
    async fn batch(&mut self) -> Option<Vec<Item>> {
        let first = match self.next.take() {
            Some(item) => item,
            None => self.receiver.recv().await?,
        };
        let mut bytes = first.received.payload.len();
        let mut batch = vec![first];
        while batch.len() < self.outlet.bounds.batch {
            let Ok(item) = self.receiver.try_recv() else { break };
            bytes += item.received.payload.len();
            let same_topic = batch
                .first()
                .is_some_and(|first| Arc::ptr_eq(&first.route, &item.route));
            if !same_topic || bytes > MAX_BATCH_BYTES {
                self.next = Some(item);
                break;
            }
            batch.push(item);
        }
        Some(batch)
    }

    /// Publishes a batch, however long it takes, unless it is stopped; says when it is stuck.
    async fn publish(&self, batch: Vec<Item>, out_of_time: &CancellationToken) {
        let stuck = |is_stuck: bool| {
            self.outlet
                .stuck
                .send_if_modified(|known| std::mem::replace(known, is_stuck) != is_stuck);
        };
        let late = async {
            tokio::time::sleep(self.outlet.bounds.patience).await;
            stuck(true);
            std::future::pending().await
        };
        let outcome = tokio::select! {
            outcome = self.try_to_publish(batch, out_of_time) => outcome,
            outcome = late => outcome,
        };
        stuck(outcome == Outcome::Refused);
    }

    async fn try_to_publish(&self, batch: Vec<Item>, out_of_time: &CancellationToken) -> Outcome {
        let Some(route) = batch.first().map(|item| item.route.clone()) else {
            return Outcome::Stopped;
        };
        let counters = &self.outlet.counters;
        let drop_all = |count: usize, why: &str| {
            counters.dropped.fetch_add(count as u64, Ordering::Relaxed);
            tracing::warn!(
                connection = self.id,
                topic = route.topic,
                count,
                why,
                "messages are not published"
            );
        };
        let _under_way = self.outlet.gate.lock().await;
        let mut events: Vec<_> = batch
            .iter()
            .map(|item| events::message(&self.id, &self.url, &item.opening, &item.received))
            .collect();
        let mut pause = PAUSE.0;
        loop {
            if route.stopped.is_cancelled() {
                drop_all(events.len(), "publishing was stopped");
                return Outcome::Stopped;
            }
            if out_of_time.is_cancelled() {
                drop_all(events.len(), "the connection ended and time is up");
                return Outcome::Stopped;
            }
            let (count, why) = match self.backend.publish_all(&route.topic, &events).await {
                Ok(failed) if failed.is_empty() => {
                    counters
                        .published
                        .fetch_add(events.len() as u64, Ordering::Relaxed);
                    return Outcome::Published;
                }
                Ok(failed) => {
                    counters
                        .published
                        .fetch_add((events.len() - failed.len()) as u64, Ordering::Relaxed);
                    let mut index = 0;
                    events.retain(|_| {
                        index += 1;
                        failed.contains(&(index - 1))
                    });
                    (events.len(), "some were not taken".to_owned())
                }
                Err(error) if error.is_transient() => (events.len(), error.to_string()),
                // It will not work the next time either.
                Err(error) => {
                    drop_all(events.len(), &error.to_string());
                    return Outcome::Refused;
                }
            };
            tracing::warn!(
                connection = self.id,
                topic = route.topic,
                count,
                why,
                "messages cannot be published now; trying again in {pause:?}"
            );
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = route.stopped.cancelled() => {}
                () = out_of_time.cancelled() => {}
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}
