//! The outbox with a broker and a store that fail on command, killed at every gap (design §4).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use outrigger_component::{Error, Properties};
use outrigger_pubsub::{
    Capabilities, Delivery, Handler, Outgoing, PubSub, SubscribeRequest, Subscription, SubscriptionControl,
    Verdict,
};
use outrigger_sidecar_api::{Components, Loaded};
use outrigger_sidecar_pubsub::{OutboxOptions, PubsubOptions, PubsubOutbox, PubsubService};
use outrigger_sidecar_state::{Outbox, TraceInfo};
use outrigger_state::{
    Etag, Expect, Item, MemoryStateStore, Operation, ReadOptions, SharedStateStore, StateStore, Ttl, Value,
    WriteOptions,
};
use outrigger_types::StateKey;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use crate::support::broker;

const INTERNAL: &str = "defaultappordersoutbox";
const FOREVER: Duration = Duration::from_secs(3600);

/// Keeps every message until it is acknowledged; survives the process.
#[derive(Debug, Clone, Default)]
struct LogBroker(Arc<Log>);

#[derive(Debug, Default)]
struct Log {
    messages: Mutex<Vec<(u64, Outgoing)>>,
    /// Everything that was ever published.
    history: Mutex<Vec<Outgoing>>,
    /// By topic, how many publishes from now on succeed before one fails, and how many then fail.
    faults: Mutex<HashMap<String, (usize, usize)>>,
    next: Mutex<u64>,
    changed: watch::Sender<u64>,
}

impl Log {
    fn open(&self, topic: &str) -> usize {
        self.messages
            .lock()
            .iter()
            .filter(|(_, message)| &*message.topic == topic)
            .count()
    }

    fn sent(&self, topic: &str) -> Vec<serde_json::Value> {
        let history = self.history.lock();
        let sent = history.iter().filter(|message| &*message.topic == topic);
        sent.map(|message| serde_json::from_slice(&message.data).unwrap())
            .collect()
    }

    fn tick(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    async fn wait(&self, until: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        tokio::time::timeout(FOREVER, async {
            while !until(self) {
                changed.changed().await.unwrap();
            }
        })
        .await
        .expect("it never happened");
    }
}

impl PubSub for LogBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn publish(&self, message: Outgoing) -> Result<(), Error> {
        if let Some((good, bad)) = self.0.faults.lock().get_mut(&*message.topic) {
            match (*good, *bad) {
                (0, 0) => {}
                (0, _) => {
                    *bad -= 1;
                    return Err(Error::unavailable("the broker is down"));
                }
                _ => *good -= 1,
            }
        }
        let id = {
            let mut next = self.0.next.lock();
            *next += 1;
            *next
        };
        self.0.history.lock().push(message.clone());
        self.0.messages.lock().push((id, message));
        self.0.tick();
        Ok(())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequest,
        handler: Arc<dyn Handler>,
    ) -> Result<Subscription, Error> {
        let log = Arc::clone(&self.0);
        let task = tokio::spawn(async move {
            let mut changed = log.changed.subscribe();
            let mut seen = HashSet::new();
            loop {
                changed.borrow_and_update();
                let next = {
                    let messages = log.messages.lock();
                    let mine = |(_, message): &&(u64, Outgoing)| message.topic == request.topic;
                    let fresh = messages
                        .iter()
                        .filter(mine)
                        .find(|(id, _)| !seen.contains(id))
                        .cloned();
                    // Once round, the refused ones have their turn again.
                    fresh.or_else(|| {
                        seen.clear();
                        None
                    })
                };
                let Some((id, message)) = next else {
                    tokio::select! {
                        _ = changed.changed() => {}
                        () = tokio::time::sleep(Duration::from_millis(250)) => {}
                    }
                    continue;
                };
                seen.insert(id);
                let delivery = Delivery {
                    topic: message.topic.clone(),
                    data: message.data.clone(),
                    content_type: message.content_type.clone(),
                    metadata: Arc::default(),
                    id: None,
                };
                if matches!(handler.handle(delivery).await, Verdict::Ack) {
                    log.messages.lock().retain(|(other, _)| *other != id);
                    log.tick();
                }
            }
        });
        Ok(Subscription::new(Control(task)))
    }
}

struct Control(tokio::task::JoinHandle<()>);

impl SubscriptionControl for Control {
    fn pause(&self) -> BoxFuture<'_, ()> {
        self.0.abort();
        Box::pin(async {})
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.pause()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug, Default, Clone)]
struct FaultyStore {
    inner: Arc<MemoryStateStore>,
    /// Deletes that fail from now on.
    bad_deletes: Arc<Mutex<usize>>,
}

impl StateStore for FaultyStore {
    fn capabilities(&self) -> outrigger_state::Capabilities {
        StateStore::capabilities(&*self.inner)
    }
    async fn get(&self, key: &StateKey, options: &ReadOptions) -> Result<Option<Item>, Error> {
        StateStore::get(&*self.inner, key, options).await
    }
    async fn transact(&self, operations: Vec<Operation>) -> Result<Vec<Option<Etag>>, Error> {
        if matches!(operations[..], [Operation::Delete { .. }]) {
            let mut bad = self.bad_deletes.lock();
            if *bad > 0 {
                *bad -= 1;
                return Err(Error::unavailable("the store is down"));
            }
        }
        StateStore::transact(&*self.inner, operations).await
    }
}

