//! The flags of `outrigger run`: those of `dapr run` (wire.md §18) and ours.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail};
use clap::{ArgAction, Args};
use outrigger_sidecar_app_channel::Protocol;

use super::settings::{App, AppPort, Restart, Shared};
use crate::{
    daprd,
    usage::{LOG_LEVELS, Usage},
};

const EXAMPLES: &str = "\
Examples:
  # An app that listens on port 3000, and its sidecar
  outrigger run --app-id orders --app-port 3000 -- node app.js

  # An app that only calls
  outrigger run --app-id cart -- python3 cart.py

  # Three of them, each on a free port it finds in APP_PORT, started again whenever one dies
  outrigger run --app-id tasks --app-port 0 --instances 3 --restart always -- ./tasks

  # In the background, for a script: it goes on when both are healthy
  outrigger run --detach --app-id orders --app-port 3000 -- node app.js

  # A sidecar alone, for an app under a debugger
  outrigger run --app-id orders --app-port 3000 --dapr-http-port 3500

  # All apps of a run file; of the dapr.yaml in a folder; from standard input
  outrigger run -f dapr.yaml
  outrigger run -f ./shop
  envsubst < template.yaml | outrigger run -f -

  # The app and sidecar pairs of a Compose file as processes, beside servers that run already
  outrigger run -f compose.yaml --external redis=127.0.0.1:6379

Environment:
  OUTRIGGER_DAPRD  path of the sidecar program to run instead of the one in this binary";

