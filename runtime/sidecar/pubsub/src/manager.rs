//! Keeps the app's subscriptions: which there shall be, and which there are (upstream
//! `pkg/runtime/processor/subscriber`, `pkg/runtime/compstore`).

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, future::join_all};
use outrigger_component::Metadata;
use outrigger_engine_routing::RuleError;
use outrigger_resources::{in_scope, kinds::Subscription as Resource};
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;

use crate::{
    PubsubOptions, PubsubService,
    component::Broker,
    delivery::Deliverer,
    postman::Postman,
    programmatic::{self, AskError},
    publisher::Publisher,
    stream::Connection,
    subscription::{Running, Spec, StartError},
};

/// Subscriptions that start at the same time.
const STARTS: usize = 16;
/// Pauses between attempts to start what failed: from, factor, at most (cenkalti/backoff's defaults, for ever).
const FIRST_RETRY: Duration = Duration::from_millis(500);
const RETRY_GROWTH: f64 = 1.5;
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Where a subscription comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubscriptionKind {
    /// A resource.
    Declarative,
    /// The app's answer.
    Programmatic,
    /// A stream of the API.
    Streaming,
}

impl SubscriptionKind {
    /// The name that the metadata API gives it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Declarative => "DECLARATIVE",
            Self::Programmatic => "PROGRAMMATIC",
            Self::Streaming => "STREAMING",
        }
    }
}

/// A subscription as the metadata API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionInfo {
    /// The component.
    pub pubsubname: String,
    /// The topic.
    pub topic: String,
    /// Its metadata.
    pub metadata: Metadata,
    /// Pairs of condition (empty for none) and path.
    pub rules: Vec<(String, String)>,
    /// Where what cannot be delivered goes; empty for nowhere.
    pub dead_letter_topic: String,
    /// Where it comes from.
    pub kind: SubscriptionKind,
}

impl From<&Spec> for SubscriptionInfo {
    fn from(spec: &Spec) -> Self {
        Self {
            pubsubname: spec.pubsub.clone(),
            topic: spec.topic.clone(),
            metadata: spec.metadata.clone(),
            rules: spec
                .rules
                .iter()
                .map(|(condition, path)| (condition.unwrap_or_default().to_owned(), path.to_owned()))
                .collect(),
            dead_letter_topic: spec.dead_letter.clone().unwrap_or_default(),
            kind: spec.kind,
        }
    }
}

/// What is wanted; read by the metadata API at any time.
#[derive(Default)]
struct Wanted {
    declarative: Vec<Arc<Spec>>,
    programmatic: Vec<Arc<Spec>>,
    streams: Vec<(u64, Arc<Spec>)>,
}

impl Wanted {
    /// Resources and what the app said, one per component and topic: the first resource holds the place, the app's
    /// word takes it over.
    fn app(&self) -> Vec<Arc<Spec>> {
        let mut places: HashMap<(&str, &str), usize> = HashMap::new();
        let mut specs: Vec<Arc<Spec>> = Vec::new();
        for spec in self.declarative.iter().chain(&self.programmatic) {
            match places.get(&(spec.pubsub.as_str(), spec.topic.as_str())) {
                Some(at) if spec.kind == SubscriptionKind::Programmatic => specs[*at] = Arc::clone(spec),
                Some(_) => {}
                None => {
                    places.insert((&spec.pubsub, &spec.topic), specs.len());
                    specs.push(Arc::clone(spec));
                }
            }
        }
        specs
    }
}

/// What runs; changed by one caller at a time.
#[derive(Default)]
struct Active {
    /// Whether the app is healthy, so that its subscriptions run.
    is_on: bool,
    has_asked: bool,
    app: Vec<Running>,
    streams: HashMap<u64, (Running, Arc<Connection>)>,
    /// The task that starts what failed to; cancelled when there is nothing left for it.
    retries: Option<CancellationToken>,
    /// Topics whose denial has been logged.
    denied: Vec<Arc<Spec>>,
    /// Components about to be closed: nothing starts on them.
    blocked: Vec<String>,
}

