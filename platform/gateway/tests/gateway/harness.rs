//! A gateway in this process, and clients of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use outrigger_kit::CancellationToken;
use outrigger_kit::testing::{Cluster, Sidecar};
use outrigger_platform_gateway::{definition, make};
use outrigger_platform_service::host::{Context, serve_until};
use outrigger_platform_wire::virtufin::config_client::ConfigClient;
use outrigger_platform_wire::virtufin::gateway_client::GatewayClient;
use outrigger_platform_wire::virtufin::pubsub_client::PubsubClient;
use outrigger_platform_wire::virtufin::state_client::StateClient;
use outrigger_platform_wire::virtufin::{InvokeJsonRequest, InvokeJsonResponse};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint};

/// For anything that comes at its own time.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) cluster: Cluster,
    pub(crate) sidecar: Sidecar,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) web: SocketAddr,
    pub(crate) channel: Channel,
    pub(crate) file: PathBuf,
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
    _folder: tempfile::TempDir,
}

impl Gateway {
    pub(crate) async fn start(services: Value, flags: &[&str]) -> Self {
        Self::start_in(Cluster::new(), services, flags).await
    }

    pub(crate) async fn start_in(cluster: Cluster, services: Value, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("services.json");
        std::fs::write(&file, json!({"services": services}).to_string()).unwrap();
        let sidecar = cluster.sidecar("gateway").await.unwrap();
        let mut arguments = vec![format!("--services={}", file.display())];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let environment = sidecar.environment();
        let settings = definition().load(arguments, &environment).unwrap();
        let mut listeners = Vec::new();
        for _ in 0..3 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let addresses: Vec<SocketAddr> = listeners.iter().map(|it| it.local_addr().unwrap()).collect();
        let (web, grpc, http) = (
            listeners.pop().unwrap(),
            listeners.pop().unwrap(),
            listeners.pop().unwrap(),
        );
        let client = sidecar.client();
        let context = Context {
            backend: outrigger_platform_service::Backend::sidecar(client.clone(), "statestore", "pubsub"),
            settings,
            environment,
            instance: "test".to_owned(),
            client,
            http: addresses[0],
            grpc: addresses[1],
        };
        let service = make(context, web).await.unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve_until(service, http, grpc, stop.clone().cancelled_owned()));
        let gateway = Self {
            cluster,
            sidecar,
            http: addresses[0],
            grpc: addresses[1],
            web: addresses[2],
            channel: Endpoint::from_shared(format!("http://{}", addresses[1]))
                .unwrap()
                .connect_lazy(),
            file,
            stop,
            task: Some(task),
            _folder: folder,
        };
        until("the gateway is ready", async || {
            gateway.get("/health/ready").await.status == StatusCode::OK
                && gateway
                    .gateway()
                    .list_services(outrigger_platform_wire::virtufin::Empty {})
                    .await
                    .is_ok()
        })
        .await;
        gateway
    }

    pub(crate) fn gateway(&self) -> GatewayClient<Channel> {
        GatewayClient::new(self.channel.clone())
    }

    pub(crate) fn state(&self) -> StateClient<Channel> {
        StateClient::new(self.channel.clone())
    }

    pub(crate) fn pubsub(&self) -> PubsubClient<Channel> {
        PubsubClient::new(self.channel.clone())
    }

    pub(crate) fn config(&self) -> ConfigClient<Channel> {
        ConfigClient::new(self.channel.clone())
    }

    /// Calls a method with JSON.
    pub(crate) async fn invoke_json(&self, service: &str, method: &str, json: &Value) -> InvokeJsonResponse {
        self.gateway()
            .invoke_json(InvokeJsonRequest {
                service: service.to_owned(),
                method: method.to_owned(),
                request_data: json.to_string(),
            })
            .await
            .unwrap()
            .into_inner()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.http));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        send(request.body(Body::from(body)).unwrap()).await
    }

    /// An entry of `/health`.
    pub(crate) async fn health(&self, entry: &str) -> Value {
        self.get("/health").await.json()["entries"][entry].clone()
    }

    pub(crate) fn write_services(&self, text: &str) {
        std::fs::write(&self.file, text).unwrap();
    }

    /// Stops it and waits for its end.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            tokio::time::timeout(SOON, task).await.unwrap().unwrap().unwrap();
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An HTTP answer, read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub(crate) async fn send(request: Request<Body>) -> Answer {
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let (parts, body) = client.request(request).await.unwrap().into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !holds().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what}: not within {SOON:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
