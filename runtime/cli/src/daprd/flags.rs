//! The command line of `daprd` (wire.md §1; upstream `cmd/daprd/options`).

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Parser};
use outrigger_types::duration::GoDuration;

use super::quantity;

/// Flags take one or two dashes. Switches take an optional value: `--enable-mtls` and `--enable-mtls=true` are one.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "daprd",
    about = "The Outrigger sidecar: a drop-in daprd",
    disable_version_flag = true,
    disable_help_subcommand = true,
    // The last of a repeated flag counts, as with upstream's flag parser; lists still grow.
    args_override_self = true,
    after_help = "Examples:\n  daprd --app-id orders --app-port 8080 --resources-path ./resources\n  daprd --app-id orders --app-port 8080 --app-protocol grpc --dapr-http-port 3500 --dapr-grpc-port 50001"
)]
#[allow(clippy::struct_excessive_bools)]
pub(super) struct DaprdFlags {
    /// Runtime mode: standalone or kubernetes
    #[arg(long, default_value = "standalone")]
    pub mode: String,
    /// A unique id for the app, used for service discovery and state
    #[arg(long, default_value = "")]
    pub app_id: String,
    /// The port the app listens on
    #[arg(long, default_value = "")]
    pub app_port: String,
    /// Protocol of the app: http, https, h2c, grpc or grpcs
    #[arg(long, default_value = "http")]
    pub app_protocol: String,
    /// The network address the app listens on
    #[arg(long, default_value = "127.0.0.1")]
    pub app_channel_address: String,
    /// How many requests may be with the app at a time; -1 for no limit
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    pub app_max_concurrency: i64,
    /// Deprecated: use --app-protocol https or grpcs
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set, value_parser = switch)]
    pub app_ssl: bool,
    /// Port of the public HTTP API
    #[arg(long, default_value = "3500")]
    pub dapr_http_port: String,
    /// Port of the public gRPC API
    #[arg(long, default_value = "50001")]
    pub dapr_grpc_port: String,
    /// Port of the internal gRPC API; by default one that stays the same for this app and folder
    #[arg(long, default_value = "")]
    pub dapr_internal_grpc_port: String,
    /// Listen address of the internal gRPC API
    #[arg(long, default_value = "")]
    pub dapr_internal_grpc_listen_address: String,
    /// Listen addresses of the public APIs, separated by commas
    #[arg(long, default_value = "")]
    pub dapr_listen_addresses: String,
    /// Port that serves health and metadata only
    #[arg(long, default_value = "")]
    pub dapr_public_port: String,
    /// Listen address of that port
    #[arg(long, default_value = "")]
    pub dapr_public_listen_address: String,
    /// Folder of resource files; may be repeated
    #[arg(long, value_delimiter = ',', action = ArgAction::Append)]
    pub resources_path: Vec<PathBuf>,
    /// Deprecated alias of --resources-path
    #[arg(long, hide = true, default_value = "")]
    pub components_path: String,
    /// Configuration file; may be repeated, later ones win
    #[arg(long, value_delimiter = ',', action = ArgAction::Append)]
    pub config: Vec<String>,
    /// Allowed HTTP origins, separated by commas; `*` for any, empty for no cross-origin rules
    #[arg(long, default_value = "")]
    pub allowed_origins: String,
    /// Addresses of the placement service; empty switches actors off
    #[arg(long, default_value = "")]
    pub placement_host_address: String,
    /// Addresses of the scheduler service
    #[arg(long, value_delimiter = ',', action = ArgAction::Append)]
    pub scheduler_host_address: Vec<String>,
    /// Number of job streams to the scheduler; no effect yet
    #[arg(long, default_value_t = 3)]
    pub scheduler_job_streams: u32,
    /// Longest time of one round of actor table dissemination; no effect yet
    #[arg(long, default_value = "30s", value_parser = go_duration)]
    pub actors_disseminate_timeout: GoDuration,
    /// Period of the backup look at resources; zero for 60s
    #[arg(long, default_value = "0", value_parser = go_duration)]
    pub hot_reload_reconcile_interval: GoDuration,
    /// Address of the control plane's operator (Kubernetes)
    #[arg(long, default_value = "")]
    pub control_plane_address: String,
    /// Trust domain of the control plane; no effect yet
    #[arg(long)]
    pub control_plane_trust_domain: Option<String>,
    /// Namespace of the control plane; no effect yet
    #[arg(long)]
    pub control_plane_namespace: Option<String>,
    /// Address of the sentry service; no effect yet
    #[arg(long, default_value = "")]
    pub sentry_address: String,
    /// Audiences asked for in JWT identities; no effect yet
    #[arg(long, value_delimiter = ',', action = ArgAction::Append)]
    pub sentry_request_jwt_audiences: Vec<String>,
    /// mTLS between sidecars
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set, value_parser = switch)]
    pub enable_mtls: bool,
    /// Leave out the built-in Kubernetes secret store (Kubernetes)
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set, value_parser = switch)]
    pub disable_builtin_k8s_secret_store: bool,
    /// Largest request body, as a quantity such as 4Mi
    #[arg(long, allow_hyphen_values = true)]
    pub max_body_size: Option<String>,
    /// Deprecated: use --max-body-size (megabytes)
    #[arg(long, hide = true, allow_negative_numbers = true)]
    pub dapr_http_max_request_size: Option<i64>,
    /// Largest request header, as a quantity such as 4Ki
    #[arg(long, allow_hyphen_values = true)]
    pub read_buffer_size: Option<String>,
    /// Deprecated: use --read-buffer-size (kilobytes)
    #[arg(long, hide = true, allow_negative_numbers = true)]
    pub dapr_http_read_buffer_size: Option<i64>,
    /// Folder for Unix sockets that replace the TCP listeners of the public APIs
    #[arg(long, default_value = "")]
    pub unix_domain_socket: String,
    /// Longest graceful shutdown in seconds; 0 for no limit
    #[arg(long, default_value_t = 5, allow_negative_numbers = true)]
    pub dapr_graceful_shutdown_seconds: i64,
    /// Keep serving for this long after the signal to stop, or until the app reports unhealthy
    #[arg(long, value_parser = go_duration)]
    pub dapr_block_shutdown_duration: Option<GoDuration>,
    /// Log API calls
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = switch)]
    pub enable_api_logging: Option<bool>,
    /// Probe the app's health
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set, value_parser = switch)]
    pub enable_app_health_check: bool,
    /// Path of the health probe (HTTP apps)
    #[arg(long, default_value = "/healthz")]
    pub app_health_check_path: String,
    /// Seconds between health probes
    #[arg(long, default_value_t = 5, allow_negative_numbers = true)]
    pub app_health_probe_interval: i64,
    /// Milliseconds a health probe may take
    #[arg(long, default_value_t = 500, allow_negative_numbers = true)]
    pub app_health_probe_timeout: i64,
    /// Failed probes in a row that make the app unhealthy
    #[arg(long, default_value_t = 3, allow_negative_numbers = true)]
    pub app_health_threshold: i64,
    /// Initialization endpoints of the app not to call: config, subscribe
    #[arg(long, value_delimiter = ',', action = ArgAction::Append)]
    pub disable_init_endpoints: Vec<String>,
    /// Serve metrics
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set, value_parser = switch)]
    pub enable_metrics: bool,
    /// Port of the metrics server
    #[arg(long, default_value = "9090")]
    pub metrics_port: String,
    /// Listen address of the metrics server
    #[arg(long, default_value = "0.0.0.0")]
    pub metrics_listen_address: String,
    /// Tell memory and threads of this process on the profile port; no profiles in Go's format yet
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set, value_parser = switch)]
    pub enable_profiling: bool,
    /// Port of the profiles
    #[arg(long, default_value = "7777")]
    pub profile_port: String,
    /// debug, info, warn, error or fatal
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// Log lines as JSON
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set, value_parser = switch)]
    pub log_as_json: bool,
    /// Append logs to this file instead of standard output
    #[arg(long, default_value = "")]
    pub log_file: String,
    /// Print the version and leave
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set, value_parser = switch)]
    pub version: bool,
    /// Print the build information and leave
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set, value_parser = switch)]
    pub build_info: bool,
    /// Wait until the sidecar on --dapr-http-port is ready for outbound calls, then leave
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set, value_parser = switch)]
    pub wait: bool,
    /// Deprecated, without effect
    #[arg(long, hide = true)]
    pub reminders_service: Option<String>,
    /// Deprecated, without effect
    #[arg(long, hide = true)]
    pub actors_service: Option<String>,
}

