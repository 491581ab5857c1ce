//! The transactional outbox (design §4; upstream `pkg/runtime/pubsub/outbox.go`). Topics, envelopes and markers are
//! upstream's, so either runtime can finish what the other began.

mod ledger;
mod payload;
mod relay;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use outrigger_component::{Metadata, Properties};
use outrigger_engine_dispatch::{NewEvent, field};
use outrigger_pubsub::{SubscribeRequest, Subscription};
use outrigger_sidecar_api::Components;
use outrigger_sidecar_state::{Outbox, Prepared, TraceInfo};
use outrigger_state::{Expect, Operation, SharedStateStore, Ttl, Value, WriteOptions};
use outrigger_types::{StateKey, is_truthy};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, timeout},
};

use self::{
    ledger::{Known, Ledger},
    relay::Relay,
};
use crate::{
    PubsubOptions, PubsubService,
    component::Broker,
    gate::{DRAIN, Gate},
    publisher::Publisher,
    service::FreshId,
};

/// Metadata of an operation that only supplies the payload of another one's event.
const PROJECTION: &str = "outbox.projection";
/// What a marker holds: the text `0` as JSON, as upstream stores it.
const MARKER: &[u8] = b"\"0\"";
/// Pauses between attempts to subscribe: the first, and the most.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// How long a broker may take to let go of an internal subscription.
const CLOSE: Duration = Duration::from_secs(5);

/// What the outbox needs.
#[derive(Clone)]
pub struct OutboxOptions {
    /// The state stores; those whose metadata names `outboxPublishPubsub` and `outboxPublishTopic` have an outbox.
    pub stores: Arc<Components<SharedStateStore>>,
}

impl fmt::Debug for OutboxOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxOptions").finish_non_exhaustive()
    }
}

/// Where the events of a store go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    store: String,
    publish_pubsub: String,
    publish_topic: String,
    outbox_pubsub: String,
    discards: bool,
}

impl Route {
    fn new(store: &str, properties: &Properties) -> Option<Self> {
        let text = |name| properties.non_empty(name).map(str::to_owned);
        let publish_pubsub = text("outboxPublishPubsub")?;
        Some(Self {
            store: store.to_owned(),
            publish_topic: text("outboxPublishTopic")?,
            outbox_pubsub: text("outboxPubsub").unwrap_or_else(|| publish_pubsub.clone()),
            publish_pubsub,
            discards: properties
                .get("outboxDiscardWhenMissingState")
                .is_some_and(is_truthy),
        })
    }

    fn internal_topic(&self, options: &PubsubOptions) -> String {
        format!(
            "{}{}{}outbox",
            options.namespace(),
            options.app_id,
            self.publish_topic
        )
    }
}

/// An internal topic with the stores whose events pass it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Channel {
    pubsub: String,
    topic: String,
    routes: Vec<Route>,
}

/// What the outbox and its relays share.
struct Shared {
    stores: Arc<Components<SharedStateStore>>,
    publisher: Arc<Publisher>,
    ledger: Ledger,
}

struct Running {
    channel: Channel,
    broker: Arc<Broker>,
    gate: Arc<Gate>,
    control: Subscription,
}

impl Running {
    async fn stop(self) {
        self.gate.begin_closing();
        let _ = timeout(CLOSE, self.control.pause()).await;
        self.gate.drain(Instant::now() + DRAIN).await;
        let _ = timeout(CLOSE, self.control.close()).await;
    }
}

/// The outbox of all state stores that have one.
pub struct PubsubOutbox {
    shared: Arc<Shared>,
    running: AsyncMutex<Vec<Running>>,
    is_retrying: AtomicBool,
    is_on: AtomicBool,
}

impl fmt::Debug for PubsubOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubsubOutbox").finish_non_exhaustive()
    }
}

impl PubsubOutbox {
    /// An outbox that does not relay yet.
    #[must_use]
    pub fn new(service: &PubsubService, options: OutboxOptions) -> Self {
        let publisher = Arc::clone(&service.publisher);
        let shared = Shared {
            stores: options.stores,
            publisher,
            ledger: Ledger::default(),
        };
        Self {
            shared: Arc::new(shared),
            running: AsyncMutex::default(),
            is_retrying: AtomicBool::new(false),
            is_on: AtomicBool::new(false),
        }
    }

    fn options(&self) -> &PubsubOptions {
        &self.shared.publisher.options
    }

