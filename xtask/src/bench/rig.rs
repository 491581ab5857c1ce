//! One side's programs, set up for a scenario: apps, sidecars, components; stopped when dropped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::Value;

use super::{Plan, http};
use crate::{
    process::{self, Service, until},
    repo,
};

/// Until a sidecar must be ready, a slow machine included.
const READY: Duration = Duration::from_secs(30);

/// A runtime under measurement.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) name: &'static str,
    program: PathBuf,
    /// What stands before daprd's own flags.
    prefix: &'static [&'static str],
}

impl Side {
    pub(crate) fn new(name: &'static str, program: PathBuf, prefix: &'static [&'static str]) -> Self {
        Self {
            name,
            program,
            prefix,
        }
    }

    /// The sidecar's command line, without flags.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.prefix);
        command
    }

    /// What the program says of its version.
    pub(crate) fn version(&self) -> String {
        let arguments: Vec<&str> = self.prefix.iter().copied().chain(["--version"]).collect();
        repo::output(&self.program.to_string_lossy(), &arguments)
            .and_then(|text| text.lines().next().map(str::to_owned))
            .unwrap_or_else(|| "unknown".to_owned())
    }

    /// Size of the program in bytes.
    pub(crate) fn size(&self) -> Option<u64> {
        fs::metadata(&self.program).ok().map(|metadata| metadata.len())
    }
}

/// The app behind a sidecar.
#[derive(Debug)]
pub(crate) struct App {
    service: Service,
    pub(crate) port: u16,
}

impl App {
    /// Starts an app that subscribes to a pub/sub component, or to none.
    pub(crate) fn start(
        plan: &Plan,
        folder: &Path,
        name: &str,
        subscribe: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(&plan.load);
        command.arg("app");
        if let Some(pubsub) = subscribe {
            command.args(["--subscribe", pubsub]);
        }
        let log = folder.join(format!("{name}.log"));
        let mut service = Service::start(name, &mut command, &log)?;
        let mut port = None;
        until("the app's port", READY, || {
            service.ensure_running()?;
            port = fs::read_to_string(&log)?
                .lines()
                .next()
                .and_then(|line| serde_json::from_str::<Value>(line).ok()?["port"].as_u64())
                .and_then(|port| u16::try_from(port).ok());
            Ok(port.is_some())
        })?;
        Ok(Self {
            service,
            port: port.context("the app said no port")?,
        })
    }

    /// What arrived since the last reset.
    pub(crate) fn measured(&self, reset: bool) -> anyhow::Result<Value> {
        let path = if reset { "/measured/reset" } else { "/measured" };
        let (_, body) = http::request(self.port, "GET", path, "")?;
        serde_json::from_str(&body).with_context(|| format!("the app says {body}"))
    }

    /// Waits until so many events arrived.
    pub(crate) fn delivered(&self, count: u64, limit: Duration) -> anyhow::Result<Value> {
        let mut last = Value::Null;
        let arrived = until("all events arrive", limit, || {
            last = self.measured(false)?;
            Ok(last["delivered"].as_u64().unwrap_or(0) >= count)
        });
        arrived.with_context(|| format!("{} of {count} arrived", last["delivered"]))?;
        Ok(last)
    }

    /// CPU time of the app.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        process::cpu(self.service.pid())
    }
}

/// A running sidecar.
#[derive(Debug)]
pub(crate) struct Sidecar {
    service: Service,
    pub(crate) port: u16,
}

impl Sidecar {
    /// Starts one; it is not waited for.
    pub(crate) fn spawn(
        side: &Side,
        folder: &Path,
        app_id: &str,
        app_port: Option<u16>,
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let [port, grpc, internal, metrics] = http::free_ports::<4>()?;
        let mut command = side.command();
        command
            .args(["--app-id", app_id])
            .args(["--dapr-http-port", &port.to_string()])
            .args(["--dapr-grpc-port", &grpc.to_string()])
            .args(["--dapr-internal-grpc-port", &internal.to_string()])
            .args(["--metrics-port", &metrics.to_string()])
            .args(["--dapr-listen-addresses", "127.0.0.1"])
            .arg("--resources-path")
            .arg(folder.join("resources"))
            .args(["--log-level", "error"])
            .args(more);
        if let Some(app_port) = app_port {
            command.args(["--app-port", &app_port.to_string(), "--app-protocol", "http"]);
        }
        let log = folder.join(format!("{app_id}.log"));
        let service = Service::start(&format!("{} {app_id}", side.name), &mut command, &log)?;
        Ok(Self { service, port })
    }

