//! Opening components: secret stores first, then all others side by side (design D8; wire.md §19).

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use outrigger_bindings::Binding;
use outrigger_component::{Error, ErrorKind, Host, Properties, Registration, SecretString, Spec};
use outrigger_components as registry;
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
use outrigger_sidecar_state::{EncryptionKeys, NamedKey, StateService, StoreSettings};
use outrigger_state::SharedStateStore;
use outrigger_telemetry::Metrics;
use outrigger_types::ComponentName;

use crate::health::Readiness;

/// Log target of this work, upstream's name.
const LOG: &str = "dapr.runtime.processor";
/// First and longest pause between tries to open a component whose backend is away.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// The components of all blocks.
#[derive(Debug, Default, Clone)]
#[allow(missing_docs)]
pub struct Tables {
    pub state: Arc<Components<SharedStateStore>>,
    pub pubsub: Arc<Components<SharedPubSub>>,
    pub bindings: Arc<Components<Binding>>,
    pub secrets: Arc<Components<SharedSecretStore>>,
    pub configuration: Arc<Components<SharedConfigurationStore>>,
    pub lock: Arc<Components<SharedLockStore>>,
    pub crypto: Arc<Components<SharedCryptoProvider>>,
    pub conversation: Arc<Components<SharedConversation>>,
    pub middleware: Arc<Components<SharedMiddleware>>,
}

/// A component could not be opened, and its file does not say to go on without it. The text is upstream's.
#[derive(Debug, Clone, thiserror::Error)]
#[error("process component {name} error: {cause}")]
pub struct ComponentFailure {
    /// Its name.
    pub name: String,
    /// Why.
    pub cause: String,
}

