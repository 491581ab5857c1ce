//! A sidecar's pub/sub between an in-memory broker and an app in this process.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::{Router, body::Bytes, extract::State, response::IntoResponse};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use outrigger_component::Properties;
use outrigger_middleware::Pipeline;
use outrigger_pubsub::{MemoryPubSub, SharedPubSub};
use outrigger_resources::kinds::{ObjectMeta, Routes, Rule, Subscription, SubscriptionSpec};
use outrigger_sidecar_api::{ApiRequest, Body, Components, Loaded, Params};
use outrigger_sidecar_app_channel::{AppChannel, AppChannelOptions, AppHealth, Protocol};
use outrigger_sidecar_pubsub::{PubsubOptions, PubsubService};
use outrigger_sidecar_resilience::{ResilienceProvider, Resource};
use outrigger_telemetry::{Metrics, Tracer};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A request the app got.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Answer = (u16, String);
type Respond = dyn Fn(&Seen) -> Answer + Send + Sync;

/// What the app does.
pub(crate) struct App {
    pub(crate) subscriptions: Mutex<Option<String>>,
    respond: Mutex<Arc<Respond>>,
    seen: mpsc::UnboundedSender<Seen>,
    /// Answers wait for this while it is set.
    pub(crate) hold: Mutex<Option<Arc<Notify>>>,
}

async fn serve(
    State(app): State<Arc<App>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let path = uri.path_and_query().unwrap().as_str().to_owned();
    if path == "/dapr/subscribe" {
        assert_eq!(method, Method::GET);
        return match app.subscriptions.lock().clone() {
            Some(list) => (StatusCode::OK, list),
            None => (StatusCode::NOT_FOUND, String::new()),
        };
    }
    let seen = Seen { path, headers, body };
    let respond = Arc::clone(&app.respond.lock());
    let (status, text) = respond(&seen);
    let _ = app.seen.send(seen);
    let hold = app.hold.lock().clone();
    if let Some(hold) = hold {
        hold.notified().await;
    }
    (StatusCode::from_u16(status).unwrap(), text)
}

/// Everything together.
pub(crate) struct Bench {
    pub(crate) service: Arc<PubsubService>,
    pub(crate) components: Arc<Components<SharedPubSub>>,
    pub(crate) options: PubsubOptions,
    pub(crate) app: Arc<App>,
    pub(crate) seen: mpsc::UnboundedReceiver<Seen>,
    pub(crate) health: watch::Sender<AppHealth>,
}

pub(crate) fn broker(
    name: &str,
    instance: SharedPubSub,
    properties: &[(&str, &str)],
) -> Loaded<SharedPubSub> {
    Loaded {
        name: name.into(),
        type_name: "pubsub.in-memory".to_owned(),
        version: "v1".to_owned(),
        properties: Properties::from_pairs(properties.iter().copied()),
        instance,
    }
}