/// Keeps subscriptions.
pub(crate) struct Manager {
    options: PubsubOptions,
    publisher: Arc<Publisher>,
    wanted: Mutex<Wanted>,
    active: AsyncMutex<Active>,
    closed: CancellationToken,
    next_stream: AtomicU64,
    myself: Weak<Self>,
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").finish_non_exhaustive()
    }
}

impl Manager {
    pub(crate) fn new(options: PubsubOptions, publisher: Arc<Publisher>) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            options,
            publisher,
            wanted: Mutex::default(),
            active: AsyncMutex::default(),
            closed: CancellationToken::new(),
            next_stream: AtomicU64::new(0),
            myself: Weak::clone(myself),
        })
    }

    fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Waits until the service is shutting down.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Asks the app, once; without components or app there is nothing to ask for.
    async fn ask(&self, active: &mut Active) -> Result<(), AskError> {
        if active.has_asked || self.publisher.table.all().is_empty() {
            return Ok(());
        }
        let Some(app) = self.options.app.load_full() else {
            tracing::warn!(target: "dapr.runtime.processor.subscription", "app channel not initialized, make sure -app-port is specified if pubsub subscription is required");
            return Ok(());
        };
        if !self.options.ask_app {
            active.has_asked = true;
            tracing::warn!(target: "dapr.runtime.processor.subscription", "Skipping programmatic subscription loading (see 'disable-init-endpoints' flag/annotation)");
            return Ok(());
        }
        let policy = self.options.resilience.load().init_retries();
        let specs = programmatic::ask(&app, &self.options.app_id, &policy).await?;
        active.has_asked = true;
        let mut topics: HashMap<&str, Vec<&str>> = HashMap::new();
        for spec in &specs {
            topics.entry(&spec.pubsub).or_default().push(&spec.topic);
        }
        for (pubsub, topics) in topics {
            let topics = topics.join(" ");
            tracing::info!(target: "dapr.runtime.processor.subscription", "app is subscribed to the following topics: [[{topics}]] through pubsub={pubsub}");
        }
        self.wanted.lock().programmatic = specs.into_iter().map(Arc::new).collect();
        Ok(())
    }

    /// Makes what runs what is wanted. What fails to start is tried again later.
    async fn reconcile(&self, active: &mut Active) {
        let wanted = if active.is_on && !self.is_closed() {
            self.wanted.lock().app()
        } else {
            Vec::new()
        };
        let mut missing: Vec<(Arc<Spec>, Arc<Broker>)> = wanted
            .into_iter()
            .filter(|spec| !active.blocked.contains(&spec.pubsub))
            .filter_map(|spec| {
                let broker = self.publisher.table.ready(&spec.pubsub)?;
                Some((spec, broker))
            })
            .collect();
        let mut leaving = Vec::new();
        for running in std::mem::take(&mut active.app) {
            let still = missing.iter().position(|(spec, broker)| {
                *spec == running.spec && Arc::ptr_eq(&broker.loaded, &running.broker.loaded)
            });
            match still {
                Some(at) => {
                    missing.remove(at);
                    active.app.push(running);
                }
                None => leaving.push(running),
            }
        }
        join_all(leaving.into_iter().map(Running::stop)).await;

        let started: Vec<_> = futures::stream::iter(missing)
            .map(|(spec, broker)| async move {
                let outcome = Running::start(Arc::clone(&spec), broker, |broker, gate| {
                    Deliverer::new(Arc::clone(&spec), broker, &self.publisher, gate, Postman::App)
                })
                .await;
                (spec, outcome)
            })
            .buffered(STARTS)
            .collect()
            .await;
        let mut has_failed = false;
        for (spec, outcome) in started {
            let error = match outcome {
                Ok(running) => {
                    active.app.push(running);
                    continue;
                }
                Err(error) => error,
            };
            if matches!(error, StartError::NotAllowed { .. }) {
                if active.denied.contains(&spec) {
                    continue;
                }
                active.denied.push(Arc::clone(&spec));
            } else {
                has_failed = true;
            }
            let Spec { pubsub, topic, .. } = &*spec;
            tracing::error!(target: "dapr.runtime.processor.subscription", "Failed to start subscription for pubsub {pubsub}, topic {topic}: {error}");
        }
        self.schedule_retries(active, has_failed);
    }

    fn schedule_retries(&self, active: &mut Active, has_failed: bool) {
        if !has_failed {
            if let Some(retries) = active.retries.take() {
                retries.cancel();
            }
            return;
        }
        if active.retries.is_some() {
            return;
        }
        let token = CancellationToken::new();
        active.retries = Some(token.clone());
        let myself = Weak::clone(&self.myself);
        tokio::spawn(async move {
            let mut pause = FIRST_RETRY;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = token.cancelled() => return,
                }
                pause = pause.mul_f64(RETRY_GROWTH).min(LAST_RETRY);
                let Some(manager) = myself.upgrade() else { return };
                let mut active = manager.active.lock().await;
                if token.is_cancelled() {
                    return;
                }
                manager.reconcile(&mut active).await;
            }
        });
    }

    /// Starts a stream's subscription; its number ends it.
    pub(crate) async fn start_stream(
        &self,
        spec: Arc<Spec>,
        broker: Arc<Broker>,
        connection: Arc<Connection>,
    ) -> Result<u64, StreamStartError> {
        let number = self.next_stream.fetch_add(1, Ordering::Relaxed);
        let mut active = self.active.lock().await;
        if self.is_closed() {
            return Err(StreamStartError::Closed);
        }
        let postman = Postman::Stream(Arc::clone(&connection));
        let running = Running::start(Arc::clone(&spec), broker, |broker, gate| {
            Deliverer::new(Arc::clone(&spec), broker, &self.publisher, gate, postman)
        })
        .await?;
        active.streams.insert(number, (running, connection));
        self.wanted.lock().streams.push((number, spec));
        Ok(number)
    }

    /// Ends a stream's subscription; nothing happens if it has ended.
    pub(crate) async fn stop_stream(&self, number: u64) {
        self.wanted.lock().streams.retain(|(other, _)| *other != number);
        let running = self.active.lock().await.streams.remove(&number);
        if let Some((running, _)) = running {
            running.stop().await;
        }
    }

    async fn stop_streams(&self, active: &mut Active, leave: impl Fn(&Running) -> bool) {
        let numbers: Vec<u64> = active
            .streams
            .iter()
            .filter(|(_, (running, _))| leave(running))
            .map(|(number, _)| *number)
            .collect();
        let leaving: Vec<_> = numbers
            .iter()
            .filter_map(|number| active.streams.remove(number))
            .collect();
        self.wanted
            .lock()
            .streams
            .retain(|(number, _)| !numbers.contains(number));
        join_all(leaving.into_iter().map(|(running, connection)| async move {
            // The app may still answer what it has; then the stream ends.
            running.stop().await;
            connection.hang_up();
        }))
        .await;
    }
}

