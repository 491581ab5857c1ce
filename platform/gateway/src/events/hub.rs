//! One subscription of the sidecar per topic, many streams that read it (G5.2, G5.3).
//!
//! An event is put into the queue of every stream that wants it and is then done with: a stream gets what happens while
//! it is there. A stream whose reader is too slow for its queue, or takes nothing for too long, ends with
//! `RESOURCE_EXHAUSTED` (reason `SLOW_READER`); others do not wait for it. The last stream of a topic takes the
//! sidecar's subscription with it.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::Stream;
use outrigger_kit::client::{Delivery, StreamOptions};
use outrigger_kit::health::HealthEntry;
use outrigger_kit::{Ack, Client};
use outrigger_platform_service::status::reasoned;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{OnceCell, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};

use super::Publisher;
use crate::state::failure;

/// Topics of one stream; more than services may be configured.
const MAX_TOPICS: usize = 1_100;

/// Bounds of streams.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Events that wait for one reader.
    pub queue: usize,
    /// Their bytes; a single event may have more.
    pub bytes: usize,
    /// A reader that takes none of its waiting events for so long is given up.
    pub patience: Duration,
    /// Streams at a time.
    pub streams: usize,
    /// Topics that all of them read at a time: each is a subscription of the sidecar, and something at the broker.
    pub topics: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue: 1_024,
            bytes: 16 << 20,
            patience: Duration::from_secs(45),
            streams: 10_000,
            topics: 5_000,
        }
    }
}

/// An event as readers get it.
#[derive(Debug)]
pub struct Event {
    /// Where it was read.
    pub topic: String,
    /// By which component.
    pub pubsub: String,
    /// Its data.
    pub data: Bytes,
    /// Its attributes; the data there is null.
    pub attributes: outrigger_kit::Event<Value>,
}

/// What an event takes beside its data.
const LEAST_SIZE: usize = 512;

impl Event {
    fn size(&self) -> usize {
        self.data.len() + LEAST_SIZE
    }

    /// Extensions that are text, raw; others are left out (G9).
    pub fn extensions(&self) -> impl Iterator<Item = (&String, &str)> {
        self.attributes
            .extensions
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "topic" | "pubsubname"))
            .filter_map(|(name, value)| Some((name, value.as_str()?)))
    }

    /// Attributes as `ce-…`, and the extensions.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let event = &self.attributes;
        let attributes = [
            ("ce-id", Some(&event.id)),
            ("ce-source", Some(&event.source)),
            ("ce-type", Some(&event.kind)),
            ("ce-time", event.time.as_ref()),
            ("ce-subject", event.subject.as_ref()),
            ("ce-datacontenttype", event.content_type.as_ref()),
        ];
        attributes
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.clone())))
            .chain([("ce-specversion".to_owned(), "1.0".to_owned())])
            .chain(
                self.extensions()
                    .map(|(name, value)| (name.clone(), value.to_owned())),
            )
            .collect()
    }
}

/// The streams and what they read. Clones share them.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    publisher: Publisher,
    options: Options,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By component and topic.
    readers: HashMap<Place, Arc<Reader>>,
    /// By subscription id.
    streams: HashMap<String, Arc<Member>>,
}

type Place = (String, String);

/// What reads one topic.
#[derive(Debug, Default)]
struct Reader {
    members: Arc<Mutex<HashMap<u64, Arc<Member>>>>,
    /// Set once the sidecar has taken the subscription.
    task: OnceCell<AbortOnDropHandle<()>>,
}

/// One stream.
#[derive(Debug)]
struct Member {
    number: u64,
    sender: mpsc::Sender<Arc<Event>>,
    /// Bytes of what waits, and the most of them.
    waiting: AtomicUsize,
    bytes: usize,
    end: CancellationToken,
    /// Why it ended, where not by its own wish.
    reason: Mutex<Option<Status>>,
    /// When its reader last took an event.
    taken: Mutex<Instant>,
}

impl Member {
    fn finish(&self, reason: Option<Status>) {
        let mut kept = self.reason.lock();
        if !self.end.is_cancelled() {
            *kept = reason;
            self.end.cancel();
        }
    }

