//! Components, requests and apps.

use std::{convert::Infallible, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use outrigger_component::{Host, Properties, Registration, Spec};
use outrigger_sidecar_api::{ApiRequest, Body, Components, Endpoint, Loaded, Params};
use outrigger_sidecar_app_channel::{AppChannel, AppChannelOptions, AppHealth, Protocol};
use outrigger_sidecar_resilience::ResilienceProvider;
use outrigger_telemetry::{Metrics, metrics::MetricsOptions};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};

pub(crate) fn resilience() -> Arc<ArcSwap<ResilienceProvider>> {
    Arc::new(ArcSwap::from_pointee(ResilienceProvider::none()))
}

pub(crate) fn resilience_from(resource: serde_json::Value) -> Arc<ArcSwap<ResilienceProvider>> {
    let resource = serde_json::from_value(resource).unwrap();
    Arc::new(ArcSwap::from_pointee(ResilienceProvider::from_resources(
        "myapp",
        &[resource],
        None,
    )))
}

pub(crate) fn metrics() -> Metrics {
    Metrics::new(&MetricsOptions {
        app_id: "myapp".to_owned(),
        ..MetricsOptions::default()
    })
    .unwrap()
}

pub(crate) fn rendered(metrics: &Metrics) -> String {
    String::from_utf8(metrics.render()).unwrap()
}

pub(crate) fn loaded<T>(name: &str, type_name: &str, properties: &[(&str, &str)], instance: T) -> Loaded<T> {
    Loaded {
        name: name.into(),
        type_name: type_name.to_owned(),
        version: "v1".to_owned(),
        properties: Properties::from_pairs(properties.iter().copied()),
        instance,
    }
}

/// Opens a component the way the runtime does.
pub(crate) async fn open<I: ?Sized + Send + Sync + 'static>(
    registration: Registration<I>,
    folder: &Path,
    properties: &[(&str, &str)],
) -> Arc<I> {
    let spec = Spec {
        name: "test".into(),
        type_name: registration.type_names[0].to_owned(),
        version: "v1".to_owned(),
        properties: Properties::from_pairs(properties.iter().copied()),
    };
    (registration.validate)(&spec)
        .unwrap()
        .run(Host::new("myapp", folder))
        .await
        .unwrap()
}

pub(crate) fn components<T: Send + Sync + 'static>(
    all: impl IntoIterator<Item = Loaded<T>>,
) -> Arc<Components<T>> {
    let components = Components::default();
    for loaded in all {
        components.insert(loaded);
    }
    Arc::new(components)
}

/// An answer, its body read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) head: http::response::Parts,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Calls the endpoint of this version and route.
pub(crate) async fn call(
    endpoints: &[Endpoint],
    method: Method,
    version: &str,
    route: &'static str,
    params: &[(&'static str, &str)],
    request: Request<Body>,
) -> Answer {
    let endpoint = endpoints
        .iter()
        .find(|endpoint| {
            endpoint.version == version && endpoint.route == route && endpoint.methods.contains(&method)
        })
        .unwrap();
    let (head, body) = request.into_parts();
    let mut values = Params::default();
    for (name, value) in params {
        values.push(name, (*value).to_owned());
    }
    let handled = endpoint
        .handler
        .handle(ApiRequest {
            head,
            params: values,
            body,
        })
        .await;
    let response = handled.unwrap_or_else(|error| error.to_response());
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status,
        head,
        body,
    }
}

pub(crate) fn get(uri: &str) -> Request<Body> {
    Request::builder().uri(uri).body(Body::Empty).unwrap()
}

pub(crate) fn post(body: &str) -> Request<Body> {
    Request::builder()
        .method(Method::POST)
        .uri("/")
        .body(Body::whole(body.to_owned()))
        .unwrap()
}

/// What an HTTP app got.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) head: http::request::Parts,
    pub(crate) body: Bytes,
}

/// An HTTP app: what it got comes by the receiver, its answers are made by the function.
pub(crate) async fn http_app(
    answer: impl Fn(&Received) -> (u16, &'static str) + Send + Sync + 'static,
) -> (AppChannel, mpsc::UnboundedReceiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (sender, answer) = (sender.clone(), Arc::clone(&answer));
            let service = service_fn(move |request: Request<Incoming>| {
                let (sender, answer) = (sender.clone(), Arc::clone(&answer));
                async move {
                    let (head, body) = request.into_parts();
                    let received = Received {
                        method: head.method.clone(),
                        path: head.uri.path().to_owned(),
                        body: body.collect().await.unwrap().to_bytes(),
                        head,
                    };
                    let (status, text) = answer(&received);
                    let _ = sender.send(received);
                    Ok::<_, Infallible>(
                        Response::builder()
                            .status(status)
                            .body(Full::new(Bytes::from_static(text.as_bytes())))
                            .unwrap(),
                    )
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (channel(address, Protocol::Http), receiver)
}

pub(crate) fn channel(address: SocketAddr, protocol: Protocol) -> AppChannel {
    let options = AppChannelOptions {
        address: address.ip().to_string(),
        port: address.port(),
        protocol,
        max_concurrency: None,
        api_token: None,
        read_buffer_size: 4 << 10,
        pipeline: Arc::default(),
        metrics: Metrics::disabled(),
    };
    let (_, health) = watch::channel(AppHealth::Healthy);
    AppChannel::new(options, health).unwrap()
}

/// Waits for something, with a limit that only a failure reaches.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.unwrap()
}