    fn route(&self, store: &str) -> Option<Route> {
        let loaded = self.shared.stores.ready(store)?;
        Route::new(store, &loaded.properties)
    }

    fn channels(&self) -> Vec<Channel> {
        let mut channels: Vec<Channel> = Vec::new();
        for store in self.shared.stores.all() {
            let Some(route) = Route::new(&store.name, &store.properties) else {
                continue;
            };
            let topic = route.internal_topic(self.options());
            match channels
                .iter_mut()
                .find(|channel| channel.pubsub == route.outbox_pubsub && channel.topic == topic)
            {
                Some(channel) => channel.routes.push(route),
                None => channels.push(Channel {
                    pubsub: route.outbox_pubsub.clone(),
                    topic,
                    routes: vec![route],
                }),
            }
        }
        channels
    }

    /// Subscribes to the internal topics of all open stores: the app is healthy. What a broker refuses is tried
    /// again in the background.
    pub async fn start(self: &Arc<Self>) {
        self.is_on.store(true, Ordering::SeqCst);
        self.refresh().await;
    }

    /// A state store or broker was opened, replaced or taken out: what is unchanged goes on, the rest follows. Does
    /// nothing before [`PubsubOutbox::start`] and after [`PubsubOutbox::stop`].
    pub async fn refresh(self: &Arc<Self>) {
        if !self.is_on.load(Ordering::SeqCst) {
            return;
        }
        if self.subscribe().await || self.is_retrying.swap(true, Ordering::SeqCst) {
            return;
        }
        let myself = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut pause = FIRST_RETRY;
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_RETRY);
                let Some(outbox) = myself.upgrade() else { return };
                if !outbox.is_on.load(Ordering::SeqCst) || outbox.subscribe().await {
                    outbox.is_retrying.store(false, Ordering::SeqCst);
                    return;
                }
            }
        });
    }

    /// Makes what runs what is wanted; `false` when a broker refused.
    async fn subscribe(&self) -> bool {
        let mut running = self.running.lock().await;
        let mut missing: Vec<(Channel, Arc<Broker>)> = Vec::new();
        let mut is_complete = true;
        for channel in self.channels() {
            match self.shared.publisher.table.ready(&channel.pubsub) {
                Some(broker) => missing.push((channel, broker)),
                None => {
                    tracing::warn!(target: "dapr.outbox", "could not subscribe to internal outbox topic: outbox pubsub {} not loaded", channel.pubsub);
                }
            }
        }
        let mut leaving = Vec::new();
        for one in std::mem::take(&mut *running) {
            let still = missing.iter().position(|(channel, broker)| {
                *channel == one.channel && Arc::ptr_eq(&broker.loaded, &one.broker.loaded)
            });
            match still {
                Some(at) => {
                    missing.remove(at);
                    running.push(one);
                }
                None => leaving.push(one),
            }
        }
        join_all(leaving.into_iter().map(Running::stop)).await;
        for (channel, broker) in missing {
            let gate = Arc::new(Gate::new(None));
            let request = SubscribeRequest {
                topic: broker.topic(&channel.topic),
                group: broker.group.clone(),
                metadata: Metadata::new(),
                bulk: None,
            };
            let relay = Relay {
                shared: Arc::clone(&self.shared),
                channel: channel.clone(),
                gate: Arc::clone(&gate),
            };
            match broker.instance().subscribe(request, Arc::new(relay)).await {
                Ok(control) => running.push(Running {
                    channel,
                    broker,
                    gate,
                    control,
                }),
                Err(error) => {
                    is_complete = false;
                    tracing::warn!(target: "dapr.outbox", "failed to subscribe to outbox topic {}: {}", channel.topic, error.chain());
                }
            }
        }
        is_complete
    }

    /// Stops relaying through a broker that is about to close, until [`PubsubOutbox::refresh`]; waits for what is in
    /// flight.
    pub async fn stop_component(&self, name: &str) {
        let mut running = self.running.lock().await;
        let (leaving, staying): (Vec<_>, Vec<_>) = std::mem::take(&mut *running)
            .into_iter()
            .partition(|one| one.channel.pubsub == name);
        *running = staying;
        join_all(leaving.into_iter().map(Running::stop)).await;
    }

    /// Stops relaying; events that wait stay with their brokers.
    pub async fn stop(&self) {
        self.is_on.store(false, Ordering::SeqCst);
        let running = std::mem::take(&mut *self.running.lock().await);
        join_all(running.into_iter().map(Running::stop)).await;
    }

    async fn publish_internal(
        &self,
        store: &str,
        operations: Vec<Operation>,
        trace: &TraceInfo,
    ) -> Result<Prepared, String> {
        let route = self.route(store).ok_or_else(|| {
            format!(
                "error publishing internal outbox message: could not find outbox configuration on state store {store}"
            )
        })?;
        let (projections, mut operations) = split(operations);
        let mut events = Vec::new();
        for operation in &operations {
            let Operation::Set {
                key, value, options, ..
            } = operation
            else {
                continue;
            };
            let marker = format!("outbox-{}", FreshId::new().as_str());
            let (value, metadata) = projections
                .get(key.as_str())
                .map_or((value, &options.metadata), |projection| {
                    (&projection.0, &projection.1)
                });
            let event = self.event(&route, &marker, value, metadata, &options.metadata, trace);
            events.push((marker, event));
        }
        let markers: Vec<String> = events.iter().map(|(marker, _)| marker.clone()).collect();
        // Before the first event leaves: the broker may be faster than we are.
        let ticket = self.shared.ledger.open(markers);
        let cancel = Cancel {
            ledger: &self.shared.ledger,
            ticket: Some(ticket),
        };
        let topic = route.internal_topic(self.options());
        for (marker, event) in events {
            self.shared
                .publisher
                .publish(&route.outbox_pubsub, &topic, event, None, Metadata::new())
                .await
                .map_err(|error| error.to_string())?;
            operations.push(Operation::Set {
                key: StateKey::from(marker),
                value: Value::Json(Bytes::from_static(MARKER)),
                expect: Expect::Any,
                ttl: Ttl::Default,
                options: WriteOptions::default(),
            });
        }
        cancel.defuse();
        Ok(Prepared { operations, ticket })
    }

    fn event(
        &self,
        route: &Route,
        marker: &str,
        value: &Value,
        payload_metadata: &Metadata,
        metadata: &Metadata,
        trace: &TraceInfo,
    ) -> Bytes {
        let (content_type, data) = payload::of(value, payload_metadata);
        let time = self.options().now().rfc3339();
        let mut event = NewEvent {
            id: marker,
            source: &self.options().app_id,
            kind: field::DEFAULT_TYPE,
            subject: "",
            topic: "",
            pubsub: &route.outbox_pubsub,
            data_content_type: if content_type.is_empty() {
                field::DEFAULT_DATA_CONTENT_TYPE
            } else {
                content_type
            },
            data: &data,
            trace: "",
            trace_state: &trace.tracestate,
            time: &time,
            expiration: None,
        }
        .to_envelope();
        event.set_text(field::TRACE_ID, trace.traceparent.as_str());
        for (name, value) in metadata {
            if name != field::DATA && name != field::ID {
                event.set_text(name.as_str(), value.as_str());
            }
        }
        Bytes::from(event.to_json())
    }
}

