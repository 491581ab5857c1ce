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

mod binding;
mod pubsub;
mod state;

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

/// Notes what comes.
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
