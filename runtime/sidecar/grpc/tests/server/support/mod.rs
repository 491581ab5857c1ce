//! A server with everything in memory, an echoing app, and clients.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::{Buf, BufMut as _, Bytes};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use outrigger_component::Properties;
use outrigger_middleware::{Body, Pipeline};
use outrigger_sidecar_api::{Components, Loaded};
use outrigger_sidecar_app_channel::{AppChannel, AppChannelOptions, AppHealth, Protocol};
use outrigger_sidecar_blocks::{
    BindingsService, BindingsServiceOptions, ConfigurationService, ConfigurationServiceOptions,
    ConversationService, ConversationServiceOptions, CryptoService, CryptoServiceOptions, LockService,
    LockServiceOptions, SecretsService, SecretsServiceOptions,
};
use outrigger_sidecar_grpc::{
    ControlApi, GrpcOptions, GrpcServer, JobScope, TaskHub,
    absent::{AbsentActors, AbsentJobs, AbsentTaskHub, AbsentWorkflows, ActorStreams},
    serve,
};
use outrigger_sidecar_http::Bound;
use outrigger_sidecar_invocation::{InvocationOptions, InvocationService};
use outrigger_sidecar_pubsub::{PubsubOptions, PubsubService};
use outrigger_sidecar_resilience::ResilienceProvider;
use outrigger_sidecar_state::{StateService, StateServiceOptions};
use outrigger_state::{MemoryStateStore, SharedStateStore};
use outrigger_telemetry::{Metrics, Tracer};
use outrigger_types::{AppId, Namespace};
use outrigger_wire::dapr::proto::runtime::v1::{
    GetMetadataResponse, SetMetadataRequest, dapr_client::DaprClient,
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};

/// Remembers what it was asked.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) set: Mutex<Vec<SetMetadataRequest>>,
    pub(crate) shutdowns: Mutex<Vec<bool>>,
}

impl ControlApi for Control {
    fn get_metadata(&self) -> GetMetadataResponse {
        GetMetadataResponse {
            id: "myapp".to_owned(),
            ..GetMetadataResponse::default()
        }
    }

    fn set_metadata(&self, request: SetMetadataRequest) {
        self.set.lock().push(request);
    }

    fn shutdown(&self, force: bool) {
        self.shutdowns.lock().push(force);
    }
}

/// A server on a port of its own.
pub(crate) struct Sidecar {
    pub(crate) address: SocketAddr,
    pub(crate) control: Arc<Control>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
}

impl Sidecar {
    /// With whatever else the test wants to set.
    pub(crate) async fn start(change: impl FnOnce(&mut GrpcOptions)) -> Self {
        Self::with_app(None, change).await
    }