/// Doubles the dash of single-dash long flags, as upstream does before it parses.
#[must_use]
pub(super) fn double_dashes(args: impl IntoIterator<Item = String>) -> Vec<String> {
    args.into_iter()
        .map(|arg| {
            let bytes = arg.as_bytes();
            // A negative number is a value, not a flag.
            if bytes.len() > 2 && bytes[0] == b'-' && bytes[1] != b'-' && !bytes[1].is_ascii_digit() {
                format!("-{arg}")
            } else {
                arg
            }
        })
        .collect()
}

/// Go's `strconv.ParseBool`.
fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("{text:?} is not true or false")),
    }
}

fn go_duration(text: &str) -> Result<GoDuration, String> {
    GoDuration::parse(text).map_err(|error| error.to_string())
}

impl DaprdFlags {
    /// `--max-body-size` in bytes; -1 means the default.
    ///
    /// # Errors
    /// When the quantity cannot be read.
    pub(super) fn max_body_bytes(&self) -> Result<u64, String> {
        let default = outrigger_sidecar::DEFAULT_MAX_BODY_SIZE;
        if let Some(text) = &self.max_body_size {
            let bytes = quantity::bytes(text)
                .map_err(|error| format!("invalid value for 'max-body-size' option: {error}"))?;
            return Ok(u64::try_from(bytes).unwrap_or(default));
        }
        match self.dapr_http_max_request_size {
            Some(megabytes) => Ok(u64::try_from(megabytes).map_or(default, |megabytes| megabytes << 20)),
            None => Ok(default),
        }
    }