/// Why a stream did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamStartError {
    #[error("subscriber is closed")]
    Closed,
    #[error("{0}")]
    Start(#[from] StartError),
}

impl PubsubService {
    /// Replaces the declarative subscriptions; those out of the app's scope are passed over. Where subscriptions
    /// run, the difference starts and stops at once. When one name comes twice the last counts.
    ///
    /// # Errors
    /// When a rule is not valid CEL: nothing has changed then.
    pub async fn set_declarative(&self, resources: Vec<Resource>) -> Result<(), RuleError> {
        let mut named: Vec<(String, Arc<Spec>)> = Vec::with_capacity(resources.len());
        for resource in &resources {
            if !in_scope(&resource.scopes, &self.options.app_id) {
                continue;
            }
            let spec = Arc::new(Spec::declarative(resource)?);
            let name = resource.meta.name.clone();
            named.retain(|(other, _)| *other != name);
            named.push((name, spec));
        }
        let manager = &self.manager;
        manager.wanted.lock().declarative = named.into_iter().map(|(_, spec)| spec).collect();
        let mut active = manager.active.lock().await;
        if active.is_on {
            manager.reconcile(&mut active).await;
        }
        Ok(())
    }

    /// Asks the app for its subscriptions, if that has not been done and there are components.
    ///
    /// # Errors
    /// When the app cannot be asked, or what it says cannot be read.
    pub async fn load_programmatic(&self) -> Result<(), AskError> {
        let mut active = self.manager.active.lock().await;
        self.manager.ask(&mut active).await
    }

