//! The sidecar's command line and the variables of both processes (wire.md §18).

use anyhow::Result;
use outrigger_types::Environment;

use super::{plan::Setting, resources::Chosen, settings::App};

/// Upstream's default of the app's address.
const APP_ADDRESS: &str = "127.0.0.1";

/// Where the sentry of a machine listens.
const SENTRY: &str = "localhost:50001";

/// Variables of the run file that the sidecar needs as well.
const SHARED_SECRETS: [&str; 2] = ["DAPR_API_TOKEN", "APP_API_TOKEN"];

/// Chosen ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) http: u16,
    pub(super) grpc: u16,
    pub(super) internal_grpc: u16,
    pub(super) metrics: u16,
    pub(super) profile: Option<u16>,
    pub(super) app: Option<u16>,
}

/// Whether other machines shall reach the sidecar: only when its address for them is set.
pub(super) fn shown_to_others(app: &App, environment: &Environment) -> bool {
    environment.non_empty("DAPR_HOST_IP").is_some()
        || app
            .shared
            .env
            .get("DAPR_HOST_IP")
            .is_some_and(|ip| !ip.is_empty())
}

/// The arguments of `daprd`: flag and value as two tokens, switches bare, nothing for what is not said.
/// `loopback` keeps the internal API and the metrics from other machines.
pub(super) fn daprd(
    app: &App,
    chosen: &Chosen,
    ports: &Ports,
    loopback: bool,
    json_logs: bool,
) -> Vec<String> {
    let mut args = Args::default();
    let shared = &app.shared;
    args.value("app-id", &app.app_id);
    args.value("app-port", &ports.app.unwrap_or(0).to_string());
    args.value(
        "app-protocol",
        if shared.app_protocol.is_empty() {
            "http"
        } else {
            &shared.app_protocol
        },
    );
    if app.app_channel_address != APP_ADDRESS {
        args.value("app-channel-address", &app.app_channel_address);
    }
    args.value("dapr-http-port", &ports.http.to_string());
    args.value("dapr-grpc-port", &ports.grpc.to_string());
    args.value("dapr-internal-grpc-port", &ports.internal_grpc.to_string());
    args.value("metrics-port", &ports.metrics.to_string());
    if loopback {
        args.value("dapr-internal-grpc-listen-address", "127.0.0.1");
        args.value("metrics-listen-address", "127.0.0.1");
    }
    if let Some(port) = ports.profile {
        args.value("profile-port", &port.to_string());
    }
    args.switch("enable-profiling", shared.enable_profiling);
    if let Some(folder) = &app.unix_domain_socket {
        args.value("unix-domain-socket", &folder.display().to_string());
    }
    if let Some(config) = &chosen.config {
        args.value("config", &config.display().to_string());
    }
    for folder in &chosen.resources {
        args.value("resources-path", &folder.display().to_string());
    }
    args.value("dapr-listen-addresses", &shared.api_listen_addresses);
    args.value("log-level", &shared.log_level);
    args.value(
        "app-max-concurrency",
        &(if shared.app_max_concurrency < 1 {
            -1
        } else {
            shared.app_max_concurrency
        })
        .to_string(),
    );
    for (flag, address, port) in [
        ("placement-host-address", &shared.placement_host_address, 50005),
        ("scheduler-host-address", &shared.scheduler_host_address, 50006),
    ] {
        if let Some(address) = address {
            args.value(flag, &with_port(address.trim(), port));
        }
    }
    args.switch("app-ssl", shared.app_ssl);
    args.value(
        "max-body-size",
        if shared.max_body_size.is_empty() {
            "4Mi"
        } else {
            &shared.max_body_size
        },
    );
    args.value(
        "read-buffer-size",
        if shared.read_buffer_size.is_empty() {
            "4Ki"
        } else {
            &shared.read_buffer_size
        },
    );
    args.switch("enable-app-health-check", shared.enable_app_health_check);
    args.value("app-health-check-path", &shared.app_health_check_path);
    args.number("app-health-probe-interval", shared.app_health_probe_interval);
    args.number("app-health-probe-timeout", shared.app_health_probe_timeout);
    args.number("app-health-threshold", shared.app_health_threshold);
    args.switch("enable-api-logging", shared.enable_api_logging);
    if chosen.config.as_deref().is_some_and(wants_mtls) {
        args.switch("enable-mtls", true);
        args.value("sentry-address", SENTRY);
    }
    args.switch("log-as-json", json_logs);
    args.0
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn value(&mut self, flag: &str, value: &str) {
        if !value.is_empty() {
            self.0.push(format!("--{flag}"));
            self.0.push(value.to_owned());
        }
    }

    fn switch(&mut self, flag: &str, on: bool) {
        if on {
            self.0.push(format!("--{flag}"));
        }
    }

    fn number(&mut self, flag: &str, number: i64) {
        if number != 0 {
            self.value(flag, &number.to_string());
        }
    }
}

