//! Apps, sidecars and clients for the tests.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use arc_swap::ArcSwapOption;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use outrigger_component::Error;
use outrigger_middleware::Body;
use outrigger_name_resolution::{Addresses, Instance, Resolver, Target};
use outrigger_sidecar_api::{ApiRequest, Params};
use outrigger_sidecar_app_channel::{AppChannel, AppChannelOptions, AppHealth, Protocol};
use outrigger_sidecar_invocation::{HttpEndpoints, InvocationOptions, InvocationService, PeerIdentity};
use outrigger_types::{AppId, Namespace};
use outrigger_wire::dapr::proto::common::v1::{InvokeRequest, InvokeResponse};
use prost::Message as _;
use tokio::{net::TcpListener, net::TcpStream, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Status};

/// A resolver that the tests write into: the addresses of an app, with commas.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Arc<Mutex<HashMap<String, String>>>);

impl Names {
    /// Lists all of these sidecars under one name, and goes on to when they are gone.
    pub(crate) fn list(&self, id: &str, sidecars: &[&Sidecar]) {
        let addresses: Vec<_> = sidecars
            .iter()
            .map(|sidecar| sidecar.internal.to_string())
            .collect();
        self.addresses(id, &addresses);
    }

    /// Lists these addresses under one name.
    pub(crate) fn addresses(&self, id: &str, addresses: &[String]) {
        self.0.lock().unwrap().insert(id.to_owned(), addresses.join(","));
    }
}