    fn offer(&self, event: &Arc<Event>) {
        let size = event.size();
        let before = self.waiting.fetch_add(size, Ordering::AcqRel);
        let fits = before == 0 || before.saturating_add(size) <= self.bytes;
        let sent = fits && self.sender.try_send(Arc::clone(event)).is_ok();
        if !sent {
            self.waiting.fetch_sub(size, Ordering::AcqRel);
            // A stream that ended takes none either; then its first reason stays.
            self.finish(Some(slow("its queue is full")));
        }
    }

    fn took(&self, event: &Event) {
        self.waiting.fetch_sub(event.size(), Ordering::AcqRel);
        *self.taken.lock() = Instant::now();
    }
}

fn slow(why: &str) -> Status {
    reasoned(
        Code::ResourceExhausted,
        "SLOW_READER",
        format!("the stream's reader is too slow: {why}"),
        [],
    )
}

impl Hub {
    /// Reads by the publisher's client and components.
    pub fn new(publisher: Publisher, options: Options) -> Self {
        let hub = Self(Arc::new(Inner {
            publisher,
            options,
            next: AtomicU64::new(0),
            state: Mutex::default(),
        }));
        let watched = Arc::downgrade(&hub.0);
        opentelemetry::global::meter("virtufin-gateway")
            .i64_observable_gauge("gateway.subscriptions.open")
            .with_description("Streams of events that clients read")
            .with_callback(move |observer| {
                if let Some(hub) = watched.upgrade() {
                    let open = hub.state.lock().streams.len();
                    observer.observe(i64::try_from(open).unwrap_or(i64::MAX), &[]);
                }
            })
            .build();
        hub
    }

    /// Streams at this time.
    pub fn open(&self) -> usize {
        self.0.state.lock().streams.len()
    }

    /// Topics that are read at this time.
    pub fn topics(&self) -> usize {
        self.0.state.lock().readers.len()
    }

    /// How many there are.
    pub fn health(&self) -> HealthEntry {
        let state = self.0.state.lock();
        HealthEntry::healthy(format!(
            "{} open on {} topics",
            state.streams.len(),
            state.readers.len()
        ))
    }

    /// Reads topics from the time that this returns.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for no topic or too many, `RESOURCE_EXHAUSTED` for too many streams; those of the sidecar.
    pub async fn subscribe(&self, topics: &[String]) -> Result<Subscription, Status> {
        let mut topics = topics.to_vec();
        topics.sort();
        topics.dedup();
        if topics.is_empty() || topics.iter().any(String::is_empty) {
            return Err(Status::invalid_argument("name the topics"));
        }
        if topics.len() > MAX_TOPICS {
            return Err(Status::invalid_argument(format!(
                "a stream reads at most {MAX_TOPICS} topics"
            )));
        }
        let (sender, receiver) = mpsc::channel(self.0.options.queue);
        let member = Arc::new(Member {
            number: self.0.next.fetch_add(1, Ordering::Relaxed),
            sender,
            waiting: AtomicUsize::new(0),
            bytes: self.0.options.bytes,
            end: CancellationToken::new(),
            reason: Mutex::default(),
            taken: Mutex::new(Instant::now()),
        });
        let id = uuid::Uuid::new_v4().to_string();
        let places: Vec<Place> = topics
            .into_iter()
            .map(|topic| (self.0.publisher.component(&topic), topic))
            .collect();
        let readers = {
            let mut state = self.0.state.lock();
            if state.streams.len() >= self.0.options.streams {
                let most = self.0.options.streams;
                return Err(Status::resource_exhausted(format!(
                    "{most} streams are open, which is the most"
                )));
            }
            let new = places
                .iter()
                .filter(|place| !state.readers.contains_key(*place))
                .count();
            if state.readers.len() + new > self.0.options.topics {
                let most = self.0.options.topics;
                return Err(Status::resource_exhausted(format!(
                    "streams read at most {most} topics together"
                )));
            }
            state.streams.insert(id.clone(), Arc::clone(&member));
            let mut readers = Vec::new();
            for place in &places {
                let reader = Arc::clone(state.readers.entry(place.clone()).or_default());
                reader.members.lock().insert(member.number, Arc::clone(&member));
                readers.push(reader);
            }
            readers
        };
        // From here on dropping it, also by an error below, takes it out again.
        let subscription = Subscription {
            id,
            end: Box::pin(member.end.clone().cancelled_owned()),
            member,
            receiver,
            over: false,
            places,
            hub: self.clone(),
        };
        for (reader, (pubsub, topic)) in readers.iter().zip(&subscription.places) {
            let client = self.0.publisher.client();
            reader
                .task
                .get_or_try_init(|| reader.open(client, pubsub, topic))
                .await?;
        }
        Ok(subscription)
    }

