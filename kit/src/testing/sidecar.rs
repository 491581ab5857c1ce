//! One sidecar: its listener, its app, its faults.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::state::{Refusal, Request, Transaction};
use super::{Cluster, Place, blocks, stream};
use crate::client::TOKEN_HEADER;
use crate::{Client, Environment, RetryPolicy};

/// The wait between two looks whether the app listens.
const APP_POLL: Duration = Duration::from_millis(10);

/// A running sidecar; dropping it stops it.
#[derive(Debug)]
pub struct Sidecar {
    inner: Arc<Inner>,
    address: SocketAddr,
    stop: CancellationToken,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) cluster: Cluster,
    pub(super) place: Arc<Place>,
    api_token: Option<String>,
    http: Pool<HttpConnector, Full<Bytes>>,
    metadata: Mutex<std::collections::BTreeMap<String, String>>,
}

impl Sidecar {
    pub(super) async fn start(
        cluster: Cluster,
        app_id: &str,
        api_token: Option<String>,
        app_token: Option<String>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let place = Arc::new(Place {
            app_id: app_id.to_owned(),
            app: Mutex::new(None),
            app_token,
            down: false.into(),
        });
        cluster.enter(place.clone());
        let inner = Arc::new(Inner {
            cluster,
            place,
            api_token,
            http: Pool::builder(TokioExecutor::new()).build_http(),
            metadata: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let router = routes(&inner);
        let ended = stop.clone();
        tokio::spawn(async move {
            let serve = axum::serve(listener, router);
            tokio::select! {
                _ = serve.into_future() => {}
                () = ended.cancelled() => {}
            }
        });
        Ok(Self { inner, address, stop })
    }

    /// Where the sidecar listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a process beside this sidecar would find in its environment.
    pub fn environment(&self) -> Environment {
        let mut environment = Environment::from([
            ("DAPR_HTTP_PORT".to_owned(), self.address.port().to_string()),
            ("DAPR_GRPC_PORT".to_owned(), self.address.port().to_string()),
            ("APP_ID".to_owned(), self.inner.place.app_id.clone()),
        ]);
        if let Some(token) = &self.inner.api_token {
            environment.insert("DAPR_API_TOKEN".to_owned(), token.clone());
        }
        if let Some(token) = &self.inner.place.app_token {
            environment.insert("APP_API_TOKEN".to_owned(), token.clone());
        }
        environment
    }

    /// A client of this sidecar, with short retries.
    ///
    /// # Panics
    /// If the sidecar's token cannot be sent in a header.
    pub fn client(&self) -> Client {
        let retry = RetryPolicy::new(3, Duration::from_millis(10)).unwrap_or_default();
        Client::builder()
            .environment(self.environment())
            .retry(retry)
            .build()
            .expect("the address of a listener and a token that fits a header")
    }

    /// Tells where the app listens. Its subscriptions are read as soon as it answers.
    pub fn attach(&self, app: SocketAddr) {
        *self.inner.place.app.lock() = Some(app);
        let inner = self.inner.clone();
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = inner.subscribe(app) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Lets an input binding read something; tells whether the app took it.
    pub async fn read_binding(&self, binding: &str, data: impl Into<Bytes>) -> bool {
        self.inner.read_binding(binding, data.into()).await
    }

    /// Makes the sidecar answer nothing but 503 and be found by nobody, or work again.
    pub fn set_down(&self, down: bool) {
        self.inner.place.down.store(down, Ordering::Relaxed);
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.inner.cluster.leave(&self.inner.place);
        self.stop.cancel();
    }
}

impl Inner {
    pub(super) fn is_down(&self) -> bool {
        self.place.down.load(Ordering::Relaxed)
    }

    /// Reads the app's subscriptions and delivers until dropped.
    async fn subscribe(&self, app: SocketAddr) {
        let none = HeaderMap::new();
        let document = loop {
            let asked = self.to_app(app, None, Method::GET, "/dapr/subscribe", &none, Bytes::new());
            match asked.await {
                Some(response) if response.0.is_success() => break response.2,
                _ => tokio::time::sleep(APP_POLL).await,
            }
        };
        let entries: Vec<Value> = serde_json::from_slice(&document).unwrap_or_default();
        let all = entries.iter().filter_map(|entry| {
            let topic = entry["topic"].as_str()?;
            let path = entry["routes"]["default"].as_str()?;
            Some(
                self.cluster
                    .0
                    .broker
                    .subscribe(topic, &self.place.app_id, move |event| async move {
                        self.deliver(app, path, &event).await
                    }),
            )
        });
        futures::future::join_all(all).await;
    }

    async fn deliver(&self, app: SocketAddr, path: &str, event: &Value) -> bool {
        if self.is_down() {
            return false;
        }
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/cloudevents+json"),
        );
        let body = serde_json::to_vec(event).unwrap_or_default();
        match self
            .to_app(app, None, Method::POST, path, &headers, body.into())
            .await
        {
            Some((status, _, body)) if status.is_success() => {
                let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
                answer["status"] != "RETRY"
            }
            Some((StatusCode::NOT_FOUND, ..)) => true,
            _ => false,
        }
    }

    /// Posts a changed value to the app, as a subscription does.
    pub(super) async fn tell_configuration(&self, id: &str, store: &str, key: &str, value: &str) {
        let app = *self.place.app.lock();
        if let Some(app) = app.filter(|_| !self.is_down()) {
            let body = json!({"id": id, "items": {key: {"value": value, "version": "2"}}});
            let mut headers = HeaderMap::new();
            headers.insert(
                header::CONTENT_TYPE,
                http::HeaderValue::from_static("application/json"),
            );
            let path = format!("/configuration/{store}/{key}");
            let body = serde_json::to_vec(&body).unwrap_or_default();
            self.to_app(app, None, Method::POST, &path, &headers, body.into())
                .await;
        }
    }

    /// Passes what an input binding read to the app; tells whether it was taken.
    async fn read_binding(&self, binding: &str, data: Bytes) -> bool {
        let app = *self.place.app.lock();
        match app.filter(|_| !self.is_down()) {
            None => false,
            Some(app) => self
                .to_app(
                    app,
                    None,
                    Method::POST,
                    &format!("/{binding}"),
                    &HeaderMap::new(),
                    data,
                )
                .await
                .is_some_and(|(status, ..)| status.is_success()),
        }
    }

    pub(super) async fn to_app(
        &self,
        app: SocketAddr,
        token: Option<&str>,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Option<(StatusCode, HeaderMap, Bytes)> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{app}{path}"))
            .body(Full::new(body))
            .ok()?;
        for (name, value) in headers {
            let hop = [
                header::HOST,
                header::CONTENT_LENGTH,
                header::CONNECTION,
                TOKEN_HEADER,
            ];
            if !hop.contains(name) {
                request.headers_mut().insert(name.clone(), value.clone());
            }
        }
        if let Some(token) = token.or(self.place.app_token.as_deref()) {
            request.headers_mut().insert(TOKEN_HEADER, token.parse().ok()?);
        }
        let (head, body) = self.http.request(request).await.ok()?.into_parts();
        Some((head.status, head.headers, body.collect().await.ok()?.to_bytes()))
    }
}

type Shared = State<Arc<Inner>>;

fn routes(inner: &Arc<Inner>) -> Router {
    let guarded = Router::new()
        .route("/v1.0/state/{store}", post(save))
        .route("/v1.0/state/{store}/bulk", post(bulk))
        .route(
            "/v1.0/state/{store}/transaction",
            post(transaction).put(transaction),
        )
        .route("/v1.0/state/{store}/{key}", get(read).delete(remove))
        .route("/v1.0/publish/{pubsub}/{topic}", post(publish))
        .route("/v1.0-alpha1/publish/bulk/{pubsub}/{topic}", post(publish_bulk))
        .route("/v1.0/invoke/{app}/method/{*path}", any(invoke))
        .route("/v1.0/metadata", get(metadata))
        .route("/v1.0/metadata/{key}", axum::routing::put(set_metadata))
        .merge(blocks::routes())
        .merge(stream::routes())
        .layer(from_fn_with_state(inner.clone(), token));
    Router::new()
        .route("/v1.0/healthz", get(|| async { StatusCode::NO_CONTENT }))
        .route("/v1.0/healthz/outbound", get(|| async { StatusCode::NO_CONTENT }))
        .merge(guarded)
        .layer(from_fn_with_state(inner.clone(), up))
        .with_state(inner.clone())
}

async fn up(State(inner): Shared, request: axum::extract::Request, next: Next) -> Response {
    if inner.is_down() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    next.run(request).await
}

async fn token(State(inner): Shared, request: axum::extract::Request, next: Next) -> Response {
    let given = request.headers().get(TOKEN_HEADER).map(|value| value.as_bytes());
    match &inner.api_token {
        Some(token) if given != Some(token.as_bytes()) => {
            (StatusCode::UNAUTHORIZED, "invalid api token").into_response()
        }
        _ => next.run(request).await,
    }
}

pub(super) fn refuse((status, code, message): Refusal) -> Response {
    (status, Json(json!({"errorCode": code, "message": message}))).into_response()
}

fn written(result: Result<(), Refusal>) -> Response {
    result.map_or_else(refuse, |()| StatusCode::NO_CONTENT.into_response())
}

async fn save(
    State(inner): Shared,
    Path(store): Path<String>,
    Json(requests): Json<Vec<Request>>,
) -> Response {
    written(inner.cluster.0.stores.save(&store, &requests))
}

async fn transaction(
    State(inner): Shared,
    Path(store): Path<String>,
    Json(body): Json<Transaction>,
) -> Response {
    written(inner.cluster.0.stores.transact(&store, &body))
}

async fn read(State(inner): Shared, Path((store, key)): Path<(String, String)>) -> Response {
    match inner.cluster.0.stores.get(&store, &key) {
        Some((value, etag)) => ([(header::ETAG, etag)], Json(value)).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn remove(
    State(inner): Shared,
    Path((store, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let etag = headers.get(header::IF_MATCH).and_then(|etag| etag.to_str().ok());
    written(
        inner
            .cluster
            .0
            .stores
            .delete(&store, &key, etag.map(str::to_owned)),
    )
}

async fn bulk(State(inner): Shared, Path(store): Path<String>, Json(body): Json<Value>) -> Response {
    let keys: Vec<String> = serde_json::from_value(body["keys"].clone()).unwrap_or_default();
    Json(inner.cluster.0.stores.bulk(&store, &keys)).into_response()
}

async fn publish(
    State(inner): Shared,
    Path((pubsub, topic)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("text/plain");
    let data = serde_json::from_slice::<Value>(&body)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&body).into_owned()));
    let event = enveloped(&inner, &pubsub, &topic, content_type, data);
    let status = match inner.cluster.0.broker.publish(&topic, &event) {
        Ok(()) => return StatusCode::NO_CONTENT.into_response(),
        Err(status) => status,
    };
    let (code, message) = if status == StatusCode::FORBIDDEN {
        let app = &inner.place.app_id;
        (
            "ERR_PUBSUB_FORBIDDEN",
            format!("topic {topic} is not allowed for app id {app}"),
        )
    } else {
        ("ERR_PUBSUB_PUBLISH_MESSAGE", broker_down(&pubsub, &topic))
    };
    refuse((status, code, message))
}

async fn publish_bulk(
    State(inner): Shared,
    Path((pubsub, topic)): Path<(String, String)>,
    Json(entries): Json<Vec<Value>>,
) -> Response {
    let mut failed = Vec::new();
    for mut entry in entries {
        let content_type = entry["contentType"].as_str().unwrap_or("text/plain").to_owned();
        let data = entry["event"].take();
        let event = enveloped(&inner, &pubsub, &topic, &content_type, data);
        if inner.cluster.0.broker.publish(&topic, &event).is_err() {
            failed.push(json!({"entryId": entry["entryId"], "error": broker_down(&pubsub, &topic)}));
        }
    }
    if failed.is_empty() {
        return StatusCode::NO_CONTENT.into_response();
    }
    let body = json!({"failedEntries": failed, "errorCode": "ERR_PUBSUB_PUBLISH_MESSAGE"});
    (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
}

/// What is published, as a CloudEvent.
fn enveloped(inner: &Inner, pubsub: &str, topic: &str, content_type: &str, data: Value) -> Value {
    let mut event = if content_type == "application/cloudevents+json" {
        data
    } else {
        json!({
            "specversion": "1.0", "type": "com.dapr.event.sent", "source": inner.place.app_id,
            "id": uuid::Uuid::new_v4().to_string(), "datacontenttype": content_type, "data": data,
        })
    };
    event["topic"] = json!(topic);
    event["pubsubname"] = json!(pubsub);
    event
}

fn broker_down(pubsub: &str, topic: &str) -> String {
    format!("error when publishing to topic {topic} in pubsub {pubsub}: the broker is down")
}

async fn invoke(
    State(inner): Shared,
    Path((app_id, _)): Path<(String, String)>,
    method: Method,
    uri: http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let full = uri.path_and_query().map_or("", |path| path.as_str());
    let path = full
        .split_once("/method")
        .map_or("/", |(_, path)| path)
        .to_owned();
    let failed = |why: &str| {
        refuse((
            StatusCode::INTERNAL_SERVER_ERROR,
            "ERR_DIRECT_INVOKE",
            format!("failed to invoke, id: {app_id}, err: {why}"),
        ))
    };
    let Some(target) = inner.cluster.target(&app_id) else {
        return failed("couldn't find service");
    };
    let answer = inner
        .to_app(
            target.address,
            target.token.as_deref(),
            method,
            &path,
            &headers,
            body,
        )
        .await;
    match answer {
        None => failed("connection refused"),
        Some((status, mut headers, body)) => {
            headers.remove(header::TRANSFER_ENCODING);
            (status, headers, body).into_response()
        }
    }
}

async fn metadata(State(inner): Shared) -> Response {
    let components: Vec<Value> = inner
        .cluster
        .0
        .components
        .lock()
        .iter()
        .map(|(name, kind)| json!({"name": name, "type": kind, "version": "v1"}))
        .collect();
    Json(json!({
        "id": inner.place.app_id,
        "runtimeVersion": "testing",
        "extended": *inner.metadata.lock(),
        "components": components,
    }))
    .into_response()
}

async fn set_metadata(State(inner): Shared, Path(key): Path<String>, body: String) -> StatusCode {
    inner.metadata.lock().insert(key, body);
    StatusCode::NO_CONTENT
}