pub(crate) fn channel(port: u16, protocol: Protocol, health: watch::Receiver<AppHealth>) -> AppChannel {
    let options = AppChannelOptions {
        address: "127.0.0.1".to_owned(),
        port,
        protocol,
        max_concurrency: None,
        api_token: None,
        read_buffer_size: 1 << 16,
        pipeline: Arc::new(Pipeline::default()),
        metrics: Metrics::disabled(),
    };
    AppChannel::new(options, health).unwrap()
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(Arc::new(MemoryPubSub::new()), &[]).await
    }

    pub(crate) async fn with(instance: SharedPubSub, properties: &[(&str, &str)]) -> Self {
        let (sender, seen) = mpsc::unbounded_channel();
        let app = Arc::new(App {
            subscriptions: Mutex::new(None),
            respond: Mutex::new(Arc::new(|_| (200, String::new()))),
            seen: sender,
            hold: Mutex::new(None),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().fallback(serve).with_state(Arc::clone(&app));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let (health, healthy) = watch::channel(AppHealth::Healthy);
        let components = Arc::new(Components::default());
        components.insert(broker("ps", instance, properties));
        let options = PubsubOptions {
            audit: outrigger_telemetry::audit::Audit::disabled(),
            app_id: "app".into(),
            namespace: None,
            components: Arc::clone(&components),
            resilience: Arc::new(ArcSwap::from_pointee(ResilienceProvider::none())),
            metrics: Metrics::disabled(),
            tracer: Tracer::disabled(),
            app: Arc::new(ArcSwapOption::from_pointee(channel(
                port,
                Protocol::Http,
                healthy,
            ))),
            ask_app: true,
            clock: Arc::new(jiff::Timestamp::now),
            zone: jiff::tz::TimeZone::UTC,
        };
        let service = Arc::new(PubsubService::new(options.clone()));
        Self {
            service,
            components,
            options,
            app,
            seen,
            health,
        }
    }

    pub(crate) fn respond(&self, respond: impl Fn(&Seen) -> Answer + Send + Sync + 'static) {
        *self.app.respond.lock() = Arc::new(respond);
    }

    /// Answers one after the other, then 200.
    pub(crate) fn answers(&self, answers: &[(u16, &str)]) {
        let left: Mutex<VecDeque<Answer>> = Mutex::new(
            answers
                .iter()
                .map(|(status, text)| (*status, (*text).to_owned()))
                .collect(),
        );
        self.respond(move |_| left.lock().pop_front().unwrap_or((200, String::new())));
    }

    /// Inbound retries without end, fast.
    pub(crate) fn retry_inbound(&self, retries: i64) {
        let resource: Resource = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "r"},
            "spec": {
                "policies": {"retries": {"fast": {"policy": "constant", "duration": "1ms", "maxRetries": retries}}},
                "targets": {"components": {"ps": {"inbound": {"retry": "fast"}, "outbound": {"retry": "fast"}}}}
            }
        }))
        .unwrap();
        self.options
            .resilience
            .store(Arc::new(ResilienceProvider::from_resources(
                "app",
                &[resource],
                None,
            )));
    }

    pub(crate) async fn next(&mut self) -> Seen {
        tokio::time::timeout(LONG, self.seen.recv())
            .await
            .expect("the app got nothing")
            .unwrap()
    }

    /// Nothing came but this message, published last.
    pub(crate) async fn next_is(&mut self, path: &str, data: &str) {
        let seen = self.next().await;
        assert_eq!(seen.path, path);
        assert_eq!(seen.json()["data"], data);
    }

    pub(crate) async fn call(
        &self,
        name: &str,
        version: &str,
        topic: &str,
        query: &str,
        content_type: &str,
        body: &str,
    ) -> Response<Body> {
        let endpoint = self
            .service
            .endpoints()
            .into_iter()
            .find(|endpoint| endpoint.name == name && endpoint.version == version)
            .unwrap();
        let (pubsub, topic) = topic.split_once('/').unwrap();
        let mut params = Params::default();
        params.push("pubsubname", pubsub.to_owned());
        params.push("*", topic.to_owned());
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/v1.0/publish/x?{query}"))
            .header("content-type", content_type)
            .body(())
            .unwrap();
        let request = ApiRequest {
            head: request.into_parts().0,
            params,
            body: Body::whole(body.to_owned()),
        };
        endpoint
            .handler
            .handle(request)
            .await
            .unwrap_or_else(|error| error.to_response())
    }

    /// Publishes text; it must succeed.
    pub(crate) async fn publish(&self, topic: &str, data: &str) {
        let response = self
            .call(
                "PublishEvent",
                "v1.0",
                &format!("ps/{topic}"),
                "",
                "text/plain",
                data,
            )
            .await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }

    pub(crate) async fn subscribe(&self, subscriptions: Vec<Subscription>) {
        self.service.set_declarative(subscriptions).await.unwrap();
        self.service.start_app_subscriptions().await.unwrap();
    }
}

pub(crate) async fn body(response: Response<Body>) -> serde_json::Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

pub(crate) fn subscription(topic: &str, route: &str) -> Subscription {
    Subscription {
        meta: ObjectMeta {
            name: format!("sub-{topic}-{route}"),
            ..ObjectMeta::default()
        },
        spec: SubscriptionSpec {
            pubsub_name: "ps".to_owned(),
            topic: topic.to_owned(),
            routes: Routes {
                default: route.to_owned(),
                ..Routes::default()
            },
            ..SubscriptionSpec::default()
        },
        scopes: Vec::new(),
    }
}

pub(crate) fn rule(condition: &str, path: &str) -> Rule {
    Rule {
        r#match: condition.to_owned(),
        path: path.to_owned(),
    }
}
