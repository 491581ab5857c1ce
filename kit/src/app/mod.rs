//! A service behind a sidecar: an axum router with what Dapr expects of an app (E1.2).

mod ack;
mod binding;
mod callback;
mod gate;
mod startup;
mod subscription;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use ack::Ack;
pub use binding::BindingEvent;
pub use subscription::Subscription;

use crate::configuration::Configuration;
use crate::endpoint::Token;
use crate::health::{ComponentChecks, Health, HealthEntry, Scope};
use crate::{Client, Environment, Error, Event};
use startup::Startup;
use subscription::Subscriptions;

/// Dapr's wait for a sidecar, unless `DAPR_HEALTH_TIMEOUT` says otherwise.
const DEFAULT_HEALTH_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

type Background = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;
pub(crate) type Recovery = Box<dyn Fn() -> BoxFuture<'static, Result<(), Error>> + Send + Sync>;

/// A service under construction; [`serve`](Self::serve) runs it.
pub struct App {
    client: Client,
    router: Router,
    subscriptions: Subscriptions,
    bindings: Vec<String>,
    health: Health,
    token: Option<Token>,
    health_timeout: Duration,
    shutdown_timeout: Duration,
    recoveries: Vec<(String, Recovery)>,
    background: Vec<Background>,
    stopping: CancellationToken,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("client", &self.client)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

impl App {
    /// A service without routes of its own.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            router: Router::new(),
            subscriptions: Subscriptions::default(),
            bindings: Vec::new(),
            health: Health::default(),
            token: None,
            health_timeout: DEFAULT_HEALTH_TIMEOUT,
            shutdown_timeout: DEFAULT_SHUTDOWN_TIMEOUT,
            recoveries: Vec::new(),
            background: Vec::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// Takes `APP_API_TOKEN` and `DAPR_HEALTH_TIMEOUT` (seconds) from here.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the timeout is no number.
    pub fn environment(mut self, environment: &Environment) -> Result<Self, Error> {
        self.token = Token::from_environment(environment, "APP_API_TOKEN").or(self.token);
        if let Some(text) = environment
            .get("DAPR_HEALTH_TIMEOUT")
            .filter(|text| !text.is_empty())
        {
            let seconds = text.parse().map_err(|_| {
                Error::Invalid(format!("DAPR_HEALTH_TIMEOUT {text:?} is not a number of seconds"))
            })?;
            self.health_timeout = Duration::from_secs(seconds);
        }
        Ok(self)
    }

