//! Opening components: secret stores first, then all others side by side (design D8; wire.md §19). What happens to
//! those that are open is in [`replace`].

mod progress;
mod replace;
mod settings;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use outrigger_bindings::Binding;
use outrigger_component::{Error, ErrorKind, Host, Open, Properties, Registration, Spec};
use outrigger_components::{
    self as registry,
    pluggable::{Discovered, discover},
};
use outrigger_configuration::SharedConfigurationStore;
use outrigger_conversation::SharedConversation;
use outrigger_crypto::SharedCryptoProvider;
use outrigger_lock::SharedLockStore;
use outrigger_middleware::SharedMiddleware;
use outrigger_pubsub::SharedPubSub;
use outrigger_resources::{
    kinds::{Component, Resource as _},
    references::{Notice, ReferenceOptions, SecretAnswer, SecretLookup, resolve},
    templates::Templates,
};
use outrigger_secrets::SharedSecretStore;
use outrigger_sidecar_api::{Components, Loaded};
use outrigger_sidecar_state::StateService;
use outrigger_state::SharedStateStore;
use outrigger_telemetry::{
    Metrics,
    audit::{Audit, AuditActor, AuditDecision, AuditRecord},
    trace::SpanContext,
};
use outrigger_types::ComponentName;
use tokio::sync::OnceCell;

pub(crate) use self::progress::Progress;
pub(crate) use self::replace::close_all;
use self::settings::store_settings;
use crate::dependents::Dependents;

/// Log target of this work, upstream's name.
const LOG: &str = "dapr.runtime.processor";
/// First and longest pause between tries to open a component whose backend is away.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// The components of all blocks.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tables {
    pub(crate) state: Arc<Components<SharedStateStore>>,
    pub(crate) pubsub: Arc<Components<SharedPubSub>>,
    pub(crate) bindings: Arc<Components<Binding>>,
    pub(crate) secrets: Arc<Components<SharedSecretStore>>,
    pub(crate) configuration: Arc<Components<SharedConfigurationStore>>,
    pub(crate) lock: Arc<Components<SharedLockStore>>,
    pub(crate) crypto: Arc<Components<SharedCryptoProvider>>,
    pub(crate) conversation: Arc<Components<SharedConversation>>,
    pub(crate) middleware: Arc<Components<SharedMiddleware>>,
    /// Keeps records of secrets that resources refer to.
    pub(crate) audit: Audit,
}

/// A component could not be opened, and its file does not say to go on without it. The text is upstream's.
#[derive(Debug, Clone, thiserror::Error)]
#[error("process component {name} error: {cause}")]
pub(crate) struct ComponentFailure {
    /// Its name.
    pub(crate) name: String,
    /// Why.
    pub(crate) cause: String,
}

/// What became of a component that was to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    /// It is open.
    Now,
    /// Its backend is away: it opens when that is back, and what uses it starts then.
    Later,
    /// It waits for a secret store that is not loaded.
    Waiting,
    /// It failed, and its file says to go on without it.
    Ignored,
}

/// Which of a block's tables a type belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    State,
    Pubsub,
    Bindings,
    Secrets,
    Configuration,
    Lock,
    Crypto,
    Conversation,
    Middleware,
}

impl Block {
    pub(crate) fn of(category: &str) -> Option<Self> {
        Some(match category {
            "state" => Self::State,
            "pubsub" => Self::Pubsub,
            "bindings" => Self::Bindings,
            "secretstores" => Self::Secrets,
            "configuration" => Self::Configuration,
            "lock" => Self::Lock,
            "crypto" => Self::Crypto,
            "conversation" => Self::Conversation,
            "middleware" => Self::Middleware,
            _ => return None,
        })
    }
}

/// How an opening can fail: creation by an unknown type, or initialisation. The kind names are upstream's.
struct Failure {
    kind: &'static str,
    error: Error,
}

