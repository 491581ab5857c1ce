//! What can be said about one app, by flags or by a run file (wire.md §18; upstream `standalone.RunConfig`).

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

/// What happens when a process ends by itself. Ours; upstream knows [`Restart::Never`] only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Restart {
    /// It stays down.
    #[default]
    Never,
    /// Started again when it failed.
    OnFailure,
    /// Started again.
    Always,
}

impl FromStr for Restart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            "on-failure" => Ok(Self::OnFailure),
            "always" => Ok(Self::Always),
            other => Err(format!(
                "invalid restart {other:?}: use always, on-failure or never"
            )),
        }
    }
}

/// Where the lines of a process go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogDestination {
    /// The terminal.
    Console,
    /// A file in the app's `.dapr/logs`.
    File,
    /// Both.
    FileAndConsole,
}

impl LogDestination {
    /// Whether the terminal gets the lines.
    pub(crate) fn console(self) -> bool {
        self != Self::File
    }

    /// Whether a file gets the lines.
    pub(crate) fn file(self) -> bool {
        self != Self::Console
    }
}

impl FromStr for LogDestination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "console" => Ok(Self::Console),
            "file" => Ok(Self::File),
            "fileAndConsole" => Ok(Self::FileAndConsole),
            other => Err(format!("invalid log destination type: {other}")),
        }
    }
}

/// What several apps of a run file may share. Empty texts, zero and `false` mean "not said", as upstream reads them.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Shared {
    pub(crate) config: Option<PathBuf>,
    pub(crate) app_protocol: String,
    pub(crate) api_listen_addresses: String,
    pub(crate) enable_profiling: bool,
    pub(crate) log_level: String,
    pub(crate) app_max_concurrency: i64,
    /// Empty switches the placement service off; without it there is none either, yet.
    pub(crate) placement_host_address: Option<String>,
    /// Empty switches the scheduler off; without it there is none either, yet.
    pub(crate) scheduler_host_address: Option<String>,
    pub(crate) resources_paths: Vec<PathBuf>,
    pub(crate) app_ssl: bool,
    pub(crate) max_body_size: String,
    pub(crate) read_buffer_size: String,
    pub(crate) enable_app_health_check: bool,
    pub(crate) app_health_check_path: String,
    /// Seconds.
    pub(crate) app_health_probe_interval: i64,
    /// Milliseconds.
    pub(crate) app_health_probe_timeout: i64,
    pub(crate) app_health_threshold: i64,
    pub(crate) enable_api_logging: bool,
    pub(crate) runtime_path: Option<PathBuf>,
    pub(crate) env: BTreeMap<String, String>,
    /// Variables of the sidecar alone; a Compose file has them.
    pub(crate) sidecar_env: BTreeMap<String, String>,
    pub(crate) daprd_log_destination: Option<LogDestination>,
    pub(crate) app_log_destination: Option<LogDestination>,
    pub(crate) restart: Option<Restart>,
}

/// Values of variables may be secrets.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .field("resources_paths", &self.resources_paths)
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}

/// Takes over what the app leaves unsaid.
fn inherit<T: Default + PartialEq + Clone>(own: &mut T, common: &T) {
    if *own == T::default() {
        own.clone_from(common);
    }
}

impl Shared {
    /// Fills what is not said from the common section (upstream `mergeCommonAndAppsSharedRunConfig`).
    pub(crate) fn inherit(&mut self, common: &Self) {
        inherit(&mut self.config, &common.config);
        inherit(&mut self.app_protocol, &common.app_protocol);
        inherit(&mut self.api_listen_addresses, &common.api_listen_addresses);
        inherit(&mut self.enable_profiling, &common.enable_profiling);
        inherit(&mut self.log_level, &common.log_level);
        inherit(&mut self.app_max_concurrency, &common.app_max_concurrency);
        inherit(&mut self.placement_host_address, &common.placement_host_address);
        inherit(&mut self.scheduler_host_address, &common.scheduler_host_address);
        inherit(&mut self.resources_paths, &common.resources_paths);
        inherit(&mut self.app_ssl, &common.app_ssl);
        inherit(&mut self.max_body_size, &common.max_body_size);
        inherit(&mut self.read_buffer_size, &common.read_buffer_size);
        inherit(&mut self.enable_app_health_check, &common.enable_app_health_check);
        inherit(&mut self.app_health_check_path, &common.app_health_check_path);
        inherit(
            &mut self.app_health_probe_interval,
            &common.app_health_probe_interval,
        );
        inherit(
            &mut self.app_health_probe_timeout,
            &common.app_health_probe_timeout,
        );
        inherit(&mut self.app_health_threshold, &common.app_health_threshold);
        inherit(&mut self.enable_api_logging, &common.enable_api_logging);
        inherit(&mut self.runtime_path, &common.runtime_path);
        inherit(&mut self.daprd_log_destination, &common.daprd_log_destination);
        inherit(&mut self.app_log_destination, &common.app_log_destination);
        inherit(&mut self.restart, &common.restart);
        for (name, value) in &common.env {
            self.env.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// The port an app listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum AppPort {
    /// The app listens on none.
    #[default]
    None,
    /// Any free one, told by `APP_PORT`. Ours: an explicit `appPort: 0`.
    Free,
    /// This one.
    Fixed(u16),
}

/// One app and how its sidecar runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct App {
    pub(crate) shared: Shared,
    /// Empty for a made-up one.
    pub(crate) app_id: String,
    /// Working folder; `None` for the command line's own.
    pub(crate) dir: Option<PathBuf>,
    pub(crate) command: Vec<String>,
    /// Empty for the default, `127.0.0.1`.
    pub(crate) app_channel_address: String,
    pub(crate) app_port: AppPort,
    /// `None` for a free one; so the next ones.
    pub(crate) http_port: Option<u16>,
    pub(crate) grpc_port: Option<u16>,
    pub(crate) internal_grpc_port: Option<u16>,
    pub(crate) metrics_port: Option<u16>,
    pub(crate) profile_port: Option<u16>,
    pub(crate) unix_domain_socket: Option<PathBuf>,
    /// How many times the app and its sidecar run; zero means once. Ours.
    pub(crate) instances: u16,
}

impl App {
    /// `APP_PROTOCOL`: what the app should speak; `None` for a word that is no protocol (upstream `getAppProtocol`).
    pub(crate) fn protocol_variable(&self) -> Option<&'static str> {
        match (
            self.shared.app_protocol.to_ascii_lowercase().as_str(),
            self.shared.app_ssl,
        ) {
            ("http" | "", true) | ("https", _) => Some("https"),
            ("http" | "", false) => Some("http"),
            ("grpc", true) | ("grpcs", _) => Some("grpcs"),
            ("grpc", false) => Some("grpc"),
            ("h2c", _) => Some("h2c"),
            _ => None,
        }
    }
}