    /// Starts the app's subscriptions: the app is healthy. Those that cannot be started are logged and tried again.
    ///
    /// # Errors
    /// As [`PubsubService::load_programmatic`]; nothing has started then.
    pub async fn start_app_subscriptions(&self) -> Result<(), AskError> {
        let manager = &self.manager;
        let mut active = manager.active.lock().await;
        if active.is_on || manager.is_closed() {
            return Ok(());
        }
        manager.ask(&mut active).await?;
        active.is_on = true;
        manager.reconcile(&mut active).await;
        Ok(())
    }

    /// Stops the app's subscriptions: the app is unhealthy. Streams go on.
    pub async fn stop_app_subscriptions(&self) {
        let mut active = self.manager.active.lock().await;
        active.is_on = false;
        self.manager.reconcile(&mut active).await;
    }

    /// Stops everything for good, in order (pause, drain at most 30 s, close): the sidecar is shutting down. May
    /// be called while `--dapr-block-shutdown-duration` runs.
    pub async fn stop_forever(&self) {
        let manager = &self.manager;
        manager.closed.cancel();
        let mut active = manager.active.lock().await;
        active.is_on = false;
        let streams = std::mem::take(&mut active.streams);
        let mut streams = Active {
            streams,
            ..Active::default()
        };
        tokio::join!(
            manager.reconcile(&mut active),
            manager.stop_streams(&mut streams, |_| true)
        );
    }

    /// A component was opened, replaced or taken out: its subscriptions move to the new instance. Streams of an
    /// instance that is gone end, and clients open new ones.
    ///
    /// # Errors
    /// As [`PubsubService::load_programmatic`]: the first component is what makes the app be asked.
    pub async fn reload_component(&self, name: &str) -> Result<(), AskError> {
        let manager = &self.manager;
        let mut active = manager.active.lock().await;
        if manager.is_closed() {
            return Ok(());
        }
        let broker = manager.publisher.table.ready(name);
        let leaves = |running: &Running| {
            running.spec.pubsub == name
                && broker
                    .as_ref()
                    .is_none_or(|broker| !Arc::ptr_eq(&broker.loaded, &running.broker.loaded))
        };
        manager.stop_streams(&mut active, leaves).await;
        active.denied.retain(|spec| spec.pubsub != name);
        active.blocked.retain(|blocked| blocked != name);
        if !active.is_on {
            return Ok(());
        }
        let asked = manager.ask(&mut active).await;
        manager.reconcile(&mut active).await;
        asked
    }

    /// Stops what uses a component that is about to be closed; [`PubsubService::reload_component`] starts it again.
    pub async fn stop_component(&self, name: &str) {
        let manager = &self.manager;
        let mut active = manager.active.lock().await;
        if !active.blocked.iter().any(|blocked| blocked == name) {
            active.blocked.push(name.to_owned());
        }
        manager
            .stop_streams(&mut active, |running| running.spec.pubsub == name)
            .await;
        let (leaving, staying) = std::mem::take(&mut active.app)
            .into_iter()
            .partition(|running| running.spec.pubsub == name);
        active.app = staying;
        let leaving: Vec<Running> = leaving;
        join_all(leaving.into_iter().map(Running::stop)).await;
        manager.publisher.table.forget(name);
    }

    /// All subscriptions, for the metadata API: resources and the app's, then streams.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<SubscriptionInfo> {
        let wanted = self.manager.wanted.lock();
        let app = wanted.app();
        app.iter()
            .map(|spec| SubscriptionInfo::from(&**spec))
            .chain(
                wanted
                    .streams
                    .iter()
                    .map(|(_, spec)| SubscriptionInfo::from(&**spec)),
            )
            .collect()
    }
}