/// Opens components into the tables.
pub(crate) struct ComponentLoader {
    /// Where they go.
    pub(crate) tables: Tables,
    /// What surrounds them.
    pub(crate) host: Host,
    /// How references resolve.
    pub(crate) references: ReferenceOptions,
    /// What `{…}` in values stands for.
    pub(crate) templates: Templates,
    /// Receives key prefixes and encryption keys.
    pub(crate) state: Arc<StateService>,
    /// Counts.
    pub(crate) metrics: Metrics,
    /// What is still on its way.
    pub(crate) progress: Progress,
    /// What starts and stops with a component.
    pub(crate) dependents: Dependents,
    /// The folder of sockets by which other processes offer components.
    pub(crate) sockets: PathBuf,
    /// What they offer, once somebody looked.
    pub(crate) pluggable: OnceCell<Discovered>,
    /// Makes the values of `{uuid}`.
    pub(crate) new_id: fn() -> String,
}

impl std::fmt::Debug for ComponentLoader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ComponentLoader").finish_non_exhaustive()
    }
}

impl Tables {
    /// Whether a component is open or still to be opened.
    fn knows(&self, name: &str) -> bool {
        macro_rules! any {
            ($($table:ident),*) => {
                false $(|| self.$table.ready(name).is_some() || self.$table.is_initialising(name))*
            };
        }
        any!(
            state,
            pubsub,
            bindings,
            secrets,
            configuration,
            lock,
            crypto,
            conversation,
            middleware
        )
    }
}

impl SecretLookup for Tables {
    fn secret<'a>(
        &'a self,
        store: &'a str,
        name: &'a str,
        namespace: &'a str,
    ) -> BoxFuture<'a, SecretAnswer> {
        Box::pin(async move {
            let Ok(loaded) = self.secrets.get(store).await else {
                return SecretAnswer::NoStore;
            };
            let metadata = BTreeMap::from([("namespace".to_owned(), namespace.to_owned())]);
            let read = loaded.instance.get(name, &metadata).await;
            if self.audit.is_enabled() {
                self.audit.record(&AuditRecord {
                    actor: AuditActor::App,
                    action: "secret.reference",
                    target: &format!("{store}/{name}"),
                    decision: if read.is_ok() {
                        AuditDecision::Allowed
                    } else {
                        AuditDecision::Failed
                    },
                    policy: "",
                    trace: &SpanContext::default(),
                });
            }
            match read {
                Ok(secret) => SecretAnswer::Found(
                    secret
                        .into_iter()
                        .map(|(key, value)| (key, value.expose().to_owned()))
                        .collect(),
                ),
                Err(error) => SecretAnswer::Failed(error.chain()),
            }
        })
    }
}

impl ComponentLoader {
    /// Announces all components, so that calls wait for them rather than fail.
    pub(crate) fn announce(&self, components: &[Component]) {
        for component in components {
            let name = ComponentName::from(component.name());
            let timeout = component.init_timeout();
            match Block::of(component.category()) {
                Some(Block::State) => self.tables.state.announce(&name, timeout),
                Some(Block::Pubsub) => self.tables.pubsub.announce(&name, timeout),
                Some(Block::Bindings) => self.tables.bindings.announce(&name, timeout),
                Some(Block::Secrets) => self.tables.secrets.announce(&name, timeout),
                Some(Block::Configuration) => self.tables.configuration.announce(&name, timeout),
                Some(Block::Lock) => self.tables.lock.announce(&name, timeout),
                Some(Block::Crypto) => self.tables.crypto.announce(&name, timeout),
                Some(Block::Conversation) => self.tables.conversation.announce(&name, timeout),
                Some(Block::Middleware) => self.tables.middleware.announce(&name, timeout),
                None => {}
            }
        }
    }

    /// Opens all components: secret stores, then the others side by side. Returns when each is open, ignored or known
    /// to take longer, or with the first failure that is not to be ignored.
    ///
    /// # Errors
    /// See [`ComponentFailure`].
    pub(crate) async fn open_all(self: &Arc<Self>, components: &[Component]) -> Result<(), ComponentFailure> {
        let (secret_stores, others): (Vec<_>, Vec<_>) = components
            .iter()
            .cloned()
            .partition(|component| component.category() == "secretstores");
        for group in [secret_stores, others] {
            let mut opening: FuturesUnordered<_> = group
                .into_iter()
                .map(|component| Arc::clone(self).open(component))
                .collect();
            while let Some(outcome) = opening.next().await {
                outcome?;
            }
        }
        Ok(())
    }