/// Run apps with their sidecars
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
#[allow(clippy::struct_excessive_bools)]
pub(crate) struct RunFlags {
    /// The id of the app, by which others call it; made up if not given
    #[arg(short = 'a', long, default_value = "")]
    pub(super) app_id: String,
    /// The port the app listens on; 0 for a free one, told to the app by APP_PORT
    #[arg(short = 'p', long, default_value_t = -1, allow_negative_numbers = true)]
    app_port: i64,
    /// The protocol the app speaks: http, https, h2c, grpc or grpcs
    #[arg(short = 'P', long, default_value = "http", value_parser = protocol)]
    app_protocol: String,
    /// The network address the app listens on
    #[arg(long, default_value = "127.0.0.1")]
    app_channel_address: String,
    /// Configuration file of the sidecar
    #[arg(short = 'c', long)]
    config: Option<PathBuf>,
    /// Folder of resource files; may be repeated
    #[arg(long, value_delimiter = ',', action = ArgAction::Append)]
    resources_path: Vec<PathBuf>,
    /// Deprecated: use --resources-path
    #[arg(short = 'd', long, hide = true)]
    components_path: Option<PathBuf>,
    /// Port of the sidecar's HTTP API; a free one if not given
    #[arg(short = 'H', long, default_value_t = -1, allow_negative_numbers = true)]
    dapr_http_port: i64,
    /// Port of the sidecar's gRPC API; a free one if not given
    #[arg(short = 'G', long, default_value_t = -1, allow_negative_numbers = true)]
    dapr_grpc_port: i64,
    /// Port between sidecars; a free one if not given
    #[arg(short = 'I', long, default_value_t = -1, allow_negative_numbers = true)]
    dapr_internal_grpc_port: i64,
    /// Port of the sidecar's metrics; a free one if not given
    #[arg(short = 'M', long, default_value_t = -1, allow_negative_numbers = true)]
    metrics_port: i64,
    /// Tell memory and threads of the sidecar on its profile port; no profiles in Go's format yet
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    enable_profiling: bool,
    /// Port of the profiles; a free one if not given
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    profile_port: i64,
    /// How much the sidecar logs
    #[arg(long, default_value = "info", value_parser = LOG_LEVELS, ignore_case = true)]
    log_level: String,
    /// How many requests may be with the app at a time; -1 for no limit
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    app_max_concurrency: i64,
    /// Address of the placement service, host or host:port; none if not given or empty
    #[arg(long)]
    placement_host_address: Option<String>,
    /// Address of the scheduler, host or host:port; none if not given or empty
    #[arg(long)]
    scheduler_host_address: Option<String>,
    /// Deprecated: use --app-protocol https or grpcs
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    app_ssl: bool,
    /// Largest request body, as 4Mi
    #[arg(long, default_value = "4Mi", allow_hyphen_values = true, value_parser = quantity)]
    max_body_size: String,
    /// Largest request head, as 4Ki
    #[arg(long, default_value = "4Ki", allow_hyphen_values = true, value_parser = quantity)]
    read_buffer_size: String,
    /// Folder for Unix domain sockets that replace the sidecar's ports
    #[arg(short = 'u', long)]
    unix_domain_socket: Option<PathBuf>,
    /// Probe the app's health, by its protocol
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    enable_app_health_check: bool,
    /// Path of the probes, for HTTP
    #[arg(long, default_value = "")]
    app_health_check_path: String,
    /// Seconds between probes
    #[arg(long, default_value_t = 0)]
    app_health_probe_interval: i64,
    /// Milliseconds a probe may take
    #[arg(long, default_value_t = 0)]
    app_health_probe_timeout: i64,
    /// Failed probes in a row that make the app unhealthy
    #[arg(long, default_value_t = 0)]
    app_health_threshold: i64,
    /// Log each API call
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    enable_api_logging: bool,
    /// Listen addresses of the sidecar's APIs, separated by commas
    #[arg(long, default_value = "")]
    dapr_listen_addresses: String,
    /// Run file, a folder with a dapr.yaml, a Compose file, or - for standard input
    #[arg(short = 'f', long)]
    pub(super) run_file: Option<PathBuf>,
    /// Where a service of the Compose file is that is not started: NAME=HOST:PORT; may be repeated
    #[arg(long, value_name = "NAME=HOST:PORT", action = ArgAction::Append)]
    pub(super) external: Vec<String>,
    /// Run in Kubernetes
    #[arg(short = 'k', long, hide = true)]
    pub(super) kubernetes: bool,
    /// What to do when the app or its sidecar ends by itself: always, on-failure or never start it again
    #[arg(long, default_value = "never")]
    restart: Restart,
    /// How many times to run the app with its sidecar
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    instances: u16,
    /// Run in the background; leave with 0 as soon as app and sidecar are healthy, otherwise end both and fail
    #[arg(long)]
    pub(super) detach: bool,
    /// With --detach: how many seconds they may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "detach", value_parser = clap::value_parser!(u64).range(1..=3600))]
    wait_timeout: u64,
    /// The app's command
    // Whatever follows its first word is the app's. The word itself may begin with a dash only behind `--`: a mistyped
    // flag of ours must not become a program to start.
    #[arg(trailing_var_arg = true)]
    command: Vec<String>,
}

impl RunFlags {
    /// How long a run in the background may take to become healthy.
    pub(super) fn wait_timeout(&self) -> Duration {
        Duration::from_secs(self.wait_timeout)
    }