    /// Ends a stream by its id.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn unsubscribe(&self, id: &str) -> Result<(), Status> {
        let member = self.0.state.lock().streams.get(id).cloned();
        let member = member.ok_or_else(|| Status::not_found(format!("no subscription {id:?}")))?;
        member.finish(None);
        Ok(())
    }

    /// Gives up streams whose readers are gone or take nothing, until the token is cancelled; then ends all.
    pub async fn sweep(self, stopping: CancellationToken) {
        let period = (self.0.options.patience / 4).max(Duration::from_millis(10));
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                () = tokio::time::sleep(period) => {}
            }
            let members: Vec<_> = self.0.state.lock().streams.values().cloned().collect();
            for member in members {
                let waiting = member.sender.capacity() < member.sender.max_capacity();
                if waiting && member.taken.lock().elapsed() > self.0.options.patience {
                    member.finish(Some(slow("it takes nothing")));
                    // Nobody may ever poll it again: what is on the other side of a dead connection.
                    self.forget(&member);
                }
            }
        }
        for member in self.0.state.lock().streams.values() {
            member.finish(Some(Status::unavailable("the gateway is stopping")));
        }
    }

    fn forget(&self, member: &Arc<Member>) {
        let mut state = self.0.state.lock();
        state.streams.retain(|_, other| !Arc::ptr_eq(other, member));
        state.readers.retain(|_, reader| {
            let mut members = reader.members.lock();
            members.remove(&member.number);
            !members.is_empty()
        });
    }
}

impl Reader {
    async fn open(
        &self,
        client: &Client,
        pubsub: &str,
        topic: &str,
    ) -> Result<AbortOnDropHandle<()>, Status> {
        let mut deliveries = client
            .subscribe(pubsub, topic, StreamOptions::default())
            .await
            .map_err(|error| failure(&error))?;
        let members = Arc::clone(&self.members);
        let pubsub = pubsub.to_owned();
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(Delivery {
                event,
                data,
                topic,
                verdict,
            }) = deliveries.next().await
            {
                let mut attributes = event;
                attributes.data = Value::Null;
                let event = Arc::new(Event {
                    topic,
                    pubsub: pubsub.clone(),
                    data,
                    attributes,
                });
                for member in members.lock().values() {
                    member.offer(&event);
                }
                verdict.settle(Ack::Success);
            }
            for member in members.lock().values() {
                member.finish(Some(Status::unavailable("the sidecar's subscription ended")));
            }
        })))
    }
}

/// The events of one stream. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    id: String,
    member: Arc<Member>,
    receiver: mpsc::Receiver<Arc<Event>>,
    end: Pin<Box<tokio_util::sync::WaitForCancellationFutureOwned>>,
    over: bool,
    places: Vec<Place>,
    hub: Hub,
}

impl Subscription {
    /// Names it, for [`Hub::unsubscribe`].
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Stream for Subscription {
    type Item = Result<Arc<Event>, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.end.as_mut().poll(context).is_ready() {
            self.over = true;
            return Poll::Ready(self.member.reason.lock().take().map(Err));
        }
        let next = self.receiver.poll_recv(context);
        if let Poll::Ready(Some(event)) = &next {
            self.member.took(event);
        }
        next.map(|event| event.map(Ok))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.hub.0.state.lock();
        state.streams.remove(&self.id);
        for place in &self.places {
            let Some(reader) = state.readers.get(place) else {
                continue;
            };
            let mut members = reader.members.lock();
            members.remove(&self.member.number);
            let empty = members.is_empty();
            drop(members);
            if empty {
                state.readers.remove(place);
            }
        }
    }
}
