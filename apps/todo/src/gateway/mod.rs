//! The `gateway` service: the page, its JSON API, its live stream, sessions (N1).
//!
//! Browsers reach the page's own listener, where no sidecar's token is known; the app port beside it is for the
//! sidecar alone.

mod guard;
mod live;
mod page;
mod session;
mod status;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use outrigger_kit::{App, CancellationToken, Error, telemetry};

use crate::app_id;
use crate::instance::{INSTANCE_HEADER, Instance, KEY_HEADER};
use crate::reply::Refusal;
use live::Streams;
use session::User;
use status::Watch;

/// Names the gateway instance beside the service instance that answered.
const GATEWAY_HEADER: HeaderName = HeaderName::from_static("x-todo-gateway");

/// What the page's routes share.
#[derive(Debug, Clone)]
pub struct Gateway {
    instance: Instance,
    watch: Watch,
    streams: Streams,
    /// Cancelled once the sidecar is there.
    ready: CancellationToken,
    stopping: CancellationToken,
}

/// The service as its sidecar sees it, and what the page's routes are made of.
///
/// # Errors
/// If the environment holds settings that it cannot use.
pub fn app(instance: &Instance) -> Result<(App, Gateway), Error> {
    let app = instance
        .service(Router::new(), || 0)?
        // The page is there before the sidecar is, and says so; it never gives up waiting.
        .health_timeout(std::time::Duration::MAX);
    let ready = CancellationToken::new();
    let begin = ready.clone();
    let app = app.background(move |_| async move { begin.cancel() });
    let gateway = Gateway {
        instance: instance.clone(),
        watch: Watch::default(),
        streams: Streams::default(),
        ready,
        stopping: app.stopping(),
    };
    Ok((app, gateway))
}

impl Gateway {
    /// Stops live streams when the page's server is asked to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Keeps the status strip up to date while somebody looks at it.
    pub async fn watch(&self) {
        status::keep(&self.instance, &self.watch, &self.stopping).await;
    }

    /// The page's routes.
    pub fn routes(&self) -> Router {
        let of_user = Router::new()
            .route("/api/tasks", get(tasks).post(tasks).delete(tasks))
            .route("/api/tasks/{id}", patch(task).delete(task))
            .route("/api/preferences", get(preferences).patch(preferences))
            .route("/api/feed", get(feed))
            .route("/api/stats", get(stats))
            .route("/api/chat", post(chat))
            .route("/api/events", get(live::events))
            .route_layer(axum::middleware::from_fn_with_state(
                self.clone(),
                session::required,
            ));
        let of_sidecar = Router::new()
            .route("/api/session", get(session::show).post(session::choose))
            .merge(of_user)
            .route_layer(axum::middleware::from_fn_with_state(self.clone(), guard::ready));
        let routes = Router::new()
            .route("/api/status", get(status::show))
            .merge(of_sidecar)
            .merge(page::routes())
            .layer(axum::middleware::from_fn_with_state(self.clone(), guard::headers))
            .with_state(self.clone());
        telemetry::traced(routes)
    }

    /// Passes a request on to a service by app-id and its answer back. A change that has a name is safe to repeat.
    async fn forward(
        &self,
        app: &str,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response, Refusal> {
        let key = headers.get(KEY_HEADER).and_then(|key| key.to_str().ok());
        let mut call = self
            .instance
            .client
            .invoke(app, method, path)
            .timeout(status::CALL_TIMEOUT);
        if !body.is_empty() {
            call = call.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        if let Some(key) = key {
            call = call.header(KEY_HEADER, key).idempotent();
        }
        let answer = call.send().await?;
        let mut response = (answer.status, answer.body).into_response();
        for name in [header::CONTENT_TYPE, header::RETRY_AFTER, INSTANCE_HEADER] {
            if let Some(value) = answer.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        if let Ok(name) = HeaderValue::from_str(&self.instance.name) {
            response.headers_mut().insert(GATEWAY_HEADER, name);
        }
        Ok(response)
    }
}

type Shared = State<Gateway>;

async fn tasks(
    State(gateway): Shared,
    Extension(User(user)): Extension<User>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let path = format!("users/{user}/tasks");
    gateway
        .forward(app_id::TASKS, method, &path, &headers, body)
        .await
}

async fn task(
    State(gateway): Shared,
    Extension(User(user)): Extension<User>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    // Only a well-formed id becomes part of a path.
    let id: uuid::Uuid = id.parse().map_err(|_| Refusal::not_found("this task is gone"))?;
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("users/{user}/tasks/{id}{query}");
    gateway
        .forward(app_id::TASKS, method, &path, &headers, body)
        .await
}

async fn preferences(
    State(gateway): Shared,
    Extension(User(user)): Extension<User>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let path = format!("users/{user}/preferences");
    gateway
        .forward(app_id::PREFERENCES, method, &path, &headers, body)
        .await
}

async fn feed(
    State(gateway): Shared,
    Extension(User(user)): Extension<User>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let path = format!("users/{user}/feed");
    gateway
        .forward(app_id::NOTIFICATIONS, Method::GET, &path, &headers, Bytes::new())
        .await
}

async fn stats(
    State(gateway): Shared,
    Extension(User(user)): Extension<User>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let path = format!("users/{user}/stats");
    gateway
        .forward(app_id::STATS, Method::GET, &path, &headers, Bytes::new())
        .await
}

async fn chat(
    State(gateway): Shared,
    Extension(User(user)): Extension<User>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let path = format!("users/{user}/messages");
    gateway
        .forward(app_id::CHAT, Method::POST, &path, &headers, body)
        .await
}

/// An answer that is the same JSON for everybody.
fn json(value: &impl serde::Serialize) -> Response {
    Json(value).into_response()
}
