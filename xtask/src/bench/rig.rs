//! One side's programs, set up for a scenario: apps, sidecars, components; stopped when dropped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::Value;

use super::{
    Plan,
    guard::{Guard, Program},
    http,
};
use crate::{
    process::{self, until},
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
    variables: Vec<(&'static str, String)>,
}

impl Side {
    pub(crate) fn new(name: &'static str, program: PathBuf, prefix: &'static [&'static str]) -> Self {
        Self {
            name,
            program,
            prefix,
            variables: Vec::new(),
        }
    }

    /// The same with a variable of its environment set.
    pub(crate) fn with_variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// The sidecar's command line, without flags.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.prefix);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
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
    program: Program,
    pub(crate) port: u16,
}

impl App {
    /// Starts an app; `flags` say what it speaks and subscribes to.
    pub(crate) fn start(plan: &Plan, folder: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(&plan.load);
        command.arg("app").args(flags);
        let log = folder.join("app.log");
        let mut program = Program::start(&plan.guard, "app", &mut command, &log)?;
        let mut port = None;
        until("the app's port", READY, || {
            program.ensure_running()?;
            port = fs::read_to_string(&log)?
                .lines()
                .next()
                .and_then(|line| serde_json::from_str::<Value>(line).ok()?["port"].as_u64())
                .and_then(|port| u16::try_from(port).ok());
            Ok(port.is_some())
        })?;
        Ok(Self {
            program,
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
        let mut last = String::new();
        let arrived = until("all events arrive", limit, || {
            // Only the number: percentiles would keep the app from taking events.
            last = http::request(self.port, "GET", "/delivered", "")?.1;
            Ok(last.parse::<u64>().is_ok_and(|delivered| delivered >= count))
        });
        arrived.with_context(|| format!("{last} of {count} arrived"))?;
        self.measured(false)
    }

    /// CPU time of the app.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        process::cpu(self.program.pid())
    }
}

/// A running sidecar.
#[derive(Debug)]
pub(crate) struct Sidecar {
    program: Program,
    pub(crate) port: u16,
    pub(crate) grpc: u16,
    internal: u16,
}

impl Sidecar {
    /// Starts one; it is not waited for.
    pub(crate) fn spawn(
        guard: &Guard,
        side: &Side,
        folder: &Path,
        app_id: &str,
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let [port, grpc, internal, metrics] = outrigger_test_ports::free::<4>()?;
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
        let log = folder.join(format!("{app_id}.log"));
        let program = Program::start(guard, &format!("{} {app_id}", side.name), &mut command, &log)?;
        Ok(Self {
            program,
            port,
            grpc,
            internal,
        })
    }

    /// Starts one and waits for its health.
    pub(crate) fn start(
        guard: &Guard,
        side: &Side,
        folder: &Path,
        app_id: &str,
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let mut sidecar = Self::spawn(guard, side, folder, app_id, more)?;
        until(&format!("{app_id} is healthy"), READY, || {
            sidecar.ensure_running()?;
            Ok(http::succeeds(sidecar.port, "/v1.0/healthz"))
        })?;
        Ok(sidecar)
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.program.kill();
    }

    /// Fails when it has ended already.
    pub(crate) fn ensure_running(&mut self) -> anyhow::Result<()> {
        self.program.ensure_running()
    }

    /// CPU time of the sidecar's threads, exact enough for one at rest.
    pub(crate) fn fine_cpu(&self) -> anyhow::Result<Duration> {
        process::fine_cpu(self.program.pid())
    }

    /// CPU time of the sidecar.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        process::cpu(self.program.pid())
    }

    /// Its share of memory in bytes: pages that several programs use count by their part.
    pub(crate) fn share(&self) -> anyhow::Result<u64> {
        process::share(self.program.pid())
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        process::memory(self.program.pid(), "VmRSS")
    }

    /// Forgets the highest resident memory: [`Sidecar::peak`] counts from here.
    pub(crate) fn reset_peak(&self) -> anyhow::Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.program.pid()), "5").context("reset the memory peak")
    }

    /// The highest resident memory since the reset, in bytes.
    pub(crate) fn peak(&self) -> anyhow::Result<u64> {
        process::memory(self.program.pid(), "VmHWM")
    }

    /// How many connections other sidecars keep to this one.
    pub(crate) fn peers(&self) -> anyhow::Result<usize> {
        let mut peers = 0;
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            // A machine without IPv6 has no second table.
            let text = fs::read_to_string(table).unwrap_or_default();
            peers += established(&text, self.internal);
        }
        anyhow::ensure!(peers > 0, "no connection to port {} is seen", self.internal);
        Ok(peers)
    }
}