/// By key, the value and metadata of operations that only say what the event of another one carries.
type Projections = HashMap<String, (Value, Metadata)>;

fn split(operations: Vec<Operation>) -> (Projections, Vec<Operation>) {
    let mut projections = Projections::new();
    let mut rest = Vec::with_capacity(operations.len());
    for operation in operations {
        match operation {
            Operation::Set {
                key, value, options, ..
            } if options
                .metadata
                .get(PROJECTION)
                .is_some_and(|text| is_truthy(text)) =>
            {
                projections.insert(key.to_string(), (value, options.metadata));
            }
            operation => rest.push(operation),
        }
    }
    (projections, rest)
}

/// A transaction that is given up before the store saw it: its events are void.
struct Cancel<'a> {
    ledger: &'a Ledger,
    ticket: Option<u64>,
}

impl Cancel<'_> {
    fn defuse(mut self) {
        self.ticket = None;
    }
}

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.ledger.close(ticket, Known::Cancelled);
        }
    }
}

impl Outbox for PubsubOutbox {
    fn enabled(&self, store: &str) -> bool {
        self.route(store).is_some()
    }

    fn prepare<'a>(
        &'a self,
        store: &'a str,
        operations: Vec<Operation>,
        trace: TraceInfo,
    ) -> BoxFuture<'a, Result<Prepared, String>> {
        Box::pin(async move { self.publish_internal(store, operations, &trace).await })
    }

    fn settled(&self, ticket: u64, committed: bool) {
        let outcome = if committed {
            Known::Committed
        } else {
            Known::Failed(Instant::now())
        };
        self.shared.ledger.close(ticket, outcome);
    }
}
