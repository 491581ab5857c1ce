//! One instance of the service, in a runtime of its own so that it can die.

use std::net::SocketAddr;

use outrigger_kit::testing::{Cluster, Sidecar};
use outrigger_kit::{CancellationToken, Environment};
use outrigger_platform_service::host::serve_until;
use outrigger_platform_service::{Backend, Context};
use outrigger_platform_websockets::{definition, names, service};
use outrigger_platform_wire::virtufin::web_socket_manager_client::WebSocketManagerClient;
use outrigger_platform_wire::virtufin::{
    ConnectRequest, DisconnectRequest, ListRequest, SendRawRequest, SendRequest, StartPublishRequest,
    StopPublishRequest, TagFilter, WebSocketConnection,
};
use serde_json::Value;
use tokio::net::TcpListener;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::peer::Peer;
use crate::until;
use crate::world::World;

/// Short times, so that tests do not take long.
const QUICK: [&str; 12] = [
    "--reconnect-delay-ms=20",
    "--reconnect-max-delay-ms=50",
    "--heartbeat-ms=250",
    "--sweep-interval-ms=100",
    "--owner-grace-ms=2000",
    "--heartbeat-events=false",
    "--connect-timeout-ms=5000",
    "--ping-interval-ms=2000",
    "--log-level=warn",
    "--log-format=text",
    "--max-connections=100",
    "--publish-batch=100",
];

