//! Both ends against one another: our client on our server over a real socket, also when the server's process dies.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use outrigger_bindings::{
    Binding, Event, EventHandler, InputBinding, InvokeError, InvokeRequest, InvokeResponse, OutputBinding,
    Reading,
};
use outrigger_component::{
    Error, ErrorKind, Host, Metadata, Open, Properties, Registration, SecretString, Spec, open_with,
};
use outrigger_components_pluggable::{Offer, Server, discover};
use outrigger_pubsub::{
    Capabilities, Delivery, DynPubSub, EntryId, Handler, Outgoing, OutgoingEntry, PubSub, SharedPubSub,
    SubscribeRequest, Subscription, SubscriptionControl, Verdict,
};
use outrigger_secrets::{DynSecretStore, Secret, SecretStore};
use outrigger_state::{
    Consistency, Expect, Operation, Query, ReadOptions, SharedStateStore, Ttl, Value, WriteOptions,
};
use outrigger_types::Topic;
use tokio::{net::UnixListener, sync::Notify};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A component process: a runtime of its own, so that killing it drops connections as a dead process does.
struct Process(Option<tokio::runtime::Runtime>);

impl Process {
    fn start(socket: &Path, offer: Offer) -> Self {
        let _ = std::fs::remove_file(socket);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(socket).unwrap()
        };
        let server = Server::new(offer, "", Host::new("component", "."));
        runtime.spawn(async move { server.serve(listener, std::future::pending()).await.unwrap() });
        Self(Some(runtime))
    }

    fn kill(mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.sock"))
    }
}

fn spec(type_name: &str, properties: &[(&str, &str)]) -> Spec {
    Spec {
        name: "mine".into(),
        type_name: type_name.to_owned(),
        version: "v1".to_owned(),
        properties: Properties::from_pairs(properties.iter().copied()),
    }
}

fn host() -> Host {
    Host::new("app", ".")
}

async fn open_state(folder: &Folder) -> SharedStateStore {
    let found = discover(folder.0.path()).await;
    let open = found.state(&spec("state.Store", &[])).expect("the type is found");
    open.run(host()).await.unwrap()
}

fn set(key: &str, value: &str, expect: Expect) -> Operation {
    Operation::Set {
        key: key.into(),
        value: Value::Json(Bytes::copy_from_slice(value.as_bytes())),
        expect,
        ttl: Ttl::Default,
        options: WriteOptions::default(),
    }
}

fn delete(key: &str, expect: Expect) -> Operation {
    Operation::Delete {
        key: key.into(),
        expect,
        options: WriteOptions::default(),
    }
}

async fn read(store: &SharedStateStore, key: &str) -> Option<Bytes> {
    let options = ReadOptions {
        consistency: Consistency::Strong,
        ..ReadOptions::default()
    };
    let item = store.get(&key.into(), &options).await.unwrap();
    item.map(|item| item.value.into_bytes())
}