impl Resolver for Names {
    async fn register(&self, _: Instance) -> Result<(), Error> {
        Ok(())
    }
    async fn resolve(&self, target: &Target) -> Result<Addresses, Error> {
        let found = self.0.lock().unwrap().get(target.app_id.as_str()).cloned();
        found
            .map(|addresses| addresses.split(',').map(str::to_owned).collect())
            .ok_or_else(|| {
                Error::new(
                    outrigger_component::ErrorKind::NotFound,
                    format!("couldn't find service: {}", target.app_id),
                )
            })
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An app on a port of its own.
pub(crate) struct App {
    pub(crate) port: u16,
}

impl App {
    /// HTTP/1.1.
    pub(crate) async fn http<F, Fut>(handler: F) -> Self
    where
        F: Fn(Request<Body>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response<Body>> + Send + 'static,
    {
        let (listener, address) = listen().await;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let handler = handler.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let response = handler(request.map(Body::from));
                    async move { Ok::<_, Infallible>(response.await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { port: address.port() }
    }

    /// Whatever is written.
    pub(crate) async fn raw<F, Fut>(handler: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (listener, address) = listen().await;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(handler(stream));
            }
        });
        Self { port: address.port() }
    }
}

/// Answers 201 with the body it got and what it saw in `seen-…` headers; 404 below `/missing`.
pub(crate) async fn echo_app() -> App {
    App::http(|request: Request<Body>| async move {
        let (parts, body) = request.into_parts();
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::CREATED;
        let headers = response.headers_mut();
        put_seen(headers, &parts.headers);
        headers.insert("seen-method", parts.method.as_str().parse().unwrap());
        headers.insert("seen-path", parts.uri.to_string().parse().unwrap());
        headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
        if parts.uri.path() == "/missing" {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        if parts.uri.path().ends_with("/redirect") {
            *response.status_mut() = StatusCode::FOUND;
            response
                .headers_mut()
                .insert("location", HeaderValue::from_static("/elsewhere"));
        }
        let body = body.collect().await.unwrap().to_bytes();
        *response.body_mut() = Body::whole(body);
        response
    })
    .await
}

fn put_seen(out: &mut HeaderMap, seen: &HeaderMap) {
    for name in seen.keys() {
        let all: Vec<_> = seen
            .get_all(name)
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect();
        // As text: a name in `-bin` would be decoded on its way back.
        let name =
            HeaderName::from_bytes(format!("seen-{}", name.as_str().replace("-bin", "-binary")).as_bytes());
        out.insert(name.unwrap(), all.join(",").parse().unwrap());
    }
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// What a server writes, as it writes it.
pub(crate) async fn raw_get(url: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut buffer = vec![0; 4096];
    let read = stream.read(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..read]).into_owned()
}

/// A sidecar with its front: HTTP and gRPC listeners as the public servers have them.
pub(crate) struct Sidecar {
    pub(crate) service: Arc<InvocationService>,
    pub(crate) endpoints: HttpEndpoints,
    pub(crate) grpc: SocketAddr,
    pub(crate) internal: SocketAddr,
    http: SocketAddr,
    client: Client<HttpConnector, Body>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Sidecar {
    pub(crate) async fn start(
        id: &str,
        names: &Names,
        app: Option<(App, Protocol)>,
        with: impl FnOnce(InvocationOptions) -> InvocationOptions,
    ) -> Self {
        Self::start_as(id, names, app, None, with).await
    }

    /// `identity` is who every caller of the internal API is taken for.
    pub(crate) async fn start_as(
        id: &str,
        names: &Names,
        app: Option<(App, Protocol)>,
        identity: Option<PeerIdentity>,
        with: impl FnOnce(InvocationOptions) -> InvocationOptions,
    ) -> Self {
        let mut options = InvocationOptions::new(AppId::from(id), Namespace::from("default"));
        options.resolver = Some(Arc::new(names.clone()));
        if let Some((app, protocol)) = app {
            options.app = Arc::new(ArcSwapOption::from_pointee(channel(app.port, protocol)));
        }
        let options = with(options);
        let endpoints = options.http_endpoints.clone();
        let service = InvocationService::new(options);
        let shutdown = CancellationToken::new();
        let tasks = TaskTracker::new();

        let (listener, internal) = listen().await;
        names
            .0
            .lock()
            .unwrap()
            .insert(id.to_owned(), internal.to_string());
        let server = service.internal_service();
        match identity {
            None => {
                let shutdown = shutdown.clone();
                tasks.spawn(outrigger_sidecar_invocation::InternalService::serve_listener(
                    server, listener, shutdown,
                ));
            }
            Some(identity) => {
                let shutdown = shutdown.clone();
                tasks.spawn(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        let (server, identity, shutdown) =
                            (server.clone(), identity.clone(), shutdown.clone());
                        tokio::spawn(async move {
                            outrigger_sidecar_invocation::InternalService::serve_connection(
                                server,
                                stream,
                                Some(identity),
                                shutdown,
                            )
                            .await
                        });
                    }
                });
            }
        }

        let (listener, http) = listen().await;
        let endpoint = service.endpoints().remove(0);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let handler = Arc::clone(&endpoint.handler);
                let service = service_fn(move |request: Request<Incoming>| {
                    let (head, body) = request.into_parts();
                    let answer = handler.handle(ApiRequest {
                        head,
                        params: Params::default(),
                        body: Body::from(body),
                    });
                    async move {
                        Ok::<_, Infallible>(match answer.await {
                            Ok(response) => response,
                            Err(error) => {
                                let mut response = Response::new(Body::whole(error.to_json()));
                                *response.status_mut() = error.http_status();
                                response
                            }
                        })
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });

        let proxy = Arc::clone(&service);
        let grpc = serve_h2(move |request| {
            let proxy = Arc::clone(&proxy);
            async move { proxy.proxy(request).await }
        })
        .await;
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self {
            service,
            endpoints,
            grpc,
            internal,
            http,
            client,
            shutdown,
            tasks,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    pub(crate) async fn http(&self, request: Request<Body>) -> Response<Incoming> {
        self.client.request(request).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response<Incoming> {
        self.http(Request::get(self.url(path)).body(Body::Empty).unwrap())
            .await
    }

    /// Closes the internal API and its connections.
    pub(crate) async fn stop(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn channel(port: u16, protocol: Protocol) -> AppChannel {
    // The sender may go: the last value stays.
    watched_channel(port, protocol, watch::channel(AppHealth::Healthy).1)
}

/// The channel to an app whose health is told.
pub(crate) fn watched_channel(
    port: u16,
    protocol: Protocol,
    health: watch::Receiver<AppHealth>,
) -> AppChannel {
    let options = AppChannelOptions {
        address: "127.0.0.1".to_owned(),
        port,
        protocol,
        max_concurrency: None,
        api_token: None,
        read_buffer_size: 4096,
        pipeline: Arc::default(),
        metrics: outrigger_telemetry::Metrics::disabled(),
    };
    AppChannel::new(options, health).unwrap()
}

async fn serve_h2<F, Fut>(handler: F) -> SocketAddr
where
    F: Fn(Request<Body>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    serve_h2_with(2000, handler).await
}

async fn serve_h2_with<F, Fut>(streams: u32, handler: F) -> SocketAddr
where
    F: Fn(Request<Body>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let handler = handler.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let response = handler(request.map(Body::from));
                async move { Ok::<_, Infallible>(response.await) }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .max_concurrent_streams(streams)
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

/// A sidecar that only knows `CallLocal`.
pub(crate) async fn old_sidecar(id: &str, names: &Names, app: App) -> Arc<InvocationService> {
    let mut options = InvocationOptions::new(AppId::from(id), Namespace::from("default"));
    options.app = Arc::new(ArcSwapOption::from_pointee(channel(app.port, Protocol::Http)));
    let service = InvocationService::new(options);
    let internal = service.internal_service();
    let address = serve_h2(move |request| {
        let internal = internal.clone();
        async move {
            if request.uri().path().ends_with("/CallLocal") {
                internal.serve(request).await
            } else {
                Status::unimplemented("unknown method CallLocalStream").into_http()
            }
        }
    })
    .await;
    names.0.lock().unwrap().insert(id.to_owned(), address.to_string());
    service
}

fn framed(message: &[u8]) -> Bytes {
    let mut buffer = BytesMut::with_capacity(message.len() + 5);
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(message.len()).unwrap());
    buffer.put_slice(message);
    buffer.freeze()
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let response: Response<()> = status.clone().into_http();
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        if let Some(value) = response.headers().get(name) {
            trailers.insert(name, value.clone());
        }
    }
    trailers.insert("end", HeaderValue::from_static("yes"));
    trailers
}

fn grpc_response(headers: HeaderMap, message: Option<Bytes>, status: &Status) -> Response<Body> {
    let frames = message
        .into_iter()
        .map(|message| Frame::data(framed(&message)))
        .chain([Frame::trailers(trailers(status))])
        .map(Ok::<_, Infallible>)
        .collect::<Vec<_>>();
    let mut response = Response::new(Body::boxed(StreamBody::new(futures::stream::iter(frames))));
    *response.headers_mut() = headers;
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// A gRPC app: `OnInvoke` and an echo service.
pub(crate) async fn grpc_app() -> App {
    let attempts = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let gathering = Arc::new(tokio::sync::Barrier::new(150));
    // As strict about streams as Go servers are told to be.
    let address = serve_h2_with(100, move |request| {
        let attempts = Arc::clone(&attempts);
        let gathering = Arc::clone(&gathering);
        async move {
            let (parts, body) = request.into_parts();
            let mut headers = HeaderMap::new();
            put_seen(&mut headers, &parts.headers);
            headers.insert("initial", HeaderValue::from_static("yes"));
            match parts.uri.path() {
                "/dapr.proto.runtime.v1.AppCallback/OnInvoke" => {
                    let mut message = body.collect().await.unwrap().to_bytes();
                    message.advance(5);
                    let request = InvokeRequest::decode(message).unwrap();
                    if request.method == "gather" {
                        gathering.wait().await;
                    }
                    let (message, status) = on_invoke(&request);
                    grpc_response(headers, message, &status)
                }
                "/test.Echo/Fail" => {
                    let status = Status::with_details(Code::Aborted, "no: 100 %", Bytes::from_static(b"why"));
                    grpc_response(headers, None, &status)
                }
                "/test.Echo/ThirdTime" if attempts.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 => {
                    grpc_response(headers, None, &Status::unavailable("not yet"))
                }
                "/test.Echo/Never" => {
                    let _ = body.collect().await;
                    grpc_response(headers, None, &Status::unavailable("never"))
                }
                _ => {
                    // Frames go back as they come.
                    let end = futures::stream::iter([Ok(Frame::trailers(trailers(&Status::ok(""))))]);
                    let frames = http_body_util::BodyStream::new(body)
                        .filter(|frame| {
                            let empty = frame
                                .as_ref()
                                .is_ok_and(|frame| frame.data_ref().is_some_and(Bytes::is_empty));
                            futures::future::ready(!empty)
                        })
                        .chain(end);
                    let mut response = Response::new(Body::boxed(StreamBody::new(frames)));
                    *response.headers_mut() = headers;
                    response
                        .headers_mut()
                        .insert("content-type", HeaderValue::from_static("application/grpc"));
                    response
                }
            }
        }
    })
    .await;
    App { port: address.port() }
}

fn on_invoke(request: &InvokeRequest) -> (Option<Bytes>, Status) {
    let data = request.data.clone().unwrap_or_default();
    let (value, type_url) = match request.method.as_str() {
        "fail" => return (None, Status::not_found("not here")),
        "typed" => (
            [&data.value[..], b"/", data.type_url.as_bytes()].concat(),
            "mytype".to_owned(),
        ),
        _ => ([b"echo:", &data.value[..]].concat(), String::new()),
    };
    let response = InvokeResponse {
        data: Some(prost_types::Any { type_url, value }),
        content_type: "text/reply".to_owned(),
    };
    (Some(response.encode_to_vec().into()), Status::ok(""))
}

/// A gRPC client that knows nothing but bytes.
pub(crate) struct GrpcClient {
    sender: hyper::client::conn::http2::SendRequest<Body>,
    address: SocketAddr,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) messages: Vec<Bytes>,
    pub(crate) trailers: HeaderMap,
}

type Frames = Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync>>;

impl GrpcClient {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        Self { sender, address }
    }

    fn request(
        &self,
        path: &str,
        target: &str,
        headers: &[(&'static str, &str)],
        frames: Frames,
    ) -> Request<Body> {
        let mut request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("dapr-api-token", "secret");
        if !target.is_empty() {
            request = request.header("dapr-app-id", target);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::boxed(StreamBody::new(frames))).unwrap()
    }

    pub(crate) async fn call(
        &self,
        path: &str,
        target: &str,
        headers: &[(&'static str, &str)],
        messages: Vec<Bytes>,
    ) -> Result<Answer, Status> {
        let frames = messages
            .into_iter()
            .map(|message| Ok(Frame::data(framed(&message))));
        let request = self.request(
            path,
            target,
            headers,
            Box::pin(futures::stream::iter(frames.collect::<Vec<_>>())),
        );
        let response = self.sender.clone().send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        if let Some(status) = Status::from_header_map(&parts.headers) {
            return Err(status);
        }
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let mut rest = collected.to_bytes();
        let mut messages = Vec::new();
        while rest.has_remaining() {
            assert_eq!(rest.get_u8(), 0);
            let len = rest.get_u32() as usize;
            messages.push(rest.split_to(len));
        }
        match Status::from_header_map(&trailers) {
            Some(status) if status.code() != Code::Ok => Err(status),
            _ => Ok(Answer {
                headers: parts.headers,
                messages,
                trailers,
            }),
        }
    }

    /// Sends a message at a time and waits for each to come back; says how many did.
    pub(crate) async fn ping_pong(&self, path: &str, target: &str, times: usize) -> usize {
        let (mut questions, receiver) = futures::channel::mpsc::channel::<Bytes>(1);
        let frames = receiver.map(|message| Ok(Frame::data(framed(&message))));
        let request = self.request(path, target, &[], Box::pin(frames));
        questions.send(Bytes::from_static(b"ping")).await.unwrap();
        let response = self.sender.clone().send_request(request).await.unwrap();
        let mut body = response.into_body();
        let mut echoes = 0;
        let mut read = 0;
        while echoes < times {
            let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
            read += data.len();
            if read == 9 {
                read = 0;
                echoes += 1;
                if echoes < times {
                    questions.send(Bytes::from_static(b"ping")).await.unwrap();
                }
            }
        }
        drop(questions);
        let end = body.collect().await.unwrap();
        assert_eq!(end.trailers().unwrap()["grpc-status"], "0");
        echoes
    }
}