/// Which of a block's tables a type belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
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
    fn of(category: &str) -> Option<Self> {
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
pub struct ComponentLoader {
    /// Where they go.
    pub tables: Tables,
    /// What surrounds them.
    pub host: Host,
    /// How references resolve.
    pub references: ReferenceOptions,
    /// What `{…}` in values stands for.
    pub templates: Templates,
    /// Receives key prefixes and encryption keys.
    pub state: Arc<StateService>,
    /// Counts.
    pub metrics: Metrics,
    /// Parts that are not ready: one per component whose backend is away.
    pub readiness: Arc<Readiness>,
    /// Makes the values of `{uuid}`.
    pub new_id: fn() -> String,
}

impl std::fmt::Debug for ComponentLoader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ComponentLoader").finish_non_exhaustive()
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
            match loaded.instance.get(name, &metadata).await {
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
    pub fn announce(&self, components: &[Component]) {
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

    /// Opens all components: secret stores, then the others side by side. Returns with the first failure that is
    /// not to be ignored.
    ///
    /// # Errors
    /// See [`ComponentFailure`].
    pub async fn open_all(self: &Arc<Self>, components: &[Component]) -> Result<(), ComponentFailure> {
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
    pub async fn open(self: Arc<Self>, component: Component) -> Result<(), ComponentFailure> {
        let ignore = component.spec.ignore_errors;
        let name = component.name().to_owned();
        let Err(cause) = self.process(component).await else {
            return Ok(());
        };
        let failure = ComponentFailure { name, cause };
        if ignore {
            tracing::error!(target: LOG, "Ignoring error processing component: {failure}");
            return Ok(());
        }
        tracing::warn!(target: LOG, "Error processing component, daprd will exit gracefully: {failure}");
        Err(failure)
    }

    async fn process(self: &Arc<Self>, mut component: Component) -> Result<(), String> {
        let log_name = component.log_name();
        tracing::debug!(target: LOG, "Loading component: {log_name}");
        let resolution = resolve(&mut component, &self.references, &self.tables).await;
        for notice in resolution.notices {
            match notice {
                Notice::Warning(text) => tracing::warn!(target: "dapr.runtime.processor.secret", "{text}"),
                Notice::Error(text) => tracing::error!(target: "dapr.runtime.processor.secret", "{text}"),
            }
        }
        if let Some(store) = resolution.waiting_for {
            // Upstream parks it for ever; say so where somebody looks for the reason.
            tracing::warn!(target: LOG, "Component {log_name} waits for secret store {store}, which is not loaded");
            self.fail(
                &component,
                &format!("waits for secret store {store}, which is not loaded"),
            );
            return Ok(());
        }
        let Some(block) = Block::of(component.category()) else {
            return Err(format!("incorrect type {}", component.spec.r#type));
        };
        let began = Instant::now();
        let mut pause = RETRY_PAUSES.0;
        loop {
            let opened =
                tokio::time::timeout(component.init_timeout(), self.open_block(block, &component)).await;
            let failure = match opened {
                Ok(Ok(())) => break,
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
            self.metrics
                .component_init_failed(&component.spec.r#type, "init", component.name());
            // Only a backend that is away is worth waiting for; whoever asked to go on without it does.
            if failure.error.kind() != ErrorKind::Unavailable || component.spec.ignore_errors {
                if let Some(origin) = &component.meta.origin {
                    tracing::error!(
                        target: LOG,
                        "{origin}: component {log_name} cannot start: {} (correct the file, or set spec.ignoreErrors: true to go on without it)",
                        failure.error.chain()
                    );
                }
                self.fail(&component, &text);
                return Err(init_error("INIT_COMPONENT_FAILURE", &log_name, &text));
            }
            self.readiness
                .not_ready("components", format!("{log_name}: {}", failure.error.chain()));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSES.1);
        }
        self.readiness.ready("components");
        tracing::info!(target: LOG, "Component loaded: {log_name}");
        tracing::debug!(target: LOG, "Component {log_name} took {:?}", began.elapsed());
        self.metrics.component_loaded();
        Ok(())
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
                let instance = self.build(registry::state(), &spec, "state store").await?;
                self.state
                    .configure(&spec.name, store_settings(component, &spec)?);
                put(&self.tables.state, spec, instance);
            }
            Block::Pubsub => {
                let spec = self.spec(component)?;
                let instance = self.build(registry::pubsub(), &spec, "message bus").await?;
                put(&self.tables.pubsub, spec, instance);
            }
            Block::Bindings => {
                let spec = self.spec(component)?;
                let instance = self.build(registry::bindings(), &spec, "binding").await?;
                put(&self.tables.bindings, spec, Binding::clone(&instance));
            }
            Block::Secrets => {
                let spec = self.spec(component)?;
                let instance = self
                    .build(registry::secret_stores(), &spec, "secret store")
                    .await?;
                put(&self.tables.secrets, spec, instance);
            }
            Block::Configuration => {
                let spec = self.spec(component)?;
                let instance = self
                    .build(registry::configuration(), &spec, "configuration store")
                    .await?;
                put(&self.tables.configuration, spec, instance);
            }
            Block::Lock => {
                let spec = self.spec(component)?;
                let instance = self.build(registry::lock(), &spec, "lock store").await?;
                put(&self.tables.lock, spec, instance);
            }
            Block::Crypto => {
                let spec = self.spec(component)?;
                let instance = self.build(registry::crypto(), &spec, "crypto provider").await?;
                put(&self.tables.crypto, spec, instance);
            }
            Block::Conversation => {
                let spec = self.spec(component)?;
                let instance = self
                    .build(registry::conversation(), &spec, "conversation")
                    .await?;
                put(&self.tables.conversation, spec, instance);
            }
            Block::Middleware => {
                let spec = self.spec(component)?;
                let instance = self
                    .build(registry::middleware(), &spec, "HTTP middleware")
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

    async fn build<I: ?Sized>(
        &self,
        registrations: Vec<Registration<I>>,
        spec: &Spec,
        block: &str,
    ) -> Result<Arc<I>, Failure> {
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
        let failed = |error| Failure {
            kind: "INIT_COMPONENT_FAILURE",
            error,
        };
        (registration.validate)(spec)
            .map_err(failed)?
            .run(self.host.clone())
            .await
            .map_err(failed)
    }
}

fn put<T: Send + Sync + 'static>(table: &Components<T>, spec: Spec, instance: T) {
    let Spec {
        name,
        type_name,
        version,
        properties,
    } = spec;
    table.insert(Loaded {
        name,
        type_name,
        version,
        properties,
        instance,
    });
}

/// What the sidecar itself reads from a state store's file: key prefix and encryption keys, each key with the name
/// of the secret that it came from.
fn store_settings(component: &Component, spec: &Spec) -> Result<StoreSettings, Failure> {
    let failed = |error| Failure {
        kind: "CREATE_COMPONENT_FAILURE",
        error,
    };
    let mut settings = StoreSettings::from_properties(component.name(), &spec.properties)
        .map_err(|error| failed(Error::configuration(error.message().to_owned())))?;
    let key = |wanted: &str| -> Result<Option<NamedKey>, Failure> {
        let found =
            component.spec.metadata.iter().find(|pair| {
                pair.name == wanted && pair.value.is_set() && !pair.secret_key_ref.name.is_empty()
            });
        found
            .map(|pair| {
                NamedKey::from_hex(
                    pair.secret_key_ref.name.clone(),
                    &SecretString::from(pair.value.text()),
                )
            })
            .transpose()
            .map_err(failed)
    };
    if let Some(primary) = key("primaryEncryptionKey")? {
        settings.encryption = Some(EncryptionKeys {
            primary,
            secondary: key("secondaryEncryptionKey")?,
        });
        tracing::info!(
            target: "dapr.runtime.processor.state",
            "Automatic encryption enabled for state store {}",
            component.name()
        );
    }
    Ok(settings)
}

fn init_error(kind: &str, entity: &str, cause: &str) -> String {
    format!("[{kind}]: initialization error occurred for {entity}: {cause}")
}