    /// The token that the sidecar must send with every call; health routes stay open.
    #[must_use]
    pub fn api_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token::new(token));
        self
    }

    /// How long to wait for the sidecar at start before giving up.
    #[must_use]
    pub fn health_timeout(mut self, timeout: Duration) -> Self {
        self.health_timeout = timeout;
        self
    }

    /// How long requests under way and background work may take once the service is asked to stop.
    #[must_use]
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Adds routes. They answer 503 until the service is ready.
    #[must_use]
    pub fn routes(mut self, routes: Router) -> Self {
        self.router = self.router.merge(routes);
        self
    }

    /// Subscribes a handler to a topic. The handler sees only checked CloudEvents whose data is a `T`; others are
    /// logged and dropped, because no retry makes them better.
    #[must_use]
    pub fn subscribe<T, F, Fut>(mut self, subscription: Subscription, handler: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Event<T>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Into<Ack>,
    {
        let path = self.subscriptions.add(subscription);
        let deliver = move |body: bytes::Bytes| {
            let handler = handler.clone();
            async move {
                match Event::from_json(&body).and_then(Event::typed::<T>) {
                    Ok(event) => handler(event).await.into(),
                    Err(error) => {
                        tracing::warn!(%error, "dropping a message that is no event for its handler");
                        Ack::Drop
                    }
                }
            }
        };
        self.router = self.router.route(&path, post(deliver));
        self
    }

    /// Handles what an input binding reads. The binding's component has to have this name, or name it as its `route`.
    /// An error, or [`Ack::Retry`], has it read again where the binding can.
    #[must_use]
    pub fn binding<F, Fut>(mut self, name: impl Into<String>, handler: F) -> Self
    where
        F: Fn(BindingEvent) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Into<Ack>,
    {
        let name = name.into();
        let read = move |metadata: http::HeaderMap, data: bytes::Bytes| {
            let handler = handler.clone();
            async move { binding::answer(handler(BindingEvent { data, metadata }).await.into()) }
        };
        // The sidecar asks by OPTIONS whether the app wants the binding at all.
        let route = post(read).options(|| std::future::ready(http::StatusCode::OK));
        self.router = self.router.route(&format!("/{name}"), route);
        self.bindings.push(name);
        self
    }

    /// Keeps configuration values fresh: reads them before the service is ready (a store that does not answer does
    /// not hold it up), then follows their changes.
    #[must_use]
    pub fn configuration(mut self, configuration: &Configuration) -> Self {
        let shared = configuration.clone();
        let update =
            move |axum::extract::Path((store, _)): axum::extract::Path<(String, String)>,
                  axum::Json(update): axum::Json<crate::configuration::Update>| {
                shared.update(&store, update);
                std::future::ready(http::StatusCode::OK)
            };
        self.router = self.router.route("/configuration/{store}/{key}", post(update));
        let first = configuration.clone();
        let follow = configuration.clone();
        self.recover("configuration", move || {
            let configuration = first.clone();
            async move {
                if let Err(error) = configuration.refresh().await {
                    tracing::warn!(%error, "starting with defaults for what a configuration store does not tell");
                }
                Ok(())
            }
        })
        .background(move |stop| follow.follow(stop))
    }

    /// Looks at components as part of the service's health (E1.10).
    #[must_use]
    pub fn components(self, checks: ComponentChecks) -> Self {
        checks.register(&self.health, &self.client);
        self
    }

    /// Adds a health check.
    #[must_use]
    pub fn health_check<F, Fut>(self, name: impl Into<String>, scope: Scope, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = HealthEntry> + Send + 'static,
    {
        self.health.register(name, scope, check);
        self
    }

    /// Adds a step that runs after the sidecar is there and before the service is ready, such as sending what was
    /// unsent at a crash. It is repeated until it succeeds.
    #[must_use]
    pub fn recover<F, Fut>(mut self, name: impl Into<String>, step: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.recoveries
            .push((name.into(), Box::new(move || Box::pin(step()))));
        self
    }

    /// Adds work that runs beside the service once it is ready. Its token is cancelled after the last request has
    /// been answered; then it has the rest of the shutdown time to finish.
    #[must_use]
    pub fn background<F, Fut>(mut self, work: F) -> Self
    where
        F: FnOnce(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.background.push(Box::new(move |token| Box::pin(work(token))));
        self
    }

    /// A token that is cancelled as soon as the service is asked to stop, for requests that would never end.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// The health of this service, to add to and to ask.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// All routes, as [`serve`](Self::serve) serves them.
    fn build(&self, startup: &Arc<Startup>) -> Router {
        let subscriptions = self.subscriptions.document();
        let document = subscriptions.clone();
        let mut gated = self.router.clone();
        // A layer over no routes at all is a mistake to axum.
        if gated.has_routes() {
            gated = gated.route_layer(from_fn_with_state(startup.clone(), gate::ready));
        }
        let callbacks = Router::new()
            .route(
                "/dapr/subscribe",
                get(move || async move { axum::Json(document) }),
            )
            .route(
                "/dapr/config",
                get(|| async { axum::Json(serde_json::json!({})) }),
            )
            .merge(gated)
            .layer(from_fn(crate::telemetry::incoming));
        // Over gRPC the token is in the call's metadata, and what is behind it needs no second check.
        let grpc = callback::routes(
            callbacks.clone().merge(self.health.routes()),
            subscriptions,
            self.bindings.clone(),
            self.token.clone(),
        );
        let callbacks = match &self.token {
            None => callbacks,
            Some(token) => callbacks.layer(from_fn_with_state(token.clone(), gate::token)),
        };
        callbacks
            .merge(self.health.routes())
            .merge(crate::telemetry::page())
            .merge(grpc)
    }

    /// Serves until `shutdown` resolves. Listening begins at once, because the sidecar waits for the port; routes
    /// answer 503 until the sidecar is there and every recovery step is done (E1.9). Then it stops accepting,
    /// finishes what is under way, lets background work finish, all within the shutdown timeout (E1.4).
    ///
    /// # Errors
    /// What the sidecar last answered if it was not ready in time; a failure to serve.
    pub async fn serve(
        mut self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let startup = Arc::new(Startup::default());
        self.register_checks(&startup);
        let router = self.build(&startup);
        let stopping = self.stopping.clone();
        let graceful = stopping.clone().cancelled_owned();
        // Whoever gives up on serving gives up on the listener too.
        let mut server = AbortOnDropHandle::new(tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(graceful)
                .await
        }));
        let finish = CancellationToken::new();
        let mut background = JoinSet::new();
        let recoveries = std::mem::take(&mut self.recoveries);
        tokio::pin!(shutdown);

        let outcome = tokio::select! {
            outcome = startup.run(&self.client, self.health_timeout, &recoveries) => outcome.map_err(ServeError::Start),
            () = &mut shutdown => { stopping.cancel(); Ok(()) }
            ended = &mut server => return ended.map_err(ServeError::Task)?.map_err(ServeError::Serve),
        };
        if outcome.is_ok() && !stopping.is_cancelled() {
            for work in self.background {
                background.spawn(work(finish.clone()));
            }
            tokio::select! {
                () = &mut shutdown => {}
                ended = &mut server => return ended.map_err(ServeError::Task)?.map_err(ServeError::Serve),
            }
        }
        stopping.cancel();
        startup.stop();
        let deadline = tokio::time::Instant::now() + self.shutdown_timeout;
        if tokio::time::timeout_at(deadline, &mut server).await.is_err() {
            tracing::warn!("requests were still under way at the end of the shutdown time");
            server.abort();
        }
        finish.cancel();
        let finished = async { while background.join_next().await.is_some() {} };
        if tokio::time::timeout_at(deadline, finished).await.is_err() {
            tracing::warn!("background work was still under way at the end of the shutdown time");
            background.abort_all();
        }
        outcome
    }

    fn register_checks(&self, startup: &Arc<Startup>) {
        let state = startup.clone();
        self.health.register("startup", Scope::Readiness, move || {
            let entry = state.entry();
            async move { entry }
        });
        let client = self.client.clone();
        self.health.register("circuits", Scope::Report, move || {
            std::future::ready(client.circuits_entry())
        });
        let client = self.client.clone();
        self.health.register("dapr", Scope::Readiness, move || {
            let client = client.clone();
            async move {
                match client.outbound_healthy().await {
                    Ok(()) => HealthEntry::healthy("the sidecar is ready"),
                    Err(error) => HealthEntry::unhealthy(error.to_string()),
                }
            }
        });
    }
}

/// Why a service ended otherwise than by being asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The sidecar was not ready in time.
    #[error("the sidecar was not ready in time")]
    Start(#[source] Error),
    /// The listener failed.
    #[error("cannot serve")]
    Serve(#[source] std::io::Error),
    /// The serving task was lost.
    #[error("the serving task failed")]
    Task(#[source] tokio::task::JoinError),
}

/// Resolves when the process is asked to stop, by SIGTERM or by SIGINT.
pub async fn termination() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
