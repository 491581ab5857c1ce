//! Managers on their host, and what tests ask of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outrigger_kit::testing::{Cluster, Sidecar};
use outrigger_kit::{CancellationToken, Environment, Event, RetryPolicy};
use outrigger_platform_engine::Engines;
use outrigger_platform_engine_wasm::{WasmEngine, WasmSettings};
use outrigger_platform_service::host::serve_until;
use outrigger_platform_service::{Backend, Context};
use outrigger_platform_wire::virtufin as proto;
use outrigger_platform_workers::service;
use proto::work_manager_client::WorkManagerClient;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::GATEWAY;
use crate::engine::{MIME, Observed, RecipeFactory};

pub(crate) const STORE: &str = "statestore";
pub(crate) const PUBSUB: &str = "pubsub";

/// A cluster, and the gateway of it where tests go by one.
pub(crate) struct Platform {
    cluster: Cluster,
    gateway: tokio::sync::OnceCell<Gateway>,
}

struct Gateway {
    channel: Channel,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
    _sidecar: Sidecar,
    _folder: tempfile::TempDir,
}

impl Platform {
    pub(crate) fn new() -> Self {
        Self {
            cluster: Cluster::new(),
            gateway: tokio::sync::OnceCell::new(),
        }
    }

    /// State and events for a manager beside this sidecar.
    async fn backend(&self, sidecar: &Sidecar) -> Backend {
        if !GATEWAY {
            return Backend::sidecar(sidecar.client(), STORE, PUBSUB);
        }
        let gateway = self.gateway.get_or_init(|| Gateway::start(&self.cluster)).await;
        let retry = RetryPolicy::new(3, Duration::from_millis(10)).unwrap();
        Backend::gateway(gateway.channel.clone(), "workmanager", retry)
    }
}

impl std::ops::Deref for Platform {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Gateway {
    async fn start(cluster: &Cluster) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("services.json");
        let services = json!({"services": [{"name": "workmanager", "daprAppId": "workmanager"}]});
        std::fs::write(&file, services.to_string()).unwrap();
        let sidecar = cluster.sidecar("gateway").await.unwrap();
        let environment = sidecar.environment();
        let arguments = vec![format!("--services={}", file.display())];
        let [http, grpc, web] = [listen().await, listen().await, listen().await];
        let address = grpc.local_addr().unwrap();
        let context = Context {
            settings: outrigger_platform_gateway::definition()
                .load(arguments, &environment)
                .unwrap(),
            environment,
            instance: "gateway".to_owned(),
            client: sidecar.client(),
            backend: Backend::sidecar(sidecar.client(), STORE, PUBSUB),
            http: http.local_addr().unwrap(),
            grpc: address,
        };
        let service = outrigger_platform_gateway::make(context, web).await.unwrap();
        let task = tokio::spawn(serve_until(service, http, grpc, std::future::pending()));
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy();
        let gateway = Self {
            channel,
            task,
            _sidecar: sidecar,
            _folder: folder,
        };
        let backend = Backend::gateway(gateway.channel.clone(), "workmanager", RetryPolicy::none());
        until("the gateway is ready", async || backend.get("nothing").await.ok()).await;
        gateway
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// One instance of the manager and its sidecar.
pub(crate) struct Instance {
    pub(crate) client: WorkManagerClient<Channel>,
    pub(crate) http: SocketAddr,
    pub(crate) backend: Backend,
    pub(crate) observed: Arc<Observed>,
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
    _sidecar: Sidecar,
}

/// A manager of a cluster with these variables in its environment; it may not be ready yet.
pub(crate) async fn start(cluster: &Platform, name: &str, variables: &[(&str, &str)]) -> Instance {
    let sidecar = cluster.sidecar("workmanager").await.unwrap();
    let (http, grpc) = (listen().await, listen().await);
    let addresses = (http.local_addr().unwrap(), grpc.local_addr().unwrap());
    let mut environment: Environment = sidecar.environment();
    // Tests have no time; what is set comes after.
    for (name, value) in [
        ("WORKER_SYNC_INTERVAL_MS", "50"),
        ("WORKER_RETRY_BASE_DELAY_MS", "10"),
        ("GROUP_LOCK_RETRY_BASE_DELAY_MS", "20"),
        ("ALLOWED_CODE_SOURCE_HOSTS", "127.0.0.1"),
    ] {
        environment.insert(name.to_owned(), value.to_owned());
    }
    for (name, value) in variables {
        environment.insert((*name).to_owned(), (*value).to_owned());
    }
    let settings = service::definition().load(Vec::new(), &environment).unwrap();
    let backend = cluster.backend(&sidecar).await;
    let observed = Arc::new(Observed::default());
    let wasm = WasmSettings {
        timeout: Duration::from_secs(settings.number("MessageHandlingTimeoutSeconds").unwrap()),
        ..WasmSettings::default()
    };
    let engines = Engines::new()
        .with(Arc::new(RecipeFactory::observed_by(observed.clone())))
        .with(Arc::new(WasmEngine::new(wasm)));
    let context = Context {
        settings,
        environment,
        instance: name.to_owned(),
        client: sidecar.client(),
        backend: backend.clone(),
        http: addresses.0,
        grpc: addresses.1,
    };
    let service = service::make(context, engines).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve_until(service, http, grpc, stop.clone().cancelled_owned()));
    let channel = Endpoint::from_shared(format!("http://{}", addresses.1))
        .unwrap()
        .connect_lazy();
    Instance {
        client: WorkManagerClient::new(channel),
        http: addresses.0,
        backend,
        observed,
        stop,
        task: Some(task),
        _sidecar: sidecar,
    }
}

/// A manager that takes calls.
pub(crate) async fn ready(cluster: &Platform, name: &str, variables: &[(&str, &str)]) -> Instance {
    let instance = start(cluster, name, variables).await;
    instance.wait_until_ready().await;
    instance
}

impl Instance {
    pub(crate) async fn wait_until_ready(&self) {
        until("the manager is ready", async || {
            let ask = proto::ListWorkersRequest::default();
            self.client.clone().list_workers(ask).await.ok()
        })
        .await;
    }

