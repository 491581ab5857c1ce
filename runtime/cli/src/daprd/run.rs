//! From flags to a running sidecar and its end.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use outrigger_sidecar::{AppOptions, Exit, MetricsListen, Mode, RUNTIME_VERSION, Sidecar, SidecarOptions};
use outrigger_sidecar_app_channel::{HealthOptions, Protocol};
use outrigger_telemetry::logs;
use outrigger_types::{AppId, Environment};
use tokio::signal::unix::{SignalKind, signal};

use super::{absent, flags::DaprdFlags};

/// Log target of the program itself, upstream's name.
const LOG: &str = "dapr.runtime";

/// Threads that drive the sidecar. Two keep both directions of a call going; more cost memory and win nothing that
/// the app behind one sidecar could use. `OUTRIGGER_WORKER_THREADS` changes it.
const WORKER_THREADS: usize = 2;

/// When start-up is over, but for components whose backend is away: what only it needed is given back.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// Files read anew more often than this would be all that a core does.
const SHORTEST_RECONCILE: Duration = Duration::from_millis(10);

/// Runs the sidecar.
pub(super) fn run(flags: &DaprdFlags) -> ExitCode {
    let environment = Environment::from_pairs(
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    );
    let log_export = match start_logs(flags) {
        Ok(log_export) => log_export,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let options = match options(flags, &environment) {
        Ok(options) => SidecarOptions {
            log_export: Some(log_export),
            ..options
        },
        Err(error) => return fatal(&format!("Failed to parse flags: {error}")),
    };
    if let Some(warning) = absent::warning(flags) {
        tracing::warn!(target: LOG, "{warning}");
    }
    let threads = environment
        .get("OUTRIGGER_WORKER_THREADS")
        .and_then(|text| text.parse().ok())
        .filter(|threads| *threads > 0)
        .unwrap_or(WORKER_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(64)
        .thread_keep_alive(Duration::from_secs(5))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fatal(&format!("cannot start the runtime: {error}")),
    };
    let code = runtime.block_on(supervise(options, &flags.log_level));
    // Whatever still blocks a thread must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

fn fatal(text: &str) -> ExitCode {
    tracing::error!(target: LOG, fatal = true, "{text}");
    ExitCode::FAILURE
}

fn start_logs(flags: &DaprdFlags) -> Result<logs::LogExport, String> {
    let level: logs::LogLevel = flags
        .log_level
        .parse()
        .map_err(|error: logs::InvalidLogLevel| error.to_string())?;
    let mut options = logs::LogOptions::new(hostname(), RUNTIME_VERSION);
    options.format = if flags.log_as_json {
        logs::LogFormat::Json
    } else {
        logs::LogFormat::Text
    };
    options.level = level;
    options.app_id = (!flags.app_id.is_empty()).then(|| flags.app_id.clone());
    let file = (!flags.log_file.is_empty()).then(|| PathBuf::from(&flags.log_file));
    let sink = logs::open(file.as_deref()).map_err(|error| error.to_string())?;
    let export = logs::LogExport::default();
    options.export = Some(export.clone());
    let (dispatch, _) = logs::dispatch(options, sink);
    tracing::dispatcher::set_global_default(dispatch).map_err(|error| error.to_string())?;
    Ok(export)
}

fn hostname() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// Runs the sidecar until a signal or the sidecar itself ends it; SIGHUP makes it read everything anew.
async fn supervise(options: SidecarOptions, log_level: &str) -> ExitCode {
    tracing::info!(
        target: LOG,
        "Starting Dapr Runtime -- version {RUNTIME_VERSION} -- commit {}",
        option_env!("OUTRIGGER_COMMIT").unwrap_or("unknown")
    );
    tracing::info!(target: LOG, "Log level set to: {log_level}");
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    ) else {
        return fatal("cannot listen for signals");
    };
    tokio::spawn(give_back_start_up_pages());
    let sidecar = match Sidecar::start(options).await {
        Ok(sidecar) => sidecar,
        Err(error) => return fatal(&format!("Fatal error from runtime: {error}")),
    };
    let exit = loop {
        tokio::select! {
            exit = sidecar.wait() => break exit,
            _ = interrupt.recv() => {
                tracing::info!(target: LOG, "Received signal 'interrupt'; beginning shutdown");
                break stop(&sidecar, &mut interrupt, &mut terminate).await;
            }
            _ = terminate.recv() => {
                tracing::info!(target: LOG, "Received signal 'terminated'; beginning shutdown");
                break stop(&sidecar, &mut interrupt, &mut terminate).await;
            }
            _ = hangup.recv() => {
                tracing::info!(target: LOG, "Received signal 'hangup'; restarting");
                sidecar.reload();
            }
        }
    };
    match exit {
        Exit::Stopped => {
            tracing::info!(target: LOG, "Daprd shutdown gracefully");
            ExitCode::SUCCESS
        }
        Exit::Forced => ExitCode::FAILURE,
        Exit::Failed(error) => fatal(&format!("Fatal error from runtime: {error}")),
    }
}

/// See `docs/adr/0008-give-back-start-up-pages.md`.
async fn give_back_start_up_pages() {
    tokio::time::sleep(SETTLED_AFTER).await;
    match tokio::task::spawn_blocking(outrigger_memory::give_back_clean_pages).await {
        Ok(Ok(bytes)) => {
            tracing::debug!(target: LOG, "gave back {} KiB of pages that start-up had mapped", bytes / 1024);
        }
        Ok(Err(error)) => tracing::debug!(target: LOG, "pages of the start-up stay mapped: {error}"),
        Err(_) => {}
    }
}

/// Shuts down; a second signal leaves at once.
async fn stop(
    sidecar: &Sidecar,
    interrupt: &mut tokio::signal::unix::Signal,
    terminate: &mut tokio::signal::unix::Signal,
) -> Exit {
    sidecar.shutdown();
    tokio::select! {
        exit = sidecar.wait() => exit,
        _ = interrupt.recv() => Exit::Forced,
        _ = terminate.recv() => Exit::Forced,
    }
}

fn options(flags: &DaprdFlags, environment: &Environment) -> Result<SidecarOptions, String> {
    let mode = match flags.mode.as_str() {
        "standalone" => Mode::Standalone,
        // Said plainly rather than half done: the operator's side comes with a later stage.
        "kubernetes" => {
            return Err("--mode kubernetes is not served by this version; use standalone".to_owned());
        }
        other => return Err(format!("invalid mode: {other}")),
    };
    if flags.enable_mtls {
        return Err("--enable-mtls is not served by this version: it needs the sentry service".to_owned());
    }
    let app_id = AppId::parse(&flags.app_id).map_err(|error| match error {
        outrigger_types::InvalidId::Empty { .. } => "app-id parameter cannot be empty".to_owned(),
        outrigger_types::InvalidId::Malformed { reason, .. } => reason.to_owned(),
    })?;
    if flags.actors_disseminate_timeout.to_std_or_zero().is_zero() {
        return Err("invalid value for 'actors-disseminate-timeout' option: it must be positive".to_owned());
    }
    let protocol: Protocol = flags.app_protocol.parse()?;
    let protocol = if flags.app_ssl {
        tracing::warn!(target: LOG, "The 'app-ssl' flag is deprecated; use 'app-protocol=https' or 'app-protocol=grpcs' instead");
        protocol.with_tls()
    } else {
        protocol
    };
    let port = |name: &str, text: &str| {
        text.parse::<u16>()
            .map_err(|error| format!("error parsing {name}: strconv.Atoi: parsing {text:?}: {error}"))
    };
    let mut options = SidecarOptions::new(app_id);
    options.mode = mode;
    options.http_port = port("dapr-http-port flag", &flags.dapr_http_port)?;
    options.grpc_port = port("dapr-grpc-port flag", &flags.dapr_grpc_port)?;
    options.internal_grpc_port = match flags.dapr_internal_grpc_port.as_str() {
        "" | "0" => 0,
        text => port("dapr-internal-grpc-port", text)?,
    };
    options
        .internal_grpc_listen_address
        .clone_from(&flags.dapr_internal_grpc_listen_address);
    options.listen_addresses = flags
        .dapr_listen_addresses
        .split(',')
        .map(|text| text.trim().to_owned())
        .collect();
    options.public_port = match flags.dapr_public_port.as_str() {
        "" => None,
        text => Some(port("dapr-public-port", text)?),
    };
    options
        .public_listen_address
        .clone_from(&flags.dapr_public_listen_address);
    options.app_protocol = protocol;
    options.app_channel_address.clone_from(&flags.app_channel_address);
    options.app = app(flags, protocol, port)?;
    if let Some(app) = &options.app {
        for (name, taken) in [
            ("dapr-http-port", options.http_port),
            ("dapr-grpc-port", options.grpc_port),
        ] {
            if app.port == taken {
                return Err(format!(
                    "the '{name}' argument value {taken} conflicts with 'app-port'"
                ));
            }
        }
    }
    if flags.enable_metrics {
        options.metrics = Some(MetricsListen {
            address: flags.metrics_listen_address.clone(),
            port: port("metrics-port", &flags.metrics_port)?,
        });
    }
    options.profile_port = if flags.enable_profiling {
        Some(port("profile-port flag", &flags.profile_port)?)
    } else {
        None
    };
    options.resources_paths = if flags.resources_path.is_empty() && !flags.components_path.is_empty() {
        vec![PathBuf::from(&flags.components_path)]
    } else {
        flags.resources_path.clone()
    };
    options.config_paths = flags.config.iter().map(PathBuf::from).collect();
    options.allowed_origins.clone_from(&flags.allowed_origins);
    let addresses = |text: &str| {
        text.split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .collect()
    };
    options.placement_addresses = addresses(&flags.placement_host_address);
    options.scheduler_addresses = if flags.scheduler_host_address.is_empty() {
        addresses(environment.get("DAPR_SCHEDULER_HOST_ADDRESS_DNS_A").unwrap_or(""))
    } else {
        flags
            .scheduler_host_address
            .iter()
            .filter(|text| !text.is_empty())
            .cloned()
            .collect()
    };
    options.max_body_size = flags.max_body_bytes()?;
    options.read_buffer_size = flags.read_buffer_bytes()?;
    options.unix_domain_socket =
        (!flags.unix_domain_socket.is_empty()).then(|| PathBuf::from(&flags.unix_domain_socket));
    options.graceful_shutdown = flags.grace();
    options.block_shutdown = flags
        .dapr_block_shutdown_duration
        .map(outrigger_types::duration::GoDuration::to_std_or_zero);
    options.api_logging = flags.enable_api_logging;
    let reconcile = flags.hot_reload_reconcile_interval.to_std_or_zero();
    if !reconcile.is_zero() {
        options.hot_reload_reconcile = reconcile.max(SHORTEST_RECONCILE);
    }
    for endpoint in &flags.disable_init_endpoints {
        match endpoint.trim().to_ascii_lowercase().as_str() {
            "" => {}
            "config" => options.disable_config_endpoint = true,
            "subscribe" => options.disable_subscribe_endpoint = true,
            other => return Err(format!("invalid value for 'disable-init-endpoints': {other}")),
        }
    }
    options.environment = environment.clone();
    options.base_dir =
        std::env::current_dir().map_err(|error| format!("cannot tell the working folder: {error}"))?;
    options.registry_dir = environment.non_empty("OUTRIGGER_REGISTRY_DIR").map(PathBuf::from);
    options.hostname = hostname();
    options.user_id = rustix::process::getuid().as_raw();
    Ok(options)
}

fn app(
    flags: &DaprdFlags,
    protocol: Protocol,
    port: impl Fn(&str, &str) -> Result<u16, String>,
) -> Result<Option<AppOptions>, String> {
    let port = match flags.app_port.as_str() {
        "" => 0,
        text => port("app-port", text)?,
    };
    if port == 0 {
        return Ok(None);
    }
    let health = if flags.enable_app_health_check {
        Some(health(flags)?)
    } else {
        None
    };
    Ok(Some(AppOptions {
        port,
        protocol,
        channel_address: flags.app_channel_address.clone(),
        max_concurrency: usize::try_from(flags.app_max_concurrency)
            .ok()
            .filter(|max| *max > 0),
        health,
    }))
}

/// Zero or negative settings mean the defaults, as upstream reads them.
fn health(flags: &DaprdFlags) -> Result<HealthOptions, String> {
    let positive = |value: i64, default: u64| {
        u64::try_from(value)
            .ok()
            .filter(|value| *value > 0)
            .unwrap_or(default)
    };
    let interval = Duration::from_secs(positive(flags.app_health_probe_interval, 5));
    let timeout = Duration::from_millis(positive(flags.app_health_probe_timeout, 500));
    if timeout > interval {
        return Err(
            "value for 'health-probe-timeout' must be smaller than 'health-probe-interval'".to_owned(),
        );
    }
    Ok(HealthOptions {
        path: flags.app_health_check_path.clone(),
        interval,
        timeout,
        threshold: u32::try_from(positive(flags.app_health_threshold, 3)).unwrap_or(u32::MAX),
    })
}