pub(crate) struct Instance {
    pub(crate) client: WebSocketManagerClient<Channel>,
    pub(crate) http: SocketAddr,
    /// For looks at what is stored.
    pub(crate) backend: Backend,
    _sidecar: Sidecar,
    runtime: Option<tokio::runtime::Runtime>,
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Instance {
    pub(crate) async fn start(world: &World, name: &str) -> Self {
        Self::start_with(world, name, &[]).await
    }

    pub(crate) async fn start_with(world: &World, name: &str, flags: &[&str]) -> Self {
        let sidecar = world.sidecar(names::SERVICE).await.unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (http_address, grpc_address) = (http.local_addr().unwrap(), grpc.local_addr().unwrap());
        let arguments = QUICK.iter().chain(flags).map(ToString::to_string).collect();
        let environment = Environment::new();
        let client = sidecar.client();
        let context = Context {
            settings: definition().load(arguments, &environment).unwrap(),
            environment,
            instance: name.to_owned(),
            backend: world.backend(&client),
            client: client.clone(),
            http: http_address,
            grpc: grpc_address,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let (http, grpc) = (http.into_std().unwrap(), grpc.into_std().unwrap());
        let task = runtime.spawn(async move {
            // Sockets belong to the runtime that they are made in.
            let (http, grpc) = (TcpListener::from_std(http)?, TcpListener::from_std(grpc)?);
            serve_until(service(context).await?, http, grpc, stopped).await
        });
        let channel = Endpoint::from_shared(format!("http://{grpc_address}"))
            .unwrap()
            .connect_lazy();
        let instance = Self {
            client: WebSocketManagerClient::new(channel),
            http: http_address,
            backend: world.backend(&client),
            _sidecar: sidecar,
            runtime: Some(runtime),
            stop,
            task: Some(task),
        };
        until("the instance is ready", || async {
            instance.try_list(&[]).await.is_ok()
        })
        .await;
        instance
    }

    /// As by SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    /// As by SIGTERM.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        self.task.take().unwrap().await.unwrap().unwrap();
        self.kill();
    }

    pub(crate) async fn connect_to(&self, url: &str, auto_reconnect: bool) -> Result<String, Status> {
        let request = ConnectRequest {
            url: url.to_owned(),
            auto_reconnect,
            tags: [("venue".to_owned(), "test".to_owned())].into(),
        };
        let answer = self.client.clone().connect(request).await?.into_inner();
        assert_eq!(answer.status, "Connected");
        Ok(answer.id)
    }

    pub(crate) async fn connect(&self, peer: &Peer) -> String {
        self.connect_to(&peer.url(), true).await.unwrap()
    }

    pub(crate) async fn try_list(
        &self,
        filters: &[(&str, &str)],
    ) -> Result<Vec<WebSocketConnection>, Status> {
        let filters = filters.iter().map(|(key, value)| TagFilter {
            key: key.to_string(),
            value: value.to_string(),
        });
        let request = ListRequest {
            filters: filters.collect(),
        };
        Ok(self.client.clone().list(request).await?.into_inner().connections)
    }

    pub(crate) async fn list(&self) -> Vec<WebSocketConnection> {
        self.try_list(&[]).await.unwrap()
    }

    pub(crate) async fn status(&self, id: &str) -> String {
        let all = self.list().await;
        all.into_iter()
            .find(|connection| connection.id == id)
            .map_or("gone".to_owned(), |connection| connection.status)
    }

    pub(crate) async fn disconnect(&self, id: &str) -> Result<(), Status> {
        let request = DisconnectRequest { id: id.to_owned() };
        self.client.clone().disconnect(request).await.map(drop)
    }

    pub(crate) async fn say(&self, id: &str, message: &[u8], content_type: &str) -> Result<(), Status> {
        let request = SendRawRequest {
            id: id.to_owned(),
            message: message.to_vec().into(),
            content_type: content_type.to_owned(),
        };
        self.client.clone().send_raw(request).await.map(drop)
    }

    pub(crate) async fn ask(
        &self,
        id: &str,
        message: &[u8],
        content_type: &str,
        timeout_ms: i32,
    ) -> Result<Vec<u8>, Status> {
        let request = SendRequest {
            id: id.to_owned(),
            message: message.to_vec().into(),
            timeout_ms,
            content_type: content_type.to_owned(),
        };
        let answer = self.client.clone().send(request).await?.into_inner();
        Ok(answer.response.to_vec())
    }

    pub(crate) async fn publish(&self, id: &str, topic: &str) -> Result<(), Status> {
        let request = StartPublishRequest {
            id: id.to_owned(),
            topic: topic.to_owned(),
        };
        self.client.clone().start_publish(request).await.map(drop)
    }

    pub(crate) async fn stop_publish(&self, id: &str) -> Result<(), Status> {
        let request = StopPublishRequest { id: id.to_owned() };
        self.client.clone().stop_publish(request).await.map(drop)
    }
}

/// The payloads of a topic's events, as text.
pub(crate) fn payloads(cluster: &Cluster, topic: &str) -> Vec<String> {
    use base64::Engine as _;
    let payload = |event: &Value| {
        let text = event["data"]["Payload"].as_str().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    cluster.published(topic).iter().map(payload).collect()
}

/// The lifecycle events of every connection that was made, and what follows.
pub(crate) fn made_and<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    [&["registered", "connecting 1", "connected"], rest].concat()
}

/// The lifecycle events of a drop that is made good at once.
pub(crate) const BACK: [&str; 3] = ["reconnecting 1", "connecting 1", "connected"];

/// The lifecycle events of a connection: states, with the attempt or the trouble where there is one.
pub(crate) fn story(cluster: &Cluster, id: &str) -> Vec<String> {
    cluster
        .published(names::LIFECYCLE_TOPIC)
        .iter()
        .filter(|event| event["data"]["connection_id"] == id)
        .map(|event| {
            let kind = event["type"].as_str().unwrap();
            let state = kind
                .strip_prefix("com.virtufin.websocketmanager.lifecycle.")
                .unwrap();
            let data = &event["data"];
            let told = data["attempt"].as_u64().map(|attempt| attempt.to_string());
            let told = told.or_else(|| data["cause"].as_str().map(str::to_owned));
            let recovered = data["recovered"] == true;
            match told.or_else(|| recovered.then(|| "again".to_owned())) {
                Some(told) => format!("{state} {told}"),
                None => state.to_owned(),
            }
        })
        .collect()
}