/// One life of the process, on a broker and a store that outlive it.
struct Life {
    log: Arc<Log>,
    store: FaultyStore,
    options: PubsubOptions,
    stores: Arc<Components<SharedStateStore>>,
    outbox: Arc<PubsubOutbox>,
}

impl Life {
    fn first(properties: &[(&str, &str)]) -> Self {
        let (log, store) = (LogBroker::default(), FaultyStore::default());
        let components = Arc::new(Components::default());
        components.insert(broker("ps", Arc::new(log.clone()), &[]));
        let stores: Arc<Components<SharedStateStore>> = Arc::default();
        let basic = [("outboxPublishPubsub", "ps"), ("outboxPublishTopic", "orders")];
        stores.insert(Loaded {
            name: "store".into(),
            type_name: "state.test".to_owned(),
            version: "v1".to_owned(),
            properties: Properties::from_pairs(basic.iter().chain(properties).copied()),
            instance: Arc::new(store.clone()),
        });
        let options = PubsubOptions {
            audit: outrigger_telemetry::audit::Audit::disabled(),
            app_id: "app".into(),
            namespace: None,
            components,
            resilience: Arc::default(),
            metrics: outrigger_telemetry::Metrics::disabled(),
            tracer: outrigger_telemetry::Tracer::disabled(),
            app: Arc::default(),
            ask_app: true,
            clock: Arc::new(jiff::Timestamp::now),
            zone: jiff::tz::TimeZone::UTC,
        };
        Self::on(log.0, store, options, stores)
    }

    fn on(
        log: Arc<Log>,
        store: FaultyStore,
        options: PubsubOptions,
        stores: Arc<Components<SharedStateStore>>,
    ) -> Self {
        let service = PubsubService::new(options.clone());
        let outbox = Arc::new(PubsubOutbox::new(
            &service,
            OutboxOptions {
                stores: Arc::clone(&stores),
            },
        ));
        Self {
            log,
            store,
            options,
            stores,
            outbox,
        }
    }

    /// Kills the process and starts another one.
    fn die(self) -> Self {
        let Self {
            log,
            store,
            options,
            stores,
            outbox,
        } = self;
        drop(outbox);
        Self::on(log, store, options, stores)
    }

    async fn prepare(&self, operations: Vec<Operation>) -> (Vec<Operation>, u64) {
        let trace = TraceInfo {
            traceparent: "tp".to_owned(),
            tracestate: "ts".to_owned(),
        };
        let prepared = self.outbox.prepare("store", operations, trace).await.unwrap();
        (prepared.operations, prepared.ticket)
    }

    async fn commit(&self, operations: Vec<Operation>) {
        StateStore::transact(&self.store, operations).await.unwrap();
    }

    async fn marker_is_gone(&self) {
        let markers: Vec<_> = self
            .log
            .sent(INTERNAL)
            .iter()
            .map(|event| event["id"].clone())
            .collect();
        for marker in markers {
            let key = StateKey::from(marker.as_str().unwrap());
            let item = StateStore::get(&self.store, &key, &ReadOptions::default())
                .await
                .unwrap();
            assert!(item.is_none(), "{key} is left");
        }
    }

    async fn relayed(&self, count: usize) {
        self.log
            .wait(|log| log.open(INTERNAL) == 0 && log.sent("orders").len() >= count)
            .await;
        assert_eq!(self.log.sent("orders").len(), count);
        self.marker_is_gone().await;
    }
}

fn set(key: &str, value: &str, metadata: &[(&str, &str)]) -> Operation {
    let metadata: BTreeMap<_, _> = metadata
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Operation::Set {
        key: key.into(),
        value: Value::Json(value.to_owned().into()),
        expect: Expect::Any,
        ttl: Ttl::Default,
        options: WriteOptions {
            metadata,
            ..WriteOptions::default()
        },
    }
}