/// Established connections (state 1) to a remote port, in the kernel's table.
fn established(table: &str, port: u16) -> usize {
    let remote = format!(":{port:04X}");
    table
        .lines()
        .map(|line| line.split_whitespace().skip(2))
        .filter(|fields| {
            let mut fields = fields.clone();
            fields.next().is_some_and(|address| address.ends_with(&remote)) && fields.next() == Some("01")
        })
        .count()
}

/// Which backends stand behind the sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Components {
    /// `statestore` and `pubsub` in memory, `durable` on SQLite.
    Memory,
    /// What `outrigger run` gives an app that brings none: all on SQLite, and two local secret stores.
    Defaults,
}

/// How a pair is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) components: Components,
    /// What the app speaks: `http` or `grpc`.
    pub(crate) protocol: &'a str,
    /// Further flags of both sidecars.
    pub(crate) more: &'a [&'a str],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            components: Components::Memory,
            protocol: "http",
            more: &[],
        }
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
    /// Starts all three.
    pub(crate) fn start(plan: &Plan, side: &Side, name: &str, setup: Setup<'_>) -> anyhow::Result<Self> {
        let folder = folder(plan, side, name)?;
        components(side, &folder, setup.components)?;
        let flags: &[&str] = match setup.protocol {
            "grpc" => &["--grpc"],
            _ => &["--subscribe", "pubsub"],
        };
        let app = App::start(plan, &folder, flags)?;
        let port = app.port.to_string();
        let behind = [
            &["--app-port", &port, "--app-protocol", setup.protocol],
            setup.more,
        ]
        .concat();
        let callee = Sidecar::start(&plan.guard, side, &folder, "callee", &behind)?;
        let caller = Sidecar::start(&plan.guard, side, &folder, "caller", setup.more)?;
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

/// Writes the files of a set of components.
pub(crate) fn components(side: &Side, folder: &Path, components: Components) -> anyhow::Result<()> {
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    match components {
        Components::Memory => {
            component(folder, "statestore", "state.in-memory", &[])?;
            component(
                folder,
                "durable",
                "state.sqlite",
                &[("connectionString", &file("state.db"))],
            )?;
            component(folder, "pubsub", "pubsub.in-memory", &[])
        }
        Components::Defaults => {
            component(
                folder,
                "statestore",
                "state.sqlite",
                &[
                    ("connectionString", &file("state.db")),
                    ("actorStateStore", "true"),
                ],
            )?;
            // Daprd has no broker on SQLite: the one in memory is the smallest it has.
            if side.name == "ours" {
                component(
                    folder,
                    "pubsub",
                    "pubsub.sqlite",
                    &[("connectionString", &file("pubsub.db"))],
                )?;
            } else {
                component(folder, "pubsub", "pubsub.in-memory", &[])?;
            }
            fs::write(file("secrets.json"), "{}\n")?;
            component(
                folder,
                "localsecretstore",
                "secretstores.local.file",
                &[("secretsFile", &file("secrets.json"))],
            )?;
            component(folder, "envsecretstore", "secretstores.local.env", &[])
        }
    }
}

/// Writes a component's file. A version other than v1 stands behind the type: `state.postgresql/v2`.
pub(crate) fn component(
    folder: &Path,
    name: &str,
    kind: &str,
    metadata: &[(&str, &str)],
) -> anyhow::Result<()> {
    let (kind, version) = kind.split_once('/').unwrap_or((kind, "v1"));
    let empty = if metadata.is_empty() { " []" } else { "" };
    let mut text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: {kind}\n  version: {version}\n  metadata:{empty}\n"
    );
    for (key, value) in metadata {
        text.push_str(&format!("    - name: {key}\n      value: \"{value}\"\n"));
    }
    fs::write(folder.join("resources").join(format!("{name}.yaml")), text).context("write a component")
}

/// Runs the generator and gives its report; an error of any request ends the scenario.
pub(crate) fn drive(plan: &Plan, port: u16, path: &str, arguments: &[&str]) -> anyhow::Result<Value> {
    without_errors(path, run_load(plan, "drive", port, path, arguments)?)
}

/// The same over gRPC.
pub(crate) fn drive_grpc(plan: &Plan, port: u16, path: &str, arguments: &[&str]) -> anyhow::Result<Value> {
    without_errors(path, run_load(plan, "grpc", port, path, arguments)?)
}

fn without_errors(path: &str, report: Value) -> anyhow::Result<Value> {
    if report["errors"].as_u64() != Some(0) {
        bail!(
            "{path}: {} requests failed, {} did not: {}",
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

#[cfg(test)]
mod tests {
    use super::established;

    #[test]
    fn connections_to_a_port_are_counted_at_the_callers_end() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
             0: 0100007F:C350 00000000:0000 0A 00000000\n\
             1: 0100007F:D431 0100007F:C350 01 00000000\n\
             2: 0100007F:C350 0100007F:D431 01 00000000\n\
             3: 0100007F:D432 0100007F:C350 06 00000000\n";
        assert_eq!(established(table, 50000), 1);
    }
}
