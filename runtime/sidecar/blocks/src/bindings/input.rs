//! Which input bindings read, and when (upstream `pkg/runtime/processor/binding`).

use std::{collections::HashMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use futures::{StreamExt as _, future, stream};
use outrigger_bindings::{Binding, Reading};
use outrigger_sidecar_api::{Components, Loaded};
use outrigger_sidecar_app_channel::AppChannel;
use outrigger_sidecar_resilience::ResilienceProvider;
use outrigger_telemetry::{Metrics, Tracer};
use tokio::sync::{Mutex, OnceCell};

use super::{AppState, BindingsService, Direction, delivery::Delivery, discovery};
use crate::call::Surroundings;

/// Bindings that begin to read at once: an app that does not answer must not hold up all others one by one.
const AT_ONCE: usize = 8;

/// There is no app to read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("app channel not initialized")]
pub struct NoApp;

/// What input bindings need.
#[derive(Clone)]
pub struct InputBindingsOptions {
    /// The binding components.
    pub bindings: Arc<Components<Binding>>,
    /// The app.
    pub app: Option<AppChannel>,
    /// Takes what the app sends on in its answers.
    pub outputs: Arc<BindingsService>,
    /// Saves what the app stores in its answers.
    pub state: Option<Arc<dyn AppState>>,
    /// Policies; replaced when Resiliency resources change.
    pub resilience: Arc<ArcSwap<ResilienceProvider>>,
    /// Where events are counted.
    pub metrics: Metrics,
    /// Makes the spans of events.
    pub tracer: Tracer,
    /// Most bytes of an app's answer.
    pub max_answer: usize,
}

impl fmt::Debug for InputBindingsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputBindingsOptions")
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}

/// What deliveries share.
pub(super) struct Inner {
    pub(super) app: Option<AppChannel>,
    pub(super) outputs: Arc<BindingsService>,
    pub(super) state: Option<Arc<dyn AppState>>,
    pub(super) around: Surroundings,
    pub(super) tracer: Tracer,
    pub(super) max_answer: usize,
}

#[derive(Default)]
struct Activity {
    reading: bool,
    stopped_forever: bool,
    active: HashMap<String, Box<dyn Reading>>,
    /// What a gRPC app lists, asked once per start.
    listed: Arc<OnceCell<Vec<String>>>,
}

/// Starts and stops input bindings as the app comes and goes. All changes take turns.
pub struct InputBindings {
    bindings: Arc<Components<Binding>>,
    inner: Arc<Inner>,
    activity: Mutex<Activity>,
}

impl fmt::Debug for InputBindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputBindings").finish_non_exhaustive()
    }
}

impl InputBindings {
    /// Input bindings that do not read yet.
    #[must_use]
    pub fn new(options: InputBindingsOptions) -> Self {
        Self {
            bindings: options.bindings,
            inner: Arc::new(Inner {
                app: options.app,
                outputs: options.outputs,
                state: options.state,
                around: Surroundings {
                    resilience: options.resilience,
                    metrics: options.metrics,
                },
                tracer: options.tracer,
                max_answer: options.max_answer,
            }),
            activity: Mutex::new(Activity::default()),
        }
    }

    /// Reads from all input bindings that the app takes, afresh where it read before: when the app is (again)
    /// healthy. One binding that fails does not keep the others from reading; failures are logged. Does nothing after
    /// `stop(true)`.
    ///
    /// # Errors
    /// When there is no app.
    pub async fn start(&self) -> Result<(), NoApp> {
        let mut activity = self.activity.lock().await;
        if activity.stopped_forever {
            return Ok(());
        }
        activity.reading = true;
        activity.listed = Arc::default();
        if self.inner.app.is_none() {
            return Err(NoApp);
        }
        close(activity.active.drain().map(|(_, reading)| reading)).await;
        let listed = Arc::clone(&activity.listed);
        activity.active = stream::iter(self.bindings.all())
            .map(|loaded| {
                let listed = Arc::clone(&listed);
                async move { self.begin(&listed, &loaded).await }
            })
            .buffer_unordered(AT_ONCE)
            .filter_map(future::ready)
            .collect()
            .await;
        Ok(())
    }

    /// Stops reading from all input bindings and waits for events in flight: when the app is unhealthy, and for good
    /// at shutdown.
    pub async fn stop(&self, forever: bool) {
        let mut activity = self.activity.lock().await;
        activity.stopped_forever |= forever;
        activity.reading = false;
        close(activity.active.drain().map(|(_, reading)| reading)).await;
    }

    /// Reads from a component that was put in place just now, if the others read. One of the same name stops before.
    pub async fn opened(&self, name: &str) {
        let mut activity = self.activity.lock().await;
        close(activity.active.remove(name)).await;
        if !activity.reading || activity.stopped_forever || self.inner.app.is_none() {
            return;
        }
        if let Some(loaded) = self.bindings.ready(name) {
            let listed = Arc::clone(&activity.listed);
            activity.active.extend(self.begin(&listed, &loaded).await);
        }
    }

    /// Stops reading from a component that is about to close; waits for events in flight.
    pub async fn closing(&self, name: &str) {
        let mut activity = self.activity.lock().await;
        close(activity.active.remove(name)).await;
    }

    /// The names of the bindings that read now.
    pub async fn active(&self) -> Vec<String> {
        let mut names: Vec<String> = self.activity.lock().await.active.keys().cloned().collect();
        names.sort();
        names
    }

    /// Begins to read if the app wants that.
    async fn begin(
        &self,
        listed: &OnceCell<Vec<String>>,
        loaded: &Loaded<Binding>,
    ) -> Option<(String, Box<dyn Reading>)> {
        let input = loaded.instance.input.as_ref()?;
        let direction = Direction::from_properties(&loaded.properties);
        if !direction.input {
            return None;
        }
        let name = loaded.name.as_str();
        let route = loaded.properties.non_empty("route").unwrap_or(name).to_owned();
        if !direction.explicit_input {
            match self.wanted(listed, name, &route).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::info!(
                        target: "dapr.runtime.processor.binding",
                        "app has not subscribed to binding {name}."
                    );
                    return None;
                }
                Err(error) => {
                    tracing::error!(
                        target: "dapr.runtime.processor.binding",
                        "error reading from input binding {name}: {error}"
                    );
                    return None;
                }
            }
        }
        let delivery = Delivery {
            inner: Arc::clone(&self.inner),
            binding: name.to_owned(),
            route,
        };
        match input.read(Arc::new(delivery)).await {
            Ok(reading) => Some((name.to_owned(), reading)),
            Err(error) => {
                tracing::error!(
                    target: "dapr.runtime.processor.binding",
                    "error reading from input binding {name}: {}", error.chain()
                );
                None
            }
        }
    }

    async fn wanted(&self, listed: &OnceCell<Vec<String>>, name: &str, route: &str) -> Result<bool, String> {
        let Some(app) = &self.inner.app else {
            return Ok(false);
        };
        let Some(grpc) = app.grpc() else {
            return discovery::http_app_takes(app, route).await;
        };
        // An app that could not answer is asked again for the next binding.
        let listed = listed
            .get_or_try_init(|| async { discovery::grpc_app_lists(&grpc).await.ok_or(()) })
            .await;
        Ok(listed.is_ok_and(|listed| listed.iter().any(|listed| listed == name)))
    }
}

async fn close(readings: impl IntoIterator<Item = Box<dyn Reading>>) {
    let readings: Vec<_> = readings.into_iter().collect();
    futures::future::join_all(readings.iter().map(|reading| reading.close())).await;
}