#[tokio::test(start_paused = true)]
async fn a_committed_transaction_leaves_at_once() {
    let life = Life::first(&[]);
    assert!(life.outbox.enabled("store") && !life.outbox.enabled("other"));
    life.outbox.start().await;
    let start = Instant::now();
    let (operations, ticket) = life
        .prepare(vec![
            set(
                "k",
                r#""2""#,
                &[("contentType", "text/plain"), ("cloudevent.x", "y"), ("id", "no")],
            ),
            set(
                "k",
                r#"{"a":1}"#,
                &[("outbox.projection", "true"), ("contentType", "application/json")],
            ),
            Operation::Delete {
                key: "gone".into(),
                expect: Expect::Any,
                options: WriteOptions::default(),
            },
        ])
        .await;
    assert_eq!(operations.len(), 3, "the projection is not stored, the marker is");
    let Operation::Set { key, value, .. } = &operations[2] else {
        panic!("a marker")
    };
    assert!(key.starts_with("outbox-"));
    assert_eq!(&value.bytes()[..], b"\"0\"");
    let marker = key.to_string();
    life.commit(operations).await;
    life.outbox.settled(ticket, true);
    life.relayed(1).await;
    assert!(
        start.elapsed() < Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );

    let internal = &life.log.sent(INTERNAL)[0];
    assert_eq!(internal["topic"], "");
    let event = &life.log.sent("orders")[0];
    assert_eq!(event["id"], marker);
    assert_eq!(event["source"], "app");
    assert_eq!(
        (&event["topic"], &event["pubsubname"]),
        (&"orders".into(), &"ps".into())
    );
    assert_eq!(
        (&event["traceid"], &event["traceparent"]),
        (&"tp".into(), &"".into())
    );
    assert_eq!(event["datacontenttype"], "application/json");
    assert_eq!(event["data"], serde_json::json!({"a": 1}));
    assert_eq!(event["cloudevent.x"], "y");
    life.outbox.stop().await;
}

#[tokio::test(start_paused = true)]
async fn killed_before_the_commit() {
    let life = Life::first(&[]);
    let _ = life.prepare(vec![set("k", "1", &[])]).await;
    let life = life.die();
    life.outbox.start().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(life.log.sent("orders").is_empty());
    assert_eq!(life.log.open(INTERNAL), 1, "refused for later, as upstream does");

    let life = Life::first(&[("outboxDiscardWhenMissingState", "true")]);
    let _ = life.prepare(vec![set("k", "1", &[])]).await;
    let life = life.die();
    life.outbox.start().await;
    life.relayed(0).await;
}

#[tokio::test(start_paused = true)]
async fn killed_after_the_commit() {
    let life = Life::first(&[]);
    let (operations, _) = life.prepare(vec![set("k", "1", &[]), set("l", "2", &[])]).await;
    life.commit(operations).await;
    let life = life.die();
    life.outbox.start().await;
    life.relayed(2).await;
}

#[tokio::test(start_paused = true)]
async fn killed_while_another_process_commits_late() {
    let life = Life::first(&[]);
    let (operations, _) = life.prepare(vec![set("k", "1", &[])]).await;
    // The message reached an instance that knows nothing of the transaction.
    let life = life.die();
    life.outbox.start().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    life.commit(operations).await;
    life.relayed(1).await;
}

#[tokio::test(start_paused = true)]
async fn killed_between_publish_and_marker() {
    let life = Life::first(&[]);
    life.outbox.start().await;
    *life.store.bad_deletes.lock() = usize::MAX;
    let (operations, ticket) = life.prepare(vec![set("k", "1", &[])]).await;
    life.commit(operations).await;
    life.outbox.settled(ticket, true);
    life.log.wait(|log| log.sent("orders").len() == 1).await;
    let life = life.die();
    *life.store.bad_deletes.lock() = 0;
    life.outbox.start().await;
    // At least once: it comes twice.
    life.relayed(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_marker_that_stays_does_not_repeat_the_event() {
    let life = Life::first(&[]);
    life.outbox.start().await;
    *life.store.bad_deletes.lock() = 10;
    let (operations, ticket) = life.prepare(vec![set("k", "1", &[])]).await;
    life.commit(operations).await;
    life.outbox.settled(ticket, true);
    life.relayed(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_fails_is_tried_again() {
    let life = Life::first(&[]);
    life.outbox.start().await;
    life.log.faults.lock().insert("orders".to_owned(), (0, 5));
    let (operations, ticket) = life.prepare(vec![set("k", "1", &[])]).await;
    life.commit(operations).await;
    life.outbox.settled(ticket, true);
    life.relayed(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_transaction_has_no_event() {
    let life = Life::first(&[]);
    life.outbox.start().await;
    let (_, ticket) = life.prepare(vec![set("k", "1", &[])]).await;
    life.outbox.settled(ticket, false);
    // Others pass meanwhile.
    let (operations, ticket) = life.prepare(vec![set("l", "2", &[])]).await;
    life.commit(operations).await;
    let start = Instant::now();
    life.outbox.settled(ticket, true);
    life.log.wait(|log| log.sent("orders").len() == 1).await;
    assert!(start.elapsed() < Duration::from_secs(1));
    life.relayed(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_only_seemed_to_fail_has_its_event() {
    let life = Life::first(&[]);
    life.outbox.start().await;
    let (operations, ticket) = life.prepare(vec![set("k", "1", &[])]).await;
    life.outbox.settled(ticket, false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    life.commit(operations).await;
    life.relayed(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_is_given_up_has_no_event() {
    let life = Life::first(&[]);
    life.outbox.start().await;
    life.log.faults.lock().insert(INTERNAL.to_owned(), (1, 1));
    let operations = vec![set("k", "1", &[]), set("l", "2", &[])];
    let error = life
        .outbox
        .prepare("store", operations, TraceInfo::default())
        .await
        .unwrap_err();
    assert_eq!(error, "the broker is down");
    life.relayed(0).await;
}
