//! From what is said about the apps to what is started: ports, arguments, variables, files.

use std::{
    fs::File,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use jiff::Zoned;
use outrigger_types::Environment;

use super::{
    arguments,
    readiness::AppProbe,
    resources::{self, Chosen},
    settings::{App, AppPort, LogDestination, Restart},
};
use crate::{
    console::Status,
    folders::Folders,
    mux::{Marked, Source},
    ports::{Ports, Reserved, is_free, random},
    sidecar_api::{Address, SidecarApi},
};

/// One process to keep.
#[derive(Debug)]
pub(super) struct ProcessPlan {
    /// What its lines are called in news.
    pub(super) source: Arc<Source>,
    pub(super) program: PathBuf,
    /// `argv[0]`.
    pub(super) name: String,
    pub(super) args: Vec<String>,
    /// On top of the command line's own variables.
    pub(super) env: Vec<(String, String)>,
    pub(super) dir: Option<PathBuf>,
    /// Ports held for it until it starts.
    pub(super) reserved: Vec<Reserved>,
    /// Whether it reads our standard input.
    pub(super) reads_input: bool,
}

/// One app with its sidecar.
#[derive(Debug)]
pub(super) struct InstancePlan {
    /// The app id, with a number if there are several.
    pub(super) label: String,
    pub(super) app_id: String,
    pub(super) restart: Restart,
    pub(super) sidecar: ProcessPlan,
    pub(super) app: Option<ProcessPlan>,
    /// Where the app listens, if it does.
    pub(super) app_port: Option<u16>,
    /// How to see that it is ready, if we start it and it listens.
    pub(super) probe: Option<AppProbe>,
    /// Where the sidecar's APIs are.
    pub(super) http: Address,
    pub(super) grpc: Address,
    pub(super) api: SidecarApi,
    /// Attributes for `list`, beside the process ids.
    pub(super) attributes: Vec<(&'static str, String)>,
}

/// What the plans have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) folders: &'a Folders,
    pub(super) environment: &'a Environment,
    pub(super) working_dir: &'a Path,
    /// The sidecar program: `OUTRIGGER_DAPRD`, else this binary.
    pub(super) daprd: Option<&'a Path>,
    pub(super) this_program: &'a Path,
    /// `--log-as-json`.
    pub(super) json_logs: bool,
    /// Whether nobody sits before this run: what is not said otherwise goes into files.
    pub(super) detached: bool,
    /// The run file and its name; `None` for a single app.
    pub(super) run_file: Option<(&'a Path, &'a str)>,
}

/// A line for the user about a plan.
pub(super) type Note = (Status, String);

/// Plans every instance of every app. Nothing is started, but ports are held and log files made.
pub(super) fn plan(apps: Vec<App>, setting: Setting<'_>) -> Result<(Vec<InstancePlan>, Vec<Note>)> {
    let mut ports = Ports::new();
    let fixed = |app: &App| {
        let own = [
            app.http_port,
            app.grpc_port,
            app.internal_grpc_port,
            app.metrics_port,
            app.profile_port,
        ];
        let app = match app.app_port {
            AppPort::Fixed(port) => Some(port),
            _ => None,
        };
        own.into_iter().flatten().chain(app)
    };
    apps.iter().flat_map(fixed).for_each(|port| ports.claim(port));
    let mut plans = Vec::new();
    let mut notes = Vec::new();
    for mut app in apps {
        if app.app_id.is_empty() {
            app.app_id = made_up_id();
        }
        let count = app.instances.max(1);
        for number in 1..=count {
            let label = if count == 1 {
                app.app_id.clone()
            } else {
                format!("{}-{number}", app.app_id)
            };
            // Ports given by number can only be had once.
            let mut instance = app.clone();
            if number > 1 {
                if app.app_port != AppPort::None {
                    instance.app_port = AppPort::Free;
                }
                instance.http_port = None;
                instance.grpc_port = None;
                instance.internal_grpc_port = None;
                instance.metrics_port = None;
                instance.profile_port = None;
            }
            let turn = plans.len();
            let built = one(instance, label.clone(), turn, &mut ports, setting, &mut notes);
            plans.push(built.with_context(|| format!("app {label:?}"))?);
        }
    }
    Ok((plans, notes))
}

fn one(
    app: App,
    label: String,
    turn: usize,
    ports: &mut Ports,
    setting: Setting<'_>,
    notes: &mut Vec<Note>,
) -> Result<InstancePlan> {
    let dir = app.dir.clone().unwrap_or_else(|| setting.working_dir.to_owned());
    let chosen = resources::choose(&app.shared, &dir, setting.folders)?;
    for path in &chosen.resources {
        if !path.exists() {
            bail!(
                "error validating resources path {:?}: it does not exist",
                path.display().to_string()
            );
        }
    }
    notes.push((Status::Info, used(&label, &chosen)));
    if app.unix_domain_socket.is_some() && app.instances > 1 {
        bail!("unixDomainSocket cannot be shared by several instances");
    }

    let mut held = Vec::new();
    let mut port = |wanted: Option<u16>, what: &str| -> Result<u16> {
        match wanted {
            Some(port) if is_free(port) => Ok(port),
            Some(port) => bail!("invalid configuration for {what}. Port {port} is not available"),
            None => {
                let reserved = ports.free()?;
                let port = reserved.port;
                held.push(reserved);
                Ok(port)
            }
        }
    };
    let chosen_ports = arguments::Ports {
        http: port(app.http_port, "HTTPPort")?,
        grpc: port(app.grpc_port, "GRPCPort")?,
        metrics: port(app.metrics_port, "MetricsPort")?,
        internal_grpc: port(app.internal_grpc_port, "InternalGRPCPort")?,
        profile: if app.shared.enable_profiling {
            Some(port(app.profile_port, "ProfilePort")?)
        } else {
            None
        },
        app: None,
    };
    let mut app_held = Vec::new();
    let app_port = match app.app_port {
        AppPort::None => None,
        AppPort::Free => {
            let reserved = ports.free()?;
            let port = reserved.port;
            app_held.push(reserved);
            Some(port)
        }
        // Without a command the app runs already, under a debugger for instance (requirement D3).
        AppPort::Fixed(port) if !app.command.is_empty() && !is_free(port) => {
            bail!("the app port {port} is in use by another process");
        }
        AppPort::Fixed(port) => Some(port),
    };
    let chosen_ports = arguments::Ports {
        app: app_port,
        ..chosen_ports
    };

    let mut attributes = Vec::new();
    let multi = setting.run_file.is_some();
    if let Some((path, name)) = setting.run_file {
        attributes.push(("runTemplatePath", path.display().to_string()));
        attributes.push(("runTemplateName", name.to_owned()));
    }
    let (daprd_default, app_default) = match (multi, setting.detached) {
        (true, _) => (LogDestination::File, LogDestination::FileAndConsole),
        // There is no terminal.
        (false, true) => (LogDestination::File, LogDestination::File),
        (false, false) => (LogDestination::Console, LogDestination::Console),
    };
    let daprd_logs = app.shared.daprd_log_destination.unwrap_or(daprd_default);
    let app_logs = app.shared.app_log_destination.unwrap_or(app_default);
    let daprd_file = daprd_logs.file().then(|| log_file(&dir, &label, "daprd"));
    let app_file = (app_logs.file() && !app.command.is_empty()).then(|| log_file(&dir, &label, "app"));
    let (daprd_file, app_file) = (daprd_file.transpose()?, app_file.transpose()?);
    if let Some((path, _)) = &app_file {
        attributes.push(("appLogPath", path.display().to_string()));
    }
    if let Some((path, _)) = &daprd_file {
        attributes.push(("daprdLogPath", path.display().to_string()));
    }
    if !app.command.is_empty() {
        attributes.push(("appCommand", app.command.join(" ")));
    }
    let many = multi || app.instances > 1;
    let daprd_marked = if many { Marked::Console } else { Marked::Nowhere };
    let name = |what: &str| {
        if many {
            format!("{what} - {label}")
        } else {
            what.to_owned()
        }
    };

    let address = |protocol| {
        app.unix_domain_socket
            .as_ref()
            .map(|folder| crate::sidecar_api::socket_path(folder, &app.app_id, protocol))
    };
    let token = app
        .shared
        .env
        .get("DAPR_API_TOKEN")
        .cloned()
        .or_else(|| setting.environment.non_empty("DAPR_API_TOKEN").map(str::to_owned));
    let http = address("http").map_or(Address::Port(chosen_ports.http), Address::Socket);
    let grpc = address("grpc").map_or(Address::Port(chosen_ports.grpc), Address::Socket);

    let loopback = !arguments::shown_to_others(&app, setting.environment);
    let sidecar = ProcessPlan {
        source: Source::new(
            &name("DAPRD"),
            turn,
            daprd_marked,
            daprd_logs.console(),
            daprd_file.map(|(_, file)| file),
        ),
        program: setting.daprd.unwrap_or(setting.this_program).to_owned(),
        name: setting
            .daprd
            .map_or_else(|| "daprd".to_owned(), |path| path.display().to_string()),
        args: arguments::daprd(&app, &chosen, &chosen_ports, loopback, setting.json_logs),
        env: arguments::daprd_variables(&app, setting, loopback)?,
        dir: app.dir.clone(),
        reserved: held,
        reads_input: false,
    };
    let process = (!app.command.is_empty()).then(|| ProcessPlan {
        source: Source::new(
            &name("APP"),
            turn,
            Marked::Everywhere,
            app_logs.console(),
            app_file.map(|(_, file)| file),
        ),
        program: PathBuf::from("/bin/sh"),
        name: "sh".to_owned(),
        // As upstream: the shell finds the program and becomes it, so the process is the app itself.
        args: ["-c", "exec \"$@\"", "sh"]
            .into_iter()
            .map(str::to_owned)
            .chain(app.command.iter().cloned())
            .collect(),
        env: arguments::app_variables(&app, &chosen_ports),
        dir: app.dir.clone(),
        reserved: app_held,
        // From a terminal a background group would be stopped for reading.
        reads_input: !many && !std::io::stdin().is_terminal(),
    });
    if process.is_none() {
        notes.push((
            Status::Warning,
            format!("No application command found for app {label:?}: only its sidecar runs"),
        ));
    }
    Ok(InstancePlan {
        restart: app.shared.restart.unwrap_or_default(),
        app_port,
        probe: app_port
            .filter(|_| process.is_some())
            .map(|port| probe(&app, port)),
        api: SidecarApi::new(http.clone(), token),
        http,
        grpc,
        attributes,
        app_id: app.app_id,
        label,
        sidecar,
        app: process,
    })
}

/// How the run sees that the app is ready.
fn probe(app: &App, port: u16) -> AppProbe {
    let shared = &app.shared;
    let asks_http = shared.enable_app_health_check && app.protocol_variable() == Some("http");
    AppProbe {
        host: match app.app_channel_address.as_str() {
            "" => "127.0.0.1".to_owned(),
            host => host.to_owned(),
        },
        port,
        health_path: asks_http.then(|| match shared.app_health_check_path.as_str() {
            "" => "/healthz".to_owned(),
            path => format!("/{}", path.trim_start_matches('/')),
        }),
    }
}

fn used(label: &str, chosen: &Chosen) -> String {
    let folders: Vec<String> = chosen
        .resources
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let built_in = if chosen.built_in {
        "built-in components: state, pub/sub on SQLite, secrets from file and environment; "
    } else {
        ""
    };
    let config = chosen
        .config
        .as_ref()
        .map_or_else(String::new, |path| format!(", configuration {}", path.display()));
    format!("{label}: resources {built_in}{}{config}", folders.join(", "))
}

/// Upstream's name: `<app>_<kind>_<timestamp>.log` in the app's `.dapr/logs`.
fn log_file(dir: &Path, label: &str, kind: &str) -> Result<(PathBuf, File)> {
    let folder = dir.join(".dapr/logs");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let path = folder.join(format!(
        "{label}_{kind}_{}.log",
        Zoned::now().strftime("%Y%m%d%H%M%S")
    ));
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok((path, file))
}

/// An id for an app that was given none.
fn made_up_id() -> String {
    const FIRST: [&str; 16] = [
        "amber", "brisk", "calm", "deep", "eager", "fair", "gentle", "high", "keen", "light", "mellow",
        "noble", "quiet", "rapid", "swift", "warm",
    ];
    const SECOND: [&str; 16] = [
        "anchor", "breeze", "canoe", "delta", "ferry", "gull", "harbor", "island", "keel", "lagoon", "mast",
        "paddle", "reef", "sail", "tide", "wave",
    ];
    let number = random();
    let pick = |words: [&'static str; 16], shift: u32| words[((number >> shift) % 16) as usize];
    format!(
        "{}-{}-{:04x}",
        pick(FIRST, 0),
        pick(SECOND, 8),
        (number >> 16) & 0xffff
    )
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
