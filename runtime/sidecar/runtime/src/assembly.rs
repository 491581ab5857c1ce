//! Building one instance of a sidecar from its options: telemetry, services, endpoints.

use std::{io, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures::future::BoxFuture;
use jiff::Timestamp;
use outrigger_component::Host;
use outrigger_components::pluggable::{DEFAULT_FOLDER, FOLDER_VARIABLE};
use outrigger_middleware::Pipeline;
use outrigger_name_resolution::SharedResolver;
use outrigger_resources::{
    Resources,
    api_rules::HttpApiRules,
    configuration::{Configuration, ConfigurationError},
    references::ReferenceOptions,
    templates::Templates,
    watch::DirectoryWatch,
};
use outrigger_sidecar_api::{ApiError, Endpoint};
use outrigger_sidecar_app_channel::{AppChannel, AppChannelOptions, AppHealth};
use outrigger_sidecar_blocks::{
    AppState, BindingsService, BindingsServiceOptions, ConfigurationService, ConfigurationServiceOptions,
    ConversationService, ConversationServiceOptions, CryptoService, CryptoServiceOptions, InputBindings,
    InputBindingsOptions, LockService, LockServiceOptions, SUBTLE_CRYPTO, SecretsService,
    SecretsServiceOptions,
};
use outrigger_sidecar_grpc::{
    GrpcOptions, GrpcServer, JobScope, TaskHub,
    absent::{self, AbsentActors, AbsentJobs, AbsentTaskHub, AbsentWorkflows, ActorStreams},
};
use outrigger_sidecar_http::{Cors, HttpService, HttpServiceOptions, TracingLayer};
use outrigger_sidecar_invocation::{Forwarded, HttpEndpoints, InvocationOptions, InvocationService};
use outrigger_sidecar_pubsub::{OutboxOptions, PubsubOptions, PubsubOutbox, PubsubService};
use outrigger_sidecar_resilience::ResilienceProvider;
use outrigger_sidecar_state::{Outbox, StateService, StateServiceOptions};
use outrigger_telemetry::{Metrics, Tracer, audit::Audit, trace::Sampler};
use outrigger_types::Namespace;
use outrigger_wire::dapr::proto::runtime::v1::SaveStateRequest;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    audit,
    components::{ComponentLoader, Progress, Tables},
    control::Control,
    dependents::Dependents,
    documents,
    health::{HealthApi, Readiness},
    host,
    inventory::RunningInventory,
    local_time,
    mcp::McpServers,
    metadata::MetadataApi,
    options::SidecarOptions,
    pipelines::Pipelines,
    pushes::{PushError, Pushes},
    resolution, telemetry,
};