    /// `--read-buffer-size` in bytes; -1 means the default.
    ///
    /// # Errors
    /// When the quantity cannot be read.
    pub(super) fn read_buffer_bytes(&self) -> Result<usize, String> {
        let default = outrigger_sidecar::DEFAULT_READ_BUFFER_SIZE;
        if let Some(text) = &self.read_buffer_size {
            let bytes = quantity::bytes(text)
                .map_err(|error| format!("invalid value for 'read-buffer-size' option: {error}"))?;
            return Ok(usize::try_from(bytes).unwrap_or(default));
        }
        match self.dapr_http_read_buffer_size {
            Some(kilobytes) => Ok(usize::try_from(kilobytes).map_or(default, |kilobytes| kilobytes << 10)),
            None => Ok(default),
        }
    }

    /// `--dapr-graceful-shutdown-seconds`: negative means the default, zero no limit.
    #[must_use]
    pub(super) fn grace(&self) -> Option<Duration> {
        match u64::try_from(self.dapr_graceful_shutdown_seconds) {
            Ok(0) => None,
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => Some(outrigger_sidecar::DEFAULT_GRACE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> DaprdFlags {
        let args = double_dashes(args.iter().map(|arg| (*arg).to_owned()));
        DaprdFlags::try_parse_from(std::iter::once("daprd".to_owned()).chain(args)).unwrap()
    }

    #[test]
    fn flags_take_one_or_two_dashes_and_switches_a_value() {
        let flags = parse(&[
            "-app-id",
            "a",
            "--enable-mtls",
            "--enable-metrics=false",
            "--enable-api-logging=true",
            "-app-max-concurrency",
            "-1",
            "--resources-path",
            "x,y",
            "--resources-path=z",
        ]);
        assert_eq!(flags.app_id, "a");
        assert!(flags.enable_mtls);
        assert!(!flags.enable_metrics);
        assert_eq!(flags.enable_api_logging, Some(true));
        assert_eq!(flags.resources_path.len(), 3);
        assert_eq!(parse(&[]).enable_api_logging, None);
        assert_eq!(
            parse(&["--dapr-http-port", "1", "--dapr-http-port=2"]).dapr_http_port,
            "2"
        );
    }

    #[test]
    fn sizes_are_quantities_and_minus_one_the_default() {
        assert_eq!(parse(&["--max-body-size=2Gi"]).max_body_bytes(), Ok(2 << 30));
        assert_eq!(parse(&["--max-body-size", "-1"]).max_body_bytes(), Ok(4 << 20));
        assert_eq!(
            parse(&["--dapr-http-max-request-size", "8"]).max_body_bytes(),
            Ok(8 << 20)
        );
        assert!(parse(&["--max-body-size=lots"]).max_body_bytes().is_err());
        assert_eq!(parse(&["--dapr-graceful-shutdown-seconds=0"]).grace(), None);
    }
}