/// Repeats until it succeeds.
async fn eventually<T, F: Future<Output = Option<T>>>(mut attempt: impl FnMut() -> F) -> T {
    tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(done) = attempt().await {
                return done;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("in time")
}

#[tokio::test]
async fn a_state_store_works_over_the_socket() {
    let folder = Folder::new();
    let _process = Process::start(
        &folder.socket("store"),
        Offer::State(outrigger_state::memory_registration()),
    );
    let store = open_state(&folder).await;
    let capabilities = store.capabilities();
    assert!(capabilities.etag && capabilities.transactional && capabilities.ttl);
    assert_eq!(store.transaction_limit().await, None);
    store.ping().await.unwrap();

    store
        .transact(vec![set("a", r#"{"n":1}"#, Expect::Absent)])
        .await
        .unwrap();
    assert_eq!(read(&store, "a").await.as_deref(), Some(&br#"{"n":1}"#[..]));
    assert_eq!(read(&store, "nothing").await, None);
    let refused = store
        .transact(vec![set("a", "2", Expect::Absent)])
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::EtagMismatch);
    let item = store
        .get(&"a".into(), &ReadOptions::default())
        .await
        .unwrap()
        .unwrap();
    let etag = item.etag.unwrap();
    store
        .transact(vec![set("a", r#"{"n":2}"#, Expect::Match(etag.clone()))])
        .await
        .unwrap();
    let stale = store
        .transact(vec![delete("a", Expect::Match(etag))])
        .await
        .unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::EtagMismatch);

    let each = store
        .apply_each(vec![set("b", "1", Expect::Any), set("c", "2", Expect::Any)])
        .await;
    assert!(each.iter().all(Result::is_ok));
    let keys = ["c".into(), "nothing".into(), "b".into()];
    let found = store.get_many(&keys, &ReadOptions::default()).await;
    let found: Vec<_> = found
        .into_iter()
        .map(|item| item.unwrap().map(|item| item.value.into_bytes()))
        .collect();
    assert_eq!(found, [Some("2".into()), None, Some("1".into())]);

    // All or nothing, with the etag error of the transaction.
    let failed = store
        .transact(vec![delete("b", Expect::Any), set("a", "3", Expect::Absent)])
        .await
        .unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::EtagMismatch);
    assert!(read(&store, "b").await.is_some());
    store
        .transact(vec![delete("b", Expect::Any), delete("c", Expect::Any)])
        .await
        .unwrap();
    assert!(read(&store, "b").await.is_none());

    let mut expiring = set("short", "1", Expect::Any);
    if let Operation::Set { ttl, .. } = &mut expiring {
        *ttl = Ttl::Seconds(100);
    }
    store.transact(vec![expiring]).await.unwrap();
    let item = store.get(&"short".into(), &ReadOptions::default()).await.unwrap();
    assert!(item.unwrap().expires.is_some());

    // The in-memory store does not search; its refusal comes back as the status it is.
    let query = Query::from_json(br#"{"filter":{"EQ":{"n":2}}}"#).unwrap();
    let refused = store.query(query, ReadOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Status(12));

    store.close().await.unwrap();
    let closed = store.get(&"a".into(), &ReadOptions::default()).await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_store_is_reached_again_after_its_process_died() {
    let folder = Folder::new();
    let socket = folder.socket("store");
    let offer = Offer::State(outrigger_state::memory_registration());
    let process = Process::start(&socket, offer);
    let store = open_state(&folder).await;
    store.transact(vec![set("a", "1", Expect::Any)]).await.unwrap();
    process.kill();
    let options = ReadOptions::default();
    let down = eventually(|| async { store.get(&"a".into(), &options).await.err() }).await;
    assert!(matches!(
        down.kind(),
        ErrorKind::Unavailable | ErrorKind::Status(_)
    ));

    let _again = Process::start(&socket, offer);
    // Only an Init makes the new process answer; what was in memory is gone with the old one.
    let item = eventually(|| async { store.get(&"a".into(), &options).await.ok() }).await;
    assert!(item.is_none());
    store.transact(vec![set("a", "2", Expect::Any)]).await.unwrap();
    assert_eq!(read(&store, "a").await.as_deref(), Some(&b"2"[..]));
}

/// Notes what comes; refuses the first of each text that begins with "again".
#[derive(Default)]
struct Notes {
    seen: Mutex<Vec<String>>,
    came: Notify,
}

impl Notes {
    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    async fn wait_for(&self, text: &str) {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let came = self.came.notified();
                if self.seen().iter().any(|seen| seen == text) {
                    return;
                }
                came.await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{text} comes; came: {:?}", self.seen()));
    }

    fn note(&self, text: &[u8]) {
        self.seen
            .lock()
            .unwrap()
            .push(String::from_utf8_lossy(text).into_owned());
        self.came.notify_waiters();
    }
}

impl Handler for Notes {
    fn handle(&self, delivery: Delivery) -> BoxFuture<'_, Verdict> {
        Box::pin(async move {
            self.note(&delivery.data);
            assert_eq!(delivery.metadata.get("colour").map(String::as_str), Some("red"));
            Verdict::Ack
        })
    }
}

fn message(topic: &str, text: &str) -> Outgoing {
    Outgoing {
        topic: Topic::from(topic),
        data: Bytes::copy_from_slice(text.as_bytes()),
        content_type: Some("text/plain".to_owned()),
        metadata: Metadata::from([("colour".to_owned(), "red".to_owned())]),
    }
}

fn request(topic: &str) -> SubscribeRequest {
    SubscribeRequest {
        topic: Topic::from(topic),
        group: "app".to_owned(),
        metadata: Metadata::new(),
        bulk: None,
    }
}

async fn open_pubsub(folder: &Folder) -> SharedPubSub {
    let found = discover(folder.0.path()).await;
    let open = found.pubsub(&spec("pubsub.bus", &[])).expect("the type is found");
    open.run(host()).await.unwrap()
}

#[tokio::test]
async fn a_broker_works_over_the_socket() {
    let folder = Folder::new();
    let _process = Process::start(
        &folder.socket("bus"),
        Offer::PubSub(outrigger_pubsub::memory_registration()),
    );
    let broker = open_pubsub(&folder).await;
    let notes = Arc::new(Notes::default());
    let subscription = broker
        .subscribe(request("t"), Arc::clone(&notes) as _)
        .await
        .unwrap();
    broker.publish(message("t", "one")).await.unwrap();
    notes.wait_for("one").await;
    let Outgoing {
        data,
        content_type,
        metadata,
        ..
    } = message("t", "two");
    let entry = OutgoingEntry {
        id: EntryId::from("1"),
        data,
        content_type,
        metadata,
    };
    let failures = broker
        .publish_bulk(&Topic::from("t"), vec![entry], &Metadata::new())
        .await;
    assert!(failures.is_empty());
    notes.wait_for("two").await;

    // The end of the last subscription pauses the component, the next one resumes it.
    subscription.pause().await;
    subscription.close().await;
    broker.publish(message("t", "unheard")).await.unwrap();
    let other = broker
        .subscribe(request("u"), Arc::clone(&notes) as _)
        .await
        .unwrap();
    broker.publish(message("u", "three")).await.unwrap();
    notes.wait_for("three").await;
    assert_eq!(notes.seen(), ["one", "two", "three"]);
    other.close().await;
    broker.close().await.unwrap();
    let refused = broker.publish(message("t", "late")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
}

/// A broker whose subscriptions are in force when they are let through, and that takes nothing before.
#[derive(Debug)]
struct Gated;

/// Rings when a subscription is being made.
static ASKED: Notify = Notify::const_new();
/// Lets it through.
static GATE: Notify = Notify::const_new();
static IN_FORCE: AtomicBool = AtomicBool::new(false);

impl PubSub for Gated {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn publish(&self, _message: Outgoing) -> Result<(), Error> {
        if IN_FORCE.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(Error::internal("nobody would get it"))
    }

    async fn subscribe(
        &self,
        _request: SubscribeRequest,
        _handler: Arc<dyn Handler>,
    ) -> Result<Subscription, Error> {
        ASKED.notify_one();
        GATE.notified().await;
        IN_FORCE.store(true, Ordering::SeqCst);
        Ok(Subscription::new(Gated))
    }
}

impl SubscriptionControl for Gated {
    fn pause(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

fn gated(_spec: &Spec) -> Result<Open<dyn DynPubSub>, Error> {
    Ok(open_with(async |_host| Ok(Arc::new(Gated) as Arc<dyn DynPubSub>)))
}

/// Go's client counts a subscription as made when it has asked for it, and publishes.
#[tokio::test]
async fn what_is_published_behind_a_subscription_finds_it_in_force() {
    let folder = Folder::new();
    let offer = Offer::PubSub(Registration {
        type_names: &["pubsub.gated"],
        versions: &["v1"],
        validate: gated,
    });
    let _process = Process::start(&folder.socket("bus"), offer);
    let broker = open_pubsub(&folder).await;
    let subscribing = {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move { broker.subscribe(request("t"), Arc::new(Notes::default())).await })
    };
    ASKED.notified().await;
    assert!(broker.publish(message("other", "one")).await.is_err());
    let mut publishing = std::pin::pin!(broker.publish(message("t", "one")));
    let moment = Duration::from_millis(100);
    assert!(tokio::time::timeout(moment, &mut publishing).await.is_err());
    GATE.notify_one();
    publishing.await.unwrap();
    subscribing.await.unwrap().unwrap().close().await;
}

#[tokio::test]
async fn a_subscription_goes_on_after_the_component_died() {
    let folder = Folder::new();
    let socket = folder.socket("bus");
    let offer = Offer::PubSub(outrigger_pubsub::memory_registration());
    let process = Process::start(&socket, offer);
    let broker = open_pubsub(&folder).await;
    let notes = Arc::new(Notes::default());
    let subscription = broker
        .subscribe(request("t"), Arc::clone(&notes) as _)
        .await
        .unwrap();
    broker.publish(message("t", "before")).await.unwrap();
    notes.wait_for("before").await;
    process.kill();

    let _again = Process::start(&socket, offer);
    // In memory nothing waits for the subscription to come back, so ask until it is there.
    eventually(|| async {
        let _ = broker.publish(message("t", "after")).await;
        notes.seen().iter().any(|text| text == "after").then_some(())
    })
    .await;
    subscription.close().await;
}

/// Answers what it is given, and brings an event for each invocation.
#[derive(Debug, Default)]
struct Echo {
    asked: Arc<Notify>,
    answers: Mutex<Vec<Result<Bytes, String>>>,
}

impl OutputBinding for Echo {
    fn operations(&self) -> Vec<&str> {
        vec!["create", "get"]
    }

    async fn invoke(&self, request: InvokeRequest) -> Result<Option<InvokeResponse>, InvokeError> {
        match request.operation.as_str() {
            "create" => {
                self.asked.notify_one();
                Ok(Some(InvokeResponse {
                    data: Some(request.data),
                    metadata: request.metadata,
                    content_type: Some("text/plain".to_owned()),
                }))
            }
            "get" => {
                let answers = self.answers.lock().unwrap();
                let text = format!("{answers:?}");
                Ok(Some(InvokeResponse {
                    data: Some(text.into()),
                    ..InvokeResponse::default()
                }))
            }
            other => Err(Error::unsupported(format!("no operation {other}")).into()),
        }
    }
}

struct Stop(tokio::task::JoinHandle<()>);

impl Reading for Stop {
    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.abort();
        Box::pin(std::future::ready(()))
    }
}

#[derive(Debug)]
struct EchoInput(Arc<Echo>);

impl InputBinding for EchoInput {
    async fn read(&self, handler: Arc<dyn EventHandler>) -> Result<Box<dyn Reading>, Error> {
        let echo = Arc::clone(&self.0);
        Ok(Box::new(Stop(tokio::spawn(async move {
            loop {
                echo.asked.notified().await;
                let event = Event {
                    data: "ping".into(),
                    ..Event::default()
                };
                let answer = handler.handle(event).await;
                let answer = answer
                    .map(Option::unwrap_or_default)
                    .map_err(|error| error.chain());
                echo.answers.lock().unwrap().push(answer);
            }
        }))))
    }
}

fn echo(_spec: &Spec) -> Result<Open<Binding>, Error> {
    Ok(open_with(async |_host| {
        let echo = Arc::new(Echo::default());
        let output = Echo {
            asked: Arc::clone(&echo.asked),
            ..Echo::default()
        };
        Ok(Arc::new(Binding {
            input: Some(Arc::new(EchoInput(echo))),
            output: Some(Arc::new(output)),
        }))
    }))
}

struct App(Arc<Notes>);

impl EventHandler for App {
    fn handle(&self, event: Event) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        Box::pin(async move {
            self.0.note(&event.data);
            Ok(Some("pong".into()))
        })
    }
}

#[tokio::test]
async fn a_binding_works_over_the_socket() {
    let folder = Folder::new();
    let registration = Registration {
        type_names: &["bindings.echo"],
        versions: &["v1"],
        validate: echo,
    };
    let _process = Process::start(
        &folder.socket("echo"),
        Offer::Bindings {
            registration,
            input: true,
            output: true,
        },
    );
    let found = discover(folder.0.path()).await;
    assert!(
        found.state(&spec("state.echo", &[])).is_none(),
        "another block's type"
    );
    let open = found
        .binding(&spec("bindings.echo", &[]))
        .expect("the type is found");
    let binding = open.run(host()).await.unwrap();
    let (input, output) = (binding.input.clone().unwrap(), binding.output.clone().unwrap());
    assert_eq!(output.operations(), ["create", "get"]);
    let notes = Arc::new(Notes::default());
    let reading = input.read(Arc::new(App(Arc::clone(&notes)))).await.unwrap();
    let answer = output
        .invoke(InvokeRequest {
            data: "hello".into(),
            operation: "create".to_owned(),
            metadata: Metadata::from([("a".to_owned(), "b".to_owned())]),
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer.data.as_deref(), Some(&b"hello"[..]));
    assert_eq!(answer.metadata["a"], "b");
    assert_eq!(answer.content_type.as_deref(), Some("text/plain"));
    notes.wait_for("ping").await;
    reading.close().await;
    let unknown = InvokeRequest {
        operation: "absent".to_owned(),
        ..InvokeRequest::default()
    };
    // The status is kept, and trying again is left to policies, as upstream does.
    let refused = output.invoke(unknown.clone()).await.unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Status(12));
    output.close().await.unwrap();
    let closed = output.invoke(unknown).await.unwrap_err();
    assert_eq!(closed.error.kind(), ErrorKind::Closed);
}

#[derive(Debug)]
struct Vault;

impl SecretStore for Vault {
    async fn get(&self, name: &str, _metadata: &Metadata) -> Result<Secret, Error> {
        let all = held();
        all.get(name)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no secret {name}")))
    }

    async fn all(&self, _metadata: &Metadata) -> Result<BTreeMap<String, Secret>, Error> {
        Ok(held())
    }
}

fn held() -> BTreeMap<String, Secret> {
    let value = SecretString::from("hidden-value");
    BTreeMap::from([("token".to_owned(), Secret::from([("token".to_owned(), value)]))])
}

fn vault(_spec: &Spec) -> Result<Open<dyn DynSecretStore>, Error> {
    Ok(open_with(async |_host| {
        Ok(Arc::new(Vault) as Arc<dyn DynSecretStore>)
    }))
}

#[tokio::test]
async fn a_secret_store_works_over_the_socket() {
    let folder = Folder::new();
    let registration = Registration {
        type_names: &["secretstores.vault"],
        versions: &["v1"],
        validate: vault,
    };
    let _process = Process::start(&folder.socket("vault"), Offer::Secrets(registration));
    let found = discover(folder.0.path()).await;
    let open = found
        .secret_store(&spec("secretstores.vault", &[]))
        .expect("the type is found");
    let store = open.run(host()).await.unwrap();
    outrigger_secrets::suite::run(&store, &held(), outrigger_secrets::suite::Absent::NotFound).await;
}

#[tokio::test]
async fn a_dead_socket_and_other_files_cost_only_themselves() {
    let folder = Folder::new();
    let _process = Process::start(
        &folder.socket("store"),
        Offer::State(outrigger_state::memory_registration()),
    );
    drop(UnixListener::bind(folder.socket("dead")).unwrap());
    std::fs::write(folder.0.path().join("README"), "no socket").unwrap();
    std::fs::create_dir(folder.0.path().join("below")).unwrap();
    let found = discover(folder.0.path()).await;
    assert!(found.state(&spec("state.store", &[])).is_some());
    assert!(found.state(&spec("state.dead", &[])).is_none());
    let mut second = spec("state.store", &[]);
    second.version = "v2".to_owned();
    assert!(
        found.state(&second).is_none(),
        "discovered types have one version"
    );
    assert!(
        discover(&folder.0.path().join("nowhere"))
            .await
            .state(&spec("state.store", &[]))
            .is_none()
    );
}