    /// Flags that a run file replaces and that were given all the same, by their names.
    pub(super) fn beside_run_file(&self) -> Vec<&'static str> {
        let given = [
            ("app-id", !self.app_id.is_empty()),
            ("app-port", self.app_port != -1),
            ("app-protocol", self.app_protocol != "http"),
            ("config", self.config.is_some()),
            ("resources-path", !self.resources_path.is_empty()),
            ("components-path", self.components_path.is_some()),
            ("dapr-http-port", self.dapr_http_port != -1),
            ("dapr-grpc-port", self.dapr_grpc_port != -1),
            ("dapr-internal-grpc-port", self.dapr_internal_grpc_port != -1),
            ("metrics-port", self.metrics_port != -1),
            ("profile-port", self.profile_port != -1),
            ("enable-profiling", self.enable_profiling),
            ("log-level", self.log_level != "info"),
            ("app-max-concurrency", self.app_max_concurrency != -1),
            ("placement-host-address", self.placement_host_address.is_some()),
            ("scheduler-host-address", self.scheduler_host_address.is_some()),
            ("app-ssl", self.app_ssl),
            ("max-body-size", self.max_body_size != "4Mi"),
            ("read-buffer-size", self.read_buffer_size != "4Ki"),
            ("unix-domain-socket", self.unix_domain_socket.is_some()),
            ("enable-app-health-check", self.enable_app_health_check),
            ("app-health-check-path", !self.app_health_check_path.is_empty()),
            ("app-health-probe-interval", self.app_health_probe_interval != 0),
            ("app-health-probe-timeout", self.app_health_probe_timeout != 0),
            ("app-health-threshold", self.app_health_threshold != 0),
            ("enable-api-logging", self.enable_api_logging),
            ("dapr-listen-addresses", !self.dapr_listen_addresses.is_empty()),
            ("app-channel-address", self.app_channel_address != "127.0.0.1"),
            ("restart", self.restart != Restart::Never),
            ("instances", self.instances != 1),
        ];
        given
            .into_iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| name)
            .collect()
    }

    /// The one app the flags speak of. Relative paths get the working folder.
    pub(super) fn into_app(self, runtime_path: Option<&Path>, working_dir: &Path) -> Result<App> {
        let absolute = |path: PathBuf| working_dir.join(path);
        if let Some(config) = self
            .config
            .as_ref()
            .filter(|path| !absolute((*path).clone()).is_file())
        {
            bail!("the configuration file {} does not exist", config.display());
        }
        let mut resources_paths: Vec<PathBuf> = self.resources_path.into_iter().map(absolute).collect();
        if resources_paths.is_empty() {
            resources_paths.extend(self.components_path.map(absolute));
        }
        Ok(App {
            shared: Shared {
                config: self.config.map(absolute),
                app_protocol: self.app_protocol,
                api_listen_addresses: self.dapr_listen_addresses,
                enable_profiling: self.enable_profiling,
                log_level: self.log_level,
                app_max_concurrency: self.app_max_concurrency,
                placement_host_address: self.placement_host_address,
                scheduler_host_address: self.scheduler_host_address,
                resources_paths,
                app_ssl: self.app_ssl,
                max_body_size: self.max_body_size,
                read_buffer_size: self.read_buffer_size,
                enable_app_health_check: self.enable_app_health_check,
                app_health_check_path: self.app_health_check_path,
                app_health_probe_interval: self.app_health_probe_interval,
                app_health_probe_timeout: self.app_health_probe_timeout,
                app_health_threshold: self.app_health_threshold,
                enable_api_logging: self.enable_api_logging,
                runtime_path: runtime_path.map(Path::to_owned),
                restart: Some(self.restart),
                ..Shared::default()
            },
            app_id: self.app_id,
            dir: None,
            command: self.command,
            app_channel_address: self.app_channel_address,
            app_port: match self.app_port {
                0 => AppPort::Free,
                number => port("app-port", number)?.map_or(AppPort::None, AppPort::Fixed),
            },
            http_port: port("dapr-http-port", self.dapr_http_port)?,
            grpc_port: port("dapr-grpc-port", self.dapr_grpc_port)?,
            internal_grpc_port: port("dapr-internal-grpc-port", self.dapr_internal_grpc_port)?,
            metrics_port: port("metrics-port", self.metrics_port)?,
            profile_port: port("profile-port", self.profile_port)?,
            unix_domain_socket: self.unix_domain_socket.map(absolute),
            instances: self.instances,
        })
    }
}

/// Zero and negative ports mean a free one.
fn port(flag: &str, number: i64) -> Result<Option<u16>> {
    if number <= 0 {
        return Ok(None);
    }
    u16::try_from(number)
        .map(Some)
        .map_err(|_| Usage::new(format!("--{flag} {number} is no port")).into())
}

/// A protocol that the sidecar takes, kept as it was written.
fn protocol(text: &str) -> Result<String, String> {
    text.parse::<Protocol>().map(|_| text.to_owned())
}

/// As above, for sizes.
fn quantity(text: &str) -> Result<String, String> {
    daprd::bytes_of(text).map(|_| text.to_owned())
}