/// Why a sidecar could not be started. Texts are upstream's where it has them.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    /// The Configuration.
    #[error("error loading configuration: {0}")]
    Configuration(#[from] ConfigurationError),
    /// Access control.
    #[error("{0}")]
    AccessControl(String),
    /// An address.
    #[error("could not listen for {what} on {address}: {source}")]
    Listen {
        /// For what.
        what: &'static str,
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// Tracing.
    #[error("failed to setup tracing: {0}")]
    Tracing(#[from] outrigger_telemetry::export::ExporterError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] outrigger_telemetry::audit::AuditError),
    /// The push of metrics or logs.
    #[error("failed to set up the push of metrics or logs: {0}")]
    Push(#[from] PushError),
    /// The app's address or token.
    #[error("failed to create app channel: {0}")]
    App(#[from] http::Error),
}

/// What an instance shares with those before and after it.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    /// The port of the internal API.
    pub(crate) internal_port: u16,
    /// Asks for the orderly end of the sidecar.
    pub(crate) stop: CancellationToken,
    /// Asks for its end at once.
    pub(crate) force: CancellationToken,
}

/// One instance of a sidecar in parts, ready to live.
pub(crate) struct Assembly {
    pub(crate) options: SidecarOptions,
    pub(crate) configuration: Configuration,
    pub(crate) resources: Resources,
    pub(crate) metrics: Metrics,
    pub(crate) tracer: Tracer,
    pub(crate) pushes: Pushes,
    pub(crate) audit: Audit,
    pub(crate) inbound: Arc<Readiness>,
    pub(crate) outbound: Arc<Readiness>,
    pub(crate) loader: Arc<ComponentLoader>,
    pub(crate) app: Option<AppChannel>,
    pub(crate) app_slot: Arc<ArcSwapOption<AppChannel>>,
    pub(crate) app_health: watch::Sender<AppHealth>,
    pub(crate) pipelines: Arc<Pipelines>,
    pub(crate) mcp_servers: Arc<McpServers>,
    pub(crate) resilience: Arc<ArcSwap<ResilienceProvider>>,
    pub(crate) resiliencies: Arc<ArcSwap<Vec<String>>>,
    pub(crate) pubsub: Arc<PubsubService>,
    pub(crate) outbox: Arc<PubsubOutbox>,
    pub(crate) inputs: Arc<InputBindings>,
    pub(crate) configuration_api: Arc<ConfigurationService>,
    pub(crate) invocation: Arc<InvocationService>,
    pub(crate) http_endpoints: HttpEndpoints,
    pub(crate) resolver: Option<SharedResolver>,
    /// Whether the resolver came from the instance before, which has registered with it.
    pub(crate) is_resolver_inherited: bool,
    pub(crate) http: HttpService,
    pub(crate) public_http: HttpService,
    pub(crate) grpc: GrpcServer,
    /// Notices changes of resource files from before they were read; empty without hot reload.
    pub(crate) watch: parking_lot::Mutex<Option<DirectoryWatch>>,
    /// This instance ends, by the sidecar's end or because another one has taken its place.
    pub(crate) ending: CancellationToken,
}

impl std::fmt::Debug for Assembly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assembly")
            .field("app_id", &self.options.app_id)
            .finish_non_exhaustive()
    }
}

impl Assembly {
    #[allow(
        clippy::too_many_lines,
        reason = "one list of parts, in the order in which they need one another"
    )]
    pub(crate) async fn build(
        options: SidecarOptions,
        common: Common,
        before: Option<&Self>,
    ) -> Result<Self, AssemblyError> {
        let mut configuration = documents::load_configuration(&options)?;
        let watch = documents::watch(&options, &configuration);
        let metrics = match before {
            // What was counted goes on where nothing else is asked for.
            Some(before) if before.configuration.metric() == configuration.metric() => before.metrics.clone(),
            _ => telemetry::metrics(&options, &configuration).unwrap_or_else(|error| {
                // Upstream logs it and goes on without.
                tracing::error!(target: "dapr.runtime", "[INIT_FAILURE]: initialization error occurred for metrics: {error}");
                Metrics::disabled()
            }),
        };
        let tracing_spec = configuration.spec.tracing.get_or_insert_default();
        if let Err(error) = tracing_spec.complete_from(&options.environment) {
            tracing::error!(target: "dapr.runtime", "error setting tracing spec from env: {error}");
        }
        let tracer = telemetry::tracer(&options, tracing_spec, &metrics)?;
        if let Some(sampler) = tracer.sampler() {
            tracing::info!(target: "dapr.runtime", "Dapr trace sampler initialized: {sampler}");
        }
        // Upstream's middleware is there unless the rate is zero, also where nothing is exported: then it only passes
        // the caller's context on.
        let api_traced = Sampler::parse(&tracing_spec.sampling_rate).is_enabled();
        let pushes = Pushes::start(&options, &configuration, &metrics)?;
        let resources = documents::load_resources(&options);

        let Common {
            internal_port,
            stop,
            force,
        } = common;
        let ending = stop.child_token();
        let host_ip = host::address(&options.environment);
        let namespace = Namespace::from(options.namespace().unwrap_or("default"));

        let audit = audit::open(&options, &configuration, before)?;
        let tables = Tables {
            audit: audit.clone(),
            ..Tables::default()
        };
        let resilience = Arc::new(ArcSwap::from_pointee(documents::load_policies(
            &options, &resources, &metrics,
        )));
        let app_pipeline = Arc::new(Pipeline::default());
        let http_pipeline = Arc::new(Pipeline::default());
        let pipelines = Arc::new(Pipelines::new(
            &configuration,
            Arc::clone(&tables.middleware),
            Arc::clone(&http_pipeline),
            Arc::clone(&app_pipeline),
        ));
        let inbound = Arc::new(Readiness::default());
        let outbound = Arc::new(Readiness::default());
        inbound.expect("runtime");
        outbound.expect("app");

        let app_slot = Arc::new(ArcSwapOption::empty());
        let watched = options.app.as_ref().is_some_and(|app| app.health.is_some());
        let (app_health, app_health_seen) = watch::channel(if watched {
            AppHealth::Unknown
        } else {
            AppHealth::Healthy
        });
        let app = match &options.app {
            None => None,
            Some(app) => Some(AppChannel::new(
                AppChannelOptions {
                    address: app.channel_address.clone(),
                    port: app.port,
                    protocol: app.protocol,
                    max_concurrency: app.max_concurrency,
                    api_token: options.environment.non_empty("APP_API_TOKEN").map(Into::into),
                    read_buffer_size: options.read_buffer_size,
                    pipeline: Arc::clone(&app_pipeline),
                    metrics: metrics.clone(),
                },
                app_health_seen,
            )?),
        };
        app_slot.store(app.clone().map(Arc::new));

        let pubsub = Arc::new(PubsubService::new(PubsubOptions {
            app_id: options.app_id.clone(),
            namespace: options.namespace().map(str::to_owned),
            components: Arc::clone(&tables.pubsub),
            resilience: Arc::clone(&resilience),
            audit: audit.clone(),
            metrics: metrics.clone(),
            tracer: tracer.clone(),
            app: Arc::clone(&app_slot),
            ask_app: !options.disable_subscribe_endpoint,
            clock: Arc::new(Timestamp::now),
            zone: local_time::zone(),
        }));
        let outbox = Arc::new(PubsubOutbox::new(
            &pubsub,
            OutboxOptions {
                stores: Arc::clone(&tables.state),
            },
        ));
        let state = Arc::new(StateService::new(StateServiceOptions {
            app_id: options.app_id.clone(),
            namespace: options.namespace().map(str::to_owned),
            stores: Arc::clone(&tables.state),
            resilience: Arc::clone(&resilience),
            metrics: metrics.clone(),
            outbox: Some(Arc::clone(&outbox) as Arc<dyn Outbox>),
        }));
        let secrets = Arc::new(SecretsService::new(SecretsServiceOptions {
            stores: Arc::clone(&tables.secrets),
            scopes: configuration
                .spec
                .secrets
                .as_ref()
                .map(|secrets| secrets.scopes.clone())
                .unwrap_or_default(),
            resilience: Arc::clone(&resilience),
            metrics: metrics.clone(),
            audit: audit.clone(),
        }));
        let configuration_api = Arc::new(ConfigurationService::new(ConfigurationServiceOptions {
            stores: Arc::clone(&tables.configuration),
            app: app.clone(),
            resilience: Arc::clone(&resilience),
            metrics: metrics.clone(),
        }));
        let lock = Arc::new(LockService::new(LockServiceOptions {
            app_id: options.app_id.clone(),
            stores: Arc::clone(&tables.lock),
            resilience: Arc::clone(&resilience),
        }));
        let crypto = Arc::new(CryptoService::new(CryptoServiceOptions {
            providers: Arc::clone(&tables.crypto),
            resilience: Arc::clone(&resilience),
            metrics: metrics.clone(),
            subtle: configuration.features([]).enabled(SUBTLE_CRYPTO),
        }));
        let bindings = Arc::new(BindingsService::new(BindingsServiceOptions {
            bindings: Arc::clone(&tables.bindings),
            resilience: Arc::clone(&resilience),
            metrics: metrics.clone(),
        }));
        let conversation = Arc::new(ConversationService::new(ConversationServiceOptions {
            models: Arc::clone(&tables.conversation),
            resilience: Arc::clone(&resilience),
            metrics: metrics.clone(),
        }));
        let inputs = Arc::new(InputBindings::new(InputBindingsOptions {
            app: app.clone(),
            bindings: Arc::clone(&tables.bindings),
            resilience: Arc::clone(&resilience),
            metrics: metrics.clone(),
            tracer: tracer.clone(),
            state: Some(Arc::new(SavedByBindings(Arc::clone(&state)))),
            max_answer: usize::try_from(options.max_body_size).unwrap_or(usize::MAX),
            outputs: Arc::clone(&bindings),
        }));

        let inherited = before
            .filter(|before| before.configuration.spec.name_resolution == configuration.spec.name_resolution)
            .and_then(|before| before.resolver.clone());
        let is_resolver_inherited = inherited.is_some();
        let resolver = match inherited {
            Some(resolver) => Some(resolver),
            None => resolution::resolver(&options, &configuration)
                .await
                .inspect_err(|error| tracing::error!(target: "dapr.runtime", "{error}"))
                .ok(),
        };
        let access_control = documents::access_control(&options, &configuration)?;
        let http_endpoints = HttpEndpoints::default();
        let mut invocation = InvocationOptions::new(options.app_id.clone(), namespace.clone());
        invocation.internal_port = internal_port;
        invocation.forwarded = Forwarded::new(&host_ip.to_string(), &options.hostname);
        invocation.resolver.clone_from(&resolver);
        invocation.app = Arc::clone(&app_slot);
        invocation.resilience = ResilienceProvider::clone(&resilience.load());
        invocation.http_endpoints = http_endpoints.clone();
        invocation.app_pipeline = Arc::clone(&app_pipeline);
        invocation.access_control = access_control.map(Arc::new);
        invocation.max_body_size = usize::try_from(options.max_body_size).unwrap_or(usize::MAX);
        invocation.audit = audit.clone();
        invocation.metrics = metrics.clone();
        invocation.tracer = tracer.clone();
        let invocation = InvocationService::new(invocation);

        let loader = Arc::new(ComponentLoader {
            tables: tables.clone(),
            host: Host {
                app_id: options.app_id.clone(),
                namespace,
                environment: options.environment.clone(),
                base_dir: options.base_dir.clone(),
            },
            references: ReferenceOptions {
                environment: options.environment.clone(),
                kubernetes: false,
            },
            templates: Templates {
                app_id: options.app_id.to_string(),
                namespace: options.namespace().unwrap_or_default().to_owned(),
                pod_name: options.environment.get("POD_NAME").unwrap_or_default().to_owned(),
            },
            state: Arc::clone(&state),
            metrics: metrics.clone(),
            progress: Progress::new(Arc::clone(&inbound)),
            dependents: Dependents {
                pubsub: Arc::clone(&pubsub),
                outbox: Arc::clone(&outbox),
                inputs: Arc::clone(&inputs),
                configuration: Arc::clone(&configuration_api),
                pipelines: Arc::clone(&pipelines),
            },
            sockets: options
                .environment
                .non_empty(FOLDER_VARIABLE)
                .unwrap_or(DEFAULT_FOLDER)
                .into(),
            pluggable: OnceCell::new(),
            new_id: || uuid::Uuid::new_v4().to_string(),
        });

        let mcp_servers = Arc::new(McpServers::default());
        let resiliencies = Arc::new(ArcSwap::from_pointee(documents::names(&resources.resiliencies)));
        let inventory = Arc::new(RunningInventory {
            tables: tables.clone(),
            pubsub: Arc::clone(&pubsub),
            http_endpoints: http_endpoints.clone(),
            resiliencies: Arc::clone(&resiliencies),
            mcp_servers: Arc::clone(&mcp_servers),
            features: configuration.features([]).iter().map(str::to_owned).collect(),
            actors_enabled: !options.placement_addresses.is_empty(),
        });
        let metadata = Arc::new(MetadataApi::new(options.clone(), inventory));
        let health = Arc::new(HealthApi::new(
            options.app_id.clone(),
            Arc::clone(&inbound),
            Arc::clone(&outbound),
        ));
        let control = Arc::new(Control::new(Arc::clone(&metadata), stop, force));

        let job_scope = JobScope {
            app_id: options.app_id.clone(),
            namespace: Namespace::from(options.namespace().unwrap_or("default")),
        };
        let api_log = documents::api_log(&options, &configuration);
        let token = options.environment.non_empty("DAPR_API_TOKEN");
        let mut endpoints: Vec<Endpoint> = Vec::new();
        endpoints.extend(state.endpoints());
        endpoints.extend(pubsub.endpoints());
        endpoints.extend(secrets.endpoints());
        endpoints.extend(configuration_api.endpoints());
        endpoints.extend(lock.endpoints());
        endpoints.extend(crypto.endpoints());
        endpoints.extend(bindings.endpoints());
        endpoints.extend(conversation.endpoints());
        endpoints.extend(invocation.endpoints());
        endpoints.extend(metadata.endpoints());
        endpoints.extend(health.endpoints());
        endpoints.extend(control.endpoints());
        endpoints.extend(absent::endpoints(&job_scope));
        let public: Vec<Endpoint> = endpoints
            .iter()
            .filter(|endpoint| endpoint.public)
            .cloned()
            .collect();
        if let Some(rules) = configuration.spec.api.as_ref().map(HttpApiRules::new) {
            endpoints.retain(|endpoint| {
                endpoint.always_allowed
                    || rules.allows(
                        Some((endpoint.group.name, endpoint.group.version)),
                        endpoint.version,
                        endpoint.route,
                    )
            });
        }
        let tracing_layer = api_traced.then(|| TracingLayer::new(tracer.clone()));
        let http = HttpService::new(
            endpoints,
            HttpServiceOptions {
                max_body_size: (options.max_body_size > 0).then_some(options.max_body_size),
                api_token: token.map(Into::into),
                audit: audit.clone(),
                cors: Cors::parse(&options.allowed_origins),
                pipeline: Arc::clone(&http_pipeline),
                api_log,
                metrics: metrics.clone(),
                tracing: tracing_layer.clone(),
            },
        );
        let public_http = HttpService::new(
            public,
            HttpServiceOptions {
                metrics: metrics.clone(),
                tracing: tracing_layer,
                ..HttpServiceOptions::default()
            },
        );
        let actor_streams = match &app {
            Some(app) if app.protocol().is_http() => ActorStreams::Refused,
            _ => ActorStreams::Accepted,
        };
        let grpc = GrpcServer::new(GrpcOptions {
            app_id: options.app_id.clone(),
            state: Arc::clone(&state),
            pubsub: Arc::clone(&pubsub),
            secrets,
            configuration: Arc::clone(&configuration_api),
            lock,
            crypto,
            bindings,
            conversation,
            invocation: Arc::clone(&invocation),
            control,
            actors: Arc::new(AbsentActors::new(actor_streams, ending.clone())),
            workflows: Arc::new(AbsentWorkflows),
            jobs: Arc::new(AbsentJobs::new(job_scope)),
            task_hub: TaskHub::new(AbsentTaskHub),
            api_token: token.map(Into::into),
            audit: audit.clone(),
            api_rules: outrigger_sidecar_grpc::api_rules(&configuration.spec.api.clone().unwrap_or_default()),
            api_log: api_log.is_some(),
            metrics: metrics.clone(),
            tracer: api_traced.then(|| tracer.clone()),
            max_body_size: if options.max_body_size == 0 {
                u64::MAX
            } else {
                options.max_body_size
            },
            read_buffer_size: options.read_buffer_size,
        });
        Ok(Self {
            options,
            configuration,
            resources,
            metrics,
            tracer,
            pushes,
            audit,
            inbound,
            outbound,
            loader,
            app,
            app_slot,
            app_health,
            pipelines,
            mcp_servers,
            resilience,
            resiliencies,
            pubsub,
            outbox,
            inputs,
            configuration_api,
            invocation,
            http_endpoints,
            resolver,
            is_resolver_inherited,
            http,
            public_http,
            grpc,
            watch: parking_lot::Mutex::new(watch),
            ending,
        })
    }
}

/// The state block, as input bindings save what an app's answer stores.
#[derive(Debug)]
struct SavedByBindings(Arc<StateService>);

impl AppState for SavedByBindings {
    fn save(&self, request: SaveStateRequest) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(self.0.grpc_save(request))
    }
}