    /// Opens one component.
    ///
    /// # Errors
    /// See [`ComponentFailure`].
    pub(crate) async fn open(self: Arc<Self>, component: Component) -> Result<Opened, ComponentFailure> {
        let ignore = component.spec.ignore_errors;
        let name = component.name().to_owned();
        let cause = match self.process(component).await {
            Ok(opened) => return Ok(opened),
            Err(cause) => cause,
        };
        let failure = ComponentFailure { name, cause };
        if ignore {
            tracing::error!(target: LOG, "Ignoring error processing component: {failure}");
            return Ok(Opened::Ignored);
        }
        tracing::warn!(target: LOG, "Error processing component, daprd will exit gracefully: {failure}");
        Err(failure)
    }

    /// Opens a component that nobody waits for; a failure that is not to be ignored ends the sidecar.
    fn open_later(self: &Arc<Self>, component: Component) {
        let loader = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(failure) = Arc::clone(&loader).open(component).await {
                loader.progress.give_up(failure.to_string());
            }
        });
    }

    async fn process(self: &Arc<Self>, mut component: Component) -> Result<Opened, String> {
        let log_name = component.log_name();
        tracing::debug!(target: LOG, "Loading component: {log_name}");
        let unresolved = component.clone();
        let resolution = resolve(&mut component, &self.references, &self.tables).await;
        for notice in resolution.notices {
            match notice {
                Notice::Warning(text) => tracing::warn!(target: "dapr.runtime.processor.secret", "{text}"),
                Notice::Error(text) => tracing::error!(target: "dapr.runtime.processor.secret", "{text}"),
            }
        }
        if let Some(store) = resolution.waiting_for {
            // Upstream says nothing; say it where somebody looks for the reason.
            tracing::warn!(target: LOG, "Component {log_name} waits for secret store {store}, which is not loaded");
            self.fail(
                &component,
                &format!("waits for secret store {store}, which is not loaded"),
            );
            self.progress.wait_for_store(store, unresolved);
            return Ok(Opened::Waiting);
        }
        let Some(block) = Block::of(component.category()) else {
            return Err(format!("incorrect type {}", component.spec.r#type));
        };
        let began = Instant::now();
        let Err(failure) = self.attempt(block, &component).await else {
            self.opened(block, &component, began).await;
            return Ok(Opened::Now);
        };
        // Only a backend that is away is worth waiting for; whoever asked to go on without it does.
        if failure.error.kind() != ErrorKind::Unavailable || component.spec.ignore_errors {
            return Err(self.failed(&component, &failure));
        }
        self.progress
            .away(component.name(), format!("{log_name}: {}", failure.error.chain()));
        self.keep_trying(block, component, began);
        Ok(Opened::Later)
    }

    async fn attempt(&self, block: Block, component: &Component) -> Result<(), Failure> {
        let log_name = component.log_name();
        let opened = tokio::time::timeout(component.init_timeout(), self.open_block(block, component)).await;
        let failure = match opened {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) => failure,
            Err(_) => Failure {
                kind: "INIT_COMPONENT_FAILURE",
                error: Error::new(
                    ErrorKind::Timeout,
                    format!("init timeout for component {log_name}"),
                ),
            },
        };
        let text = init_error(failure.kind, &log_name, &failure.error.chain());
        tracing::error!(target: LOG, "Failed to init component {log_name}: {text}");
        let reason = if failure.kind == "CREATE_COMPONENT_FAILURE" {
            "creation"
        } else {
            "init"
        };
        self.metrics
            .component_init_failed(&component.spec.r#type, reason, component.name());
        Err(failure)
    }

    /// Tries again until the backend is back, or the component's file is changed.
    fn keep_trying(self: &Arc<Self>, block: Block, component: Component, began: Instant) {
        let loader = Arc::clone(self);
        let given_up = self.progress.retry(component.name());
        tokio::spawn(async move {
            let mut pause = RETRY_PAUSES.0;
            loop {
                let tried = async {
                    tokio::time::sleep(pause).await;
                    loader.attempt(block, &component).await
                };
                let outcome = tokio::select! {
                    outcome = tried => outcome,
                    () = given_up.cancelled() => return,
                };
                pause = (pause * 2).min(RETRY_PAUSES.1);
                let Err(failure) = outcome else {
                    loader.opened(block, &component, began).await;
                    return;
                };
                if failure.error.kind() != ErrorKind::Unavailable {
                    let failure = ComponentFailure {
                        name: component.name().to_owned(),
                        cause: loader.failed(&component, &failure),
                    };
                    tracing::warn!(target: LOG, "Error processing component, daprd will exit gracefully: {failure}");
                    loader.progress.give_up(failure.to_string());
                    return;
                }
            }
        });
    }

    /// A component is in its table: says so, and starts what uses it.
    async fn opened(self: &Arc<Self>, block: Block, component: &Component, began: Instant) {
        let log_name = component.log_name();
        self.progress.arrived(component.name());
        tracing::info!(target: LOG, "Component loaded: {log_name}");
        tracing::debug!(target: LOG, "Component {log_name} took {:?}", began.elapsed());
        self.metrics.component_initialized(&component.spec.r#type);
        self.metrics.component_loaded();
        self.dependents.opened(block, component.name()).await;
        if block == Block::Secrets {
            for waiting in self.progress.waiting_for_store(component.name()) {
                self.open_later(waiting);
            }
        }
    }

    /// Notes that a component cannot be opened; the text says why, as upstream words it.
    fn failed(&self, component: &Component, failure: &Failure) -> String {
        let log_name = component.log_name();
        let text = init_error(failure.kind, &log_name, &failure.error.chain());
        if let Some(origin) = &component.meta.origin {
            tracing::error!(
                target: LOG,
                "{origin}: component {log_name} cannot start: {} (correct the file, or set spec.ignoreErrors: true to go on without it)",
                failure.error.chain()
            );
        }
        self.fail(component, &text);
        init_error("INIT_COMPONENT_FAILURE", &log_name, &text)
    }

    fn fail(&self, component: &Component, reason: &str) {
        let name = ComponentName::from(component.name());
        match Block::of(component.category()) {
            Some(Block::State) => self.tables.state.fail(&name, reason),
            Some(Block::Pubsub) => self.tables.pubsub.fail(&name, reason),
            Some(Block::Bindings) => self.tables.bindings.fail(&name, reason),
            Some(Block::Secrets) => self.tables.secrets.fail(&name, reason),
            Some(Block::Configuration) => self.tables.configuration.fail(&name, reason),
            Some(Block::Lock) => self.tables.lock.fail(&name, reason),
            Some(Block::Crypto) => self.tables.crypto.fail(&name, reason),
            Some(Block::Conversation) => self.tables.conversation.fail(&name, reason),
            Some(Block::Middleware) => self.tables.middleware.fail(&name, reason),
            None => {}
        }
    }

    async fn open_block(&self, block: Block, component: &Component) -> Result<(), Failure> {
        match block {
            Block::State => {
                let spec = self.spec(component)?;
                let instance = self
                    .build(
                        self.pluggable().await.state(&spec),
                        registry::state(),
                        &spec,
                        "state store",
                    )
                    .await?;
                self.state
                    .configure(&spec.name, store_settings(component, &spec)?);
                put(&self.tables.state, spec, instance);
            }
            Block::Pubsub => {
                let spec = self.spec(component)?;
                let instance = self
                    .build(
                        self.pluggable().await.pubsub(&spec),
                        registry::pubsub(),
                        &spec,
                        "message bus",
                    )
                    .await?;
                put(&self.tables.pubsub, spec, instance);
            }
            Block::Bindings => {
                let spec = self.spec(component)?;
                let instance = self
                    .build(
                        self.pluggable().await.binding(&spec),
                        registry::bindings(),
                        &spec,
                        "binding",
                    )
                    .await?;
                put(&self.tables.bindings, spec, Binding::clone(&instance));
            }
            Block::Secrets => {
                let spec = self.spec(component)?;
                let instance = self
                    .build(
                        self.pluggable().await.secret_store(&spec),
                        registry::secret_stores(),
                        &spec,
                        "secret store",
                    )
                    .await?;
                put(&self.tables.secrets, spec, instance);
            }
            Block::Configuration => {
                let spec = self.spec(component)?;
                let instance = self
                    .build(None, registry::configuration(), &spec, "configuration store")
                    .await?;
                put(&self.tables.configuration, spec, instance);
            }
            Block::Lock => {
                let spec = self.spec(component)?;
                let instance = self.build(None, registry::lock(), &spec, "lock store").await?;
                put(&self.tables.lock, spec, instance);
            }
            Block::Crypto => {
                let spec = self.spec(component)?;
                let instance = self
                    .build(None, registry::crypto(), &spec, "crypto provider")
                    .await?;
                put(&self.tables.crypto, spec, instance);
            }
            Block::Conversation => {
                let spec = self.spec(component)?;
                let instance = self
                    .build(None, registry::conversation(), &spec, "conversation")
                    .await?;
                put(&self.tables.conversation, spec, instance);
            }
            Block::Middleware => {
                let spec = self.spec(component)?;
                let instance = self
                    .build(None, registry::middleware(), &spec, "HTTP middleware")
                    .await?;
                put(&self.tables.middleware, spec, instance);
            }
        }
        Ok(())
    }

    fn spec(&self, component: &Component) -> Result<Spec, Failure> {
        let mut new_id = self.new_id;
        let properties = self
            .templates
            .properties(component, false, &mut new_id)
            .map_err(|error| Failure {
                kind: "INIT_COMPONENT_FAILURE",
                error: Error::configuration(error.to_string()),
            })?;
        Ok(Spec {
            name: component.name().into(),
            type_name: component.spec.r#type.clone(),
            version: component.spec.version.clone(),
            properties: Properties::from_pairs(properties),
        })
    }

    /// What other processes offer; the first caller looks, once for the life of the sidecar (upstream scans before it
    /// loads components).
    async fn pluggable(&self) -> &Discovered {
        self.pluggable.get_or_init(|| discover(&self.sockets)).await
    }

    async fn build<I: ?Sized>(
        &self,
        pluggable: Option<Open<I>>,
        registrations: Vec<Registration<I>>,
        spec: &Spec,
        block: &str,
    ) -> Result<Arc<I>, Failure> {
        let failed = |error| Failure {
            kind: "INIT_COMPONENT_FAILURE",
            error,
        };
        // Upstream keeps both in one table, where what was discovered replaces what was built in.
        if let Some(open) = pluggable {
            return open.run(self.host.clone()).await.map_err(failed);
        }
        let registration = registrations
            .into_iter()
            .find(|registration| registration.serves(&spec.type_name, &spec.version))
            .ok_or_else(|| Failure {
                kind: "CREATE_COMPONENT_FAILURE",
                error: Error::configuration(format!(
                    "couldn't find {block} {}/{}",
                    spec.type_name, spec.version
                )),
            })?;
        (registration.validate)(spec)
            .map_err(failed)?
            .run(self.host.clone())
            .await
            .map_err(failed)
    }
}

fn put<T: replace::Close>(table: &Components<T>, spec: Spec, instance: T) {
    let Spec {
        name,
        type_name,
        version,
        properties,
    } = spec;
    let replaced = table.insert(Loaded {
        name,
        type_name,
        version,
        properties,
        instance,
    });
    if let Some(replaced) = replaced {
        replace::let_go_later(replaced);
    }
}

fn init_error(kind: &str, entity: &str, cause: &str) -> String {
    format!("[{kind}]: initialization error occurred for {entity}: {cause}")
}