    /// With a gRPC app on this port.
    pub(crate) async fn with_app(app: Option<u16>, change: impl FnOnce(&mut GrpcOptions)) -> Self {
        let app_id = AppId::from("myapp");
        let namespace = Namespace::from("default");
        let resilience = Arc::new(ArcSwap::from_pointee(ResilienceProvider::none()));
        let metrics = Metrics::disabled();
        let shutdown = CancellationToken::new();
        let control = Arc::new(Control::default());
        let stores = Components::<SharedStateStore>::default();
        stores.insert(Loaded {
            name: "mystore".into(),
            type_name: "state.in-memory".to_owned(),
            version: "v1".to_owned(),
            properties: Properties::default(),
            instance: Arc::new(MemoryStateStore::new()) as SharedStateStore,
        });
        let app = Arc::new(ArcSwapOption::from_pointee(app.map(channel)));
        let invocation = InvocationService::new(InvocationOptions {
            app: Arc::clone(&app),
            ..InvocationOptions::new(app_id.clone(), namespace.clone())
        });
        let scope = JobScope {
            app_id: app_id.clone(),
            namespace,
        };
        let mut options = GrpcOptions {
            audit: outrigger_telemetry::audit::Audit::disabled(),
            app_id: app_id.clone(),
            state: Arc::new(StateService::new(StateServiceOptions {
                app_id: app_id.clone(),
                namespace: None,
                stores: Arc::new(stores),
                resilience: Arc::clone(&resilience),
                metrics: metrics.clone(),
                outbox: None,
            })),
            pubsub: Arc::new(PubsubService::new(PubsubOptions {
                audit: outrigger_telemetry::audit::Audit::disabled(),
                app_id: app_id.clone(),
                namespace: None,
                components: Arc::default(),
                resilience: Arc::clone(&resilience),
                metrics: metrics.clone(),
                tracer: Tracer::disabled(),
                app,
                ask_app: false,
                clock: Arc::new(jiff::Timestamp::now),
                zone: jiff::tz::TimeZone::UTC,
            })),
            secrets: Arc::new(SecretsService::new(SecretsServiceOptions {
                stores: Arc::default(),
                scopes: Vec::new(),
                resilience: Arc::clone(&resilience),
                metrics: metrics.clone(),
                audit: outrigger_telemetry::audit::Audit::disabled(),
            })),
            configuration: Arc::new(ConfigurationService::new(ConfigurationServiceOptions {
                stores: Arc::default(),
                app: None,
                resilience: Arc::clone(&resilience),
                metrics: metrics.clone(),
            })),
            lock: Arc::new(LockService::new(LockServiceOptions {
                app_id,
                stores: Arc::default(),
                resilience: Arc::clone(&resilience),
            })),
            crypto: Arc::new(CryptoService::new(CryptoServiceOptions {
                providers: Arc::default(),
                resilience: Arc::clone(&resilience),
                metrics: metrics.clone(),
                subtle: false,
            })),
            bindings: Arc::new(BindingsService::new(BindingsServiceOptions {
                bindings: Arc::default(),
                resilience: Arc::clone(&resilience),
                metrics: metrics.clone(),
            })),
            conversation: Arc::new(ConversationService::new(ConversationServiceOptions {
                models: Arc::default(),
                resilience,
                metrics: metrics.clone(),
            })),
            invocation,
            control: Arc::clone(&control) as Arc<dyn ControlApi>,
            actors: Arc::new(AbsentActors::new(ActorStreams::Accepted, shutdown.clone())),
            workflows: Arc::new(AbsentWorkflows),
            jobs: Arc::new(AbsentJobs::new(scope)),
            task_hub: TaskHub::new(AbsentTaskHub),
            api_token: None,
            api_rules: Default::default(),
            api_log: false,
            metrics,
            tracer: None,
            max_body_size: 4 << 20,
            read_buffer_size: 4096,
        };
        change(&mut options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(
            Bound::Tcp(listener),
            GrpcServer::new(options),
            shutdown.clone(),
        ));
        Self {
            address,
            control,
            shutdown,
            serving,
        }
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    pub(crate) async fn client(&self) -> DaprClient<Channel> {
        DaprClient::new(self.channel().await)
    }
}

fn channel(port: u16) -> AppChannel {
    let options = AppChannelOptions {
        address: "127.0.0.1".to_owned(),
        port,
        protocol: Protocol::Grpc,
        max_concurrency: None,
        api_token: None,
        read_buffer_size: 1 << 16,
        pipeline: Arc::new(Pipeline::default()),
        metrics: Metrics::disabled(),
    };
    AppChannel::new(options, watch::channel(AppHealth::Healthy).1).unwrap()
}

/// A gRPC app that sends back what it gets: everything as it comes, or for methods that end in `Client` the first
/// message once the caller is done.
pub(crate) async fn echo_app() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(
                http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service_fn(echo)),
            );
        }
    });
    port
}

async fn echo(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let ok = || {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Frame::trailers(trailers)
    };
    let body = if head.uri.path().ends_with("Client") {
        let mut all = body.collect().await.unwrap().to_bytes();
        let first = (&all[1..5]).get_u32() as usize + 5;
        let frames = [Ok::<_, Infallible>(Frame::data(all.split_to(first))), Ok(ok())];
        Body::boxed(StreamBody::new(tokio_stream::iter(frames)))
    } else {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let mut body = body;
            while let Some(Ok(frame)) = body.frame().await {
                if frame.is_data() && sender.send(Ok::<_, Infallible>(frame)).await.is_err() {
                    return;
                }
            }
            let _ = sender.send(Ok(ok())).await;
        });
        Body::boxed(StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(
            receiver,
        )))
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    if let Some(token) = head.headers.get("dapr-api-token") {
        response.headers_mut().insert("seen-token", token.clone());
    }
    Ok(response)
}

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
