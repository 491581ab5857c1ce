//! What a sidecar is started with: the flags, environment and surroundings as values (wire.md §1).

use std::{path::PathBuf, time::Duration};

use outrigger_sidecar_app_channel::{HealthOptions, Protocol};
use outrigger_telemetry::logs::LogExport;
use outrigger_types::{AppId, Environment};

/// Smallest `--dapr-graceful-shutdown-seconds` that is not "for ever"; also what negative values mean.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);
/// `--max-body-size` when none is given: 4 MiB.
pub const DEFAULT_MAX_BODY_SIZE: u64 = 4 << 20;
/// `--read-buffer-size` when none is given: 4 KiB.
pub const DEFAULT_READ_BUFFER_SIZE: usize = 4 << 10;
/// `--hot-reload-reconcile-interval` when none is given (upstream `pkg/runtime/hotreload/reconciler`).
pub const DEFAULT_RECONCILE: Duration = Duration::from_secs(60);

/// `--mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// On a machine of its own.
    #[default]
    Standalone,
    /// In a Kubernetes pod.
    Kubernetes,
}

impl Mode {
    /// The name as the flag spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// How the app is reached; absent without `--app-port`.
#[derive(Debug, Clone)]
pub struct AppOptions {
    /// `--app-port`.
    pub port: u16,
    /// `--app-protocol`, with `--app-ssl` applied.
    pub protocol: Protocol,
    /// `--app-channel-address`.
    pub channel_address: String,
    /// `--app-max-concurrency`; `None` is unlimited.
    pub max_concurrency: Option<usize>,
    /// Health probes; `None` when `--enable-app-health-check` is off.
    pub health: Option<HealthOptions>,
}

/// `--enable-metrics` and its companions.
#[derive(Debug, Clone)]
pub struct MetricsListen {
    /// `--metrics-listen-address`.
    pub address: String,
    /// `--metrics-port`.
    pub port: u16,
}

/// Everything a sidecar is started with.
#[derive(Debug, Clone)]
pub struct SidecarOptions {
    /// `--app-id`.
    pub app_id: AppId,
    /// `--mode`.
    pub mode: Mode,
    /// The app.
    pub app: Option<AppOptions>,
    /// `--app-protocol` even without an app, for the metadata API.
    pub app_protocol: Protocol,
    /// `--app-channel-address` even without an app, for the metadata API.
    pub app_channel_address: String,
    /// `--dapr-http-port`.
    pub http_port: u16,
    /// `--dapr-grpc-port`.
    pub grpc_port: u16,
    /// `--dapr-internal-grpc-port`; 0 for the stable port of this app and folder.
    pub internal_grpc_port: u16,
    /// `--dapr-internal-grpc-listen-address`; empty for all.
    pub internal_grpc_listen_address: String,
    /// `--dapr-listen-addresses`; one listener each, an empty text for all.
    pub listen_addresses: Vec<String>,
    /// `--dapr-public-port`: health and metadata without a token.
    pub public_port: Option<u16>,
    /// `--dapr-public-listen-address`.
    pub public_listen_address: String,
    /// Where metrics are served; `None` when off.
    pub metrics: Option<MetricsListen>,
    /// `--enable-profiling` and `--profile-port`.
    pub profile_port: Option<u16>,
    /// `--resources-path`, or the deprecated `--components-path`.
    pub resources_paths: Vec<PathBuf>,
    /// `--config`, in order.
    pub config_paths: Vec<PathBuf>,
    /// `--allowed-origins`.
    pub allowed_origins: String,
    /// `--placement-host-address`; empty disables actors.
    pub placement_addresses: Vec<String>,
    /// `--scheduler-host-address` or `DAPR_SCHEDULER_HOST_ADDRESS_DNS_A`.
    pub scheduler_addresses: Vec<String>,
    /// `--max-body-size` in bytes.
    pub max_body_size: u64,
    /// `--read-buffer-size` in bytes.
    pub read_buffer_size: usize,
    /// `--unix-domain-socket`: a folder; replaces the TCP listeners of the public APIs.
    pub unix_domain_socket: Option<PathBuf>,
    /// `--dapr-graceful-shutdown-seconds`; `None` is for ever.
    pub graceful_shutdown: Option<Duration>,
    /// `--dapr-block-shutdown-duration`.
    pub block_shutdown: Option<Duration>,
    /// `--hot-reload-reconcile-interval`: how often resource files are read without a sign that they changed.
    pub hot_reload_reconcile: Duration,
    /// `--enable-api-logging`; `None` leaves it to the Configuration.
    pub api_logging: Option<bool>,
    /// `--disable-init-endpoints`: `config`.
    pub disable_config_endpoint: bool,
    /// `--disable-init-endpoints`: `subscribe`.
    pub disable_subscribe_endpoint: bool,
    /// The environment snapshot.
    pub environment: Environment,
    /// Relative paths start here; also part of the stable internal port.
    pub base_dir: PathBuf,
    /// Folder of the per-user registry of running sidecars (design §2); `None` leaves it off.
    pub registry_dir: Option<PathBuf>,
    /// The push of log lines, undecided until the Configuration is read; `None` where the program's log cannot be
    /// pushed. Of several sidecars in one process only one may have it.
    pub log_export: Option<LogExport>,
    /// Name of this machine, for mDNS and logs.
    pub hostname: String,
    /// User id, part of the stable internal port.
    pub user_id: u32,
}

impl SidecarOptions {
    /// Options with Dapr's defaults for an app of this id.
    #[must_use]
    pub fn new(app_id: AppId) -> Self {
        Self {
            app_id,
            mode: Mode::Standalone,
            app: None,
            app_protocol: Protocol::Http,
            app_channel_address: "127.0.0.1".to_owned(),
            http_port: 3500,
            grpc_port: 50001,
            internal_grpc_port: 0,
            internal_grpc_listen_address: String::new(),
            listen_addresses: vec![String::new()],
            public_port: None,
            public_listen_address: String::new(),
            metrics: None,
            profile_port: None,
            resources_paths: Vec::new(),
            config_paths: Vec::new(),
            allowed_origins: String::new(),
            placement_addresses: Vec::new(),
            scheduler_addresses: Vec::new(),
            max_body_size: DEFAULT_MAX_BODY_SIZE,
            read_buffer_size: DEFAULT_READ_BUFFER_SIZE,
            unix_domain_socket: None,
            graceful_shutdown: Some(DEFAULT_GRACE),
            block_shutdown: None,
            hot_reload_reconcile: DEFAULT_RECONCILE,
            api_logging: None,
            disable_config_endpoint: false,
            disable_subscribe_endpoint: false,
            environment: Environment::default(),
            base_dir: PathBuf::new(),
            registry_dir: None,
            log_export: None,
            hostname: "localhost".to_owned(),
            user_id: 0,
        }
    }

    /// `NAMESPACE`, if it is set: only then do namespaces of local resources matter.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.environment.non_empty("NAMESPACE")
    }
}
