//! What every service of the app is started with.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http::{HeaderName, HeaderValue};
use outrigger_kit::health::ComponentChecks;
use outrigger_kit::{App, Client, Environment, Error};

use crate::presence::Presence;

/// Says which instance answered.
pub const INSTANCE_HEADER: HeaderName = HeaderName::from_static("x-todo-instance");
/// Names a change, so that repeating it does nothing.
pub const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// One running instance of one of the services.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its app-id.
    pub app: &'static str,
    /// Tells it from other instances: app-id and process id.
    pub name: Arc<str>,
    /// Its place among instances of the app, kept over restarts: the port of its app.
    pub slot: Arc<str>,
    /// Its sidecar.
    pub client: Client,
    /// The state store component.
    pub store: Arc<str>,
    /// The pub/sub component.
    pub pubsub: Arc<str>,
    environment: Arc<Environment>,
}

impl Instance {
    /// An instance of `app` with Dapr's default component names.
    ///
    /// # Errors
    /// If the environment holds settings that the client cannot use.
    pub fn new(
        app: &'static str,
        slot: impl Into<Arc<str>>,
        environment: Environment,
    ) -> Result<Self, Error> {
        let slot = slot.into();
        Ok(Self {
            app,
            name: format!("{app}-{}", std::process::id()).into(),
            slot,
            client: Client::builder().environment(environment.clone()).build()?,
            store: "statestore".into(),
            pubsub: "pubsub".into(),
            environment: Arc::new(environment),
        })
    }

    /// What the process was started with.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The same with other component names.
    #[must_use]
    pub fn components(mut self, store: &str, pubsub: &str) -> Self {
        self.store = store.into();
        self.pubsub = pubsub.into();
        self
    }

    /// The same with another name, for several instances in one process.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// A service with these routes that says which instance answered and lets the others know that it is there.
    /// `waiting` counts what waits to be sent.
    ///
    /// # Errors
    /// If the environment holds settings that the service cannot use.
    pub fn service(
        &self,
        routes: Router,
        waiting: impl Fn() -> usize + Send + Sync + 'static,
    ) -> Result<App, Error> {
        let presence = Presence::new(self.clone());
        Ok(App::new(self.client.clone())
            .environment(&self.environment)?
            .routes(routes.layer(from_fn_with_state(self.clone(), signature)))
            .components(ComponentChecks::new().state(&*self.store).pubsub(&*self.pubsub))
            .background(move |stop| async move { presence.announce(waiting, stop).await }))
    }
}

async fn signature(
    axum::extract::State(instance): axum::extract::State<Instance>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&instance.name) {
        response.headers_mut().insert(INSTANCE_HEADER, value);
    }
    response
}