/// Adds the default port to a host; empty stays empty.
fn with_port(address: &str, port: u16) -> String {
    if address.is_empty() || address.contains(':') {
        address.to_owned()
    } else {
        format!("{address}:{port}")
    }
}

/// Whether a configuration file switches mTLS on; a file that cannot be read is the sidecar's to report.
fn wants_mtls(path: &std::path::Path) -> bool {
    use outrigger_resources::yaml::{Content, Mode, Scalar, parse};
    let Ok(text) = std::fs::read_to_string(path) else {
        return false;
    };
    let Ok(Some(root)) = parse(&text, Mode::GoYamlV2) else {
        return false;
    };
    let enabled = root
        .get("spec")
        .and_then(|spec| spec.get("mtls"))
        .and_then(|mtls| mtls.get("enabled"));
    enabled.is_some_and(|node| {
        matches!(
            node.content,
            Content::Scalar {
                value: Scalar::Bool(true),
                ..
            }
        )
    })
}

/// The app's variables; those of the run file come last and win.
pub(super) fn app_variables(app: &App, ports: &Ports) -> Vec<(String, String)> {
    let mut pairs = vec![("APP_ID".to_owned(), app.app_id.clone())];
    let address = if app.app_channel_address.is_empty() {
        APP_ADDRESS
    } else {
        &app.app_channel_address
    };
    pairs.push(("APP_CHANNEL_ADDRESS".to_owned(), address.to_owned()));
    if let Some(port) = ports.app {
        pairs.push(("APP_PORT".to_owned(), port.to_string()));
    }
    pairs.push(("DAPR_HTTP_PORT".to_owned(), ports.http.to_string()));
    pairs.push(("DAPR_GRPC_PORT".to_owned(), ports.grpc.to_string()));
    pairs.push(("DAPR_METRICS_PORT".to_owned(), ports.metrics.to_string()));
    if let Some(protocol) = app.protocol_variable() {
        pairs.push(("APP_PROTOCOL".to_owned(), protocol.to_owned()));
    }
    pairs.extend(
        app.shared
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    pairs
}

/// The sidecar's variables beyond ours: how it is found, and the tokens the app knows.
pub(super) fn daprd_variables(
    app: &App,
    setting: Setting<'_>,
    loopback: bool,
) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    if loopback {
        // Peers get this address from the name registry.
        pairs.push(("DAPR_HOST_IP".to_owned(), "127.0.0.1".to_owned()));
    } else if let Some(ip) = app.shared.env.get("DAPR_HOST_IP") {
        pairs.push(("DAPR_HOST_IP".to_owned(), ip.clone()));
    }
    if setting.environment.non_empty("OUTRIGGER_REGISTRY_DIR").is_none() {
        let registry = setting.folders.registry()?;
        pairs.push((
            "OUTRIGGER_REGISTRY_DIR".to_owned(),
            registry.display().to_string(),
        ));
    }
    for name in SHARED_SECRETS {
        if let Some(value) = app.shared.env.get(name) {
            pairs.push((name.to_owned(), value.clone()));
        }
    }
    let own = app.shared.sidecar_env.iter();
    pairs.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    Ok(pairs)
}