    /// Asks it to stop and waits for its end.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        self.task.take().unwrap().await.unwrap().unwrap();
    }

    pub(crate) async fn create(&self, request: proto::CreateWorkerRequest) -> Result<String, Status> {
        let created = self.client.clone().create_worker(request).await?;
        Ok(created.into_inner().id)
    }

    pub(crate) async fn list(&self) -> Vec<proto::WorkerInfo> {
        let ask = proto::ListWorkersRequest::default();
        self.client
            .clone()
            .list_workers(ask)
            .await
            .unwrap()
            .into_inner()
            .workers
    }

    pub(crate) async fn publish(&self, topic: &str, event: &Event<Value>) {
        self.backend.publish(topic, event).await.unwrap();
    }

    /// The health entry `recovery`.
    pub(crate) async fn recovery(&self) -> (String, String) {
        let (_, body) = http(self.http, "GET", "/health", None).await;
        let entry = &body["entries"]["recovery"];
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        (text("status"), text("description"))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Like a crash: nothing is finished, nothing released.
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// A recipe as code.
pub(crate) fn inline(recipe: &Value) -> Option<proto::CodeSource> {
    Some(proto::CodeSource {
        source: Some(proto::code_source::Source::Content(recipe.to_string().into())),
        ..proto::CodeSource::default()
    })
}

/// A worker of a topic with a recipe.
pub(crate) fn worker(topic: &str, recipe: &Value) -> proto::CreateWorkerRequest {
    proto::CreateWorkerRequest {
        code_source: inline(recipe),
        mime_type: MIME.to_owned(),
        topic: topic.to_owned(),
        ..proto::CreateWorkerRequest::default()
    }
}

/// An event of this id.
pub(crate) fn event(id: impl std::fmt::Display) -> Event<Value> {
    let mut event = Event::new("order.placed", "shop", json!({"n": 1}));
    event.id = id.to_string();
    event
}

/// What outputs of recipes are of, in the order of their publication.
pub(crate) fn answered(cluster: &Cluster, topic: &str) -> Vec<String> {
    let published = cluster.published(topic);
    published
        .iter()
        .map(|event| event["data"]["of"].as_str().unwrap().to_owned())
        .collect()
}

/// Types of lifecycle events of a worker, without what they share.
pub(crate) fn transitions(cluster: &Cluster, worker: &str) -> Vec<String> {
    cluster
        .published("workmanager.lifecycle")
        .iter()
        .filter(|event| event["data"]["worker_id"] == worker)
        .map(|event| {
            let kind = event["type"].as_str().unwrap();
            let state = kind.strip_prefix("com.virtufin.workmanager.lifecycle.");
            state.unwrap().to_owned()
        })
        .collect()
}

/// Waits for a value.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(180);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One HTTP request; the answer's status and its JSON.
pub(crate) async fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> (u16, Value) {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// The answer to a `GET` of a process that may not listen yet.
pub(crate) async fn try_http(port: u16, path: &str) -> Option<(u16, Value)> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    TcpStream::connect(address).await.ok()?;
    Some(http(address, "GET", path, None).await)
}

/// A server of documents that answers every request alike; what it was asked is told.
pub(crate) async fn server(document: String) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, heads) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 8192];
            let length = stream.read(&mut head).await.unwrap_or_default();
            let _ = sender.send(String::from_utf8_lossy(&head[..length]).into_owned());
            let answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{document}",
                document.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, heads)
}