    /// Starts one and waits for its health.
    pub(crate) fn start(
        side: &Side,
        folder: &Path,
        app_id: &str,
        app_port: Option<u16>,
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let mut sidecar = Self::spawn(side, folder, app_id, app_port, more)?;
        until(&format!("{app_id} is healthy"), READY, || {
            sidecar.service.ensure_running()?;
            Ok(http::succeeds(sidecar.port, "/v1.0/healthz"))
        })?;
        Ok(sidecar)
    }

    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        process::cpu(self.service.pid())
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        process::memory(self.service.pid(), "VmRSS")
    }

    /// Forgets the highest resident memory: [`Sidecar::peak`] counts from here.
    pub(crate) fn reset_peak(&self) -> anyhow::Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.service.pid()), "5").context("reset the memory peak")
    }

    /// The highest resident memory since the reset, in bytes.
    pub(crate) fn peak(&self) -> anyhow::Result<u64> {
        process::memory(self.service.pid(), "VmHWM")
    }
}

/// Two sidecars in front of one app: `caller` has none of its own, `callee` has the app.
#[derive(Debug)]
pub(crate) struct Pair {
    // In the order in which they must stop.
    pub(crate) caller: Sidecar,
    pub(crate) callee: Sidecar,
    pub(crate) app: App,
}

impl Pair {
    /// Starts all three with in-memory and SQLite components.
    pub(crate) fn start(plan: &Plan, side: &Side, name: &str, more: &[&str]) -> anyhow::Result<Self> {
        let folder = folder(plan, side, name)?;
        component(&folder, "statestore", "state.in-memory", &[])?;
        let database = folder.join("state.db");
        component(
            &folder,
            "durable",
            "state.sqlite",
            &[("connectionString", &database.to_string_lossy())],
        )?;
        component(&folder, "pubsub", "pubsub.in-memory", &[])?;
        let app = App::start(plan, &folder, "app", Some("pubsub"))?;
        let callee = Sidecar::start(side, &folder, "callee", Some(app.port), more)?;
        let caller = Sidecar::start(side, &folder, "caller", None, more)?;
        let pair = Self { caller, callee, app };
        until("the caller reaches the callee", READY, || {
            Ok(http::request(pair.caller.port, "POST", "/v1.0/invoke/callee/method/echo", "{}")?.0 == 200)
        })?;
        Ok(pair)
    }

    /// CPU time of both sidecars.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        Ok(self.caller.cpu()? + self.callee.cpu()?)
    }
}

/// A fresh folder for a scenario, with one for its components.
pub(crate) fn folder(plan: &Plan, side: &Side, name: &str) -> anyhow::Result<PathBuf> {
    let folder = plan.work.join(format!("{}-{name}", side.name));
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(folder.join("resources")).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

/// Writes a component's file.
pub(crate) fn component(
    folder: &Path,
    name: &str,
    kind: &str,
    metadata: &[(&str, &str)],
) -> anyhow::Result<()> {
    let empty = if metadata.is_empty() { " []" } else { "" };
    let mut text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: {kind}\n  version: v1\n  metadata:{empty}\n"
    );
    for (key, value) in metadata {
        text.push_str(&format!("    - name: {key}\n      value: \"{value}\"\n"));
    }
    fs::write(folder.join("resources").join(format!("{name}.yaml")), text).context("write a component")
}

/// Runs the generator and gives its report; an error of any request ends the scenario.
pub(crate) fn drive(plan: &Plan, port: u16, path: &str, arguments: &[&str]) -> anyhow::Result<Value> {
    let report = run_load(plan, "drive", port, path, arguments)?;
    if report["errors"].as_u64() != Some(0) {
        bail!(
            "{path}: {} of {} requests failed: {}",
            report["errors"],
            report["requests"],
            report["last_error"]
        );
    }
    Ok(report)
}

/// Runs one verb of the load program against a port on loopback.
pub(crate) fn run_load(
    plan: &Plan,
    verb: &str,
    port: u16,
    path: &str,
    arguments: &[&str],
) -> anyhow::Result<Value> {
    let output = Command::new(&plan.load)
        .args([verb, "--target", &format!("127.0.0.1:{port}"), "--path", path])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("start the load generator")?;
    if !output.status.success() {
        bail!("{path}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("read the load generator's report")
}
