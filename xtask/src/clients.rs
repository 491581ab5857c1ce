//! The SDKs of Dapr, as published, beside our sidecars: `tests/clients`.
//!
//! Each client is a program with two apps in it (`one`, `two`) that runs named cases and prints `ok <case>`,
//! `failed <case>: <why>` or `skipped <case>: <why>`. This verb prepares its packages, starts a sidecar for each app in a
//! fresh folder and counts what it prints. With `--daprd PATH` the same cases run against that program.

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use crate::{
    args::Args,
    bench::guard::{Guard, Program},
    node, python, repo,
    services::Services,
};

/// Where the clients live, below the root.
const CLIENTS: &str = "tests/clients";
/// A client that has not ended by then hangs.
const LIMIT: Duration = Duration::from_secs(100);
/// Where stores that only we embed are replaced.
const REDIS: &str = "OUTRIGGER_TEST_REDIS";

/// An SDK's client.
struct Client {
    /// Its name on the command line.
    name: &'static str,
    /// Its folder.
    folder: &'static str,
    /// `--app-protocol` of app `one`; app `two` always speaks gRPC.
    protocol: &'static str,
    /// Makes its packages ready and gives the program; the text says why it cannot be had here.
    prepare: fn(&Path) -> Result<Command, String>,
}

const ALL: &[Client] = &[
    Client {
        name: "python",
        folder: "python",
        protocol: "http",
        prepare: prepare_python,
    },
    // The line that the requirements were written for, with the same cases (E1.1–E1.5).
    Client {
        name: "python-1.14",
        folder: "python",
        protocol: "http",
        prepare: prepare_old_python,
    },
    Client {
        name: "node",
        folder: "node",
        protocol: "http",
        prepare: prepare_node,
    },
    Client {
        name: "rust",
        folder: "rust",
        protocol: "grpc",
        prepare: prepare_rust,
    },
];

/// The sidecar to test.
struct Sidecar {
    program: PathBuf,
    /// Ours is one program for many verbs.
    verb: Option<&'static str>,
    /// Where Redis is, for a sidecar without our embedded stores.
    redis: Option<String>,
}

/// What came of one client.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u32,
    /// Name and reason.
    failed: Vec<(String, String)>,
    skipped: Vec<(String, String)>,
}

/// `--only python,python-1.14,node,rust`, `--daprd PATH` (ours or another's), `--profile NAME` of our program.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let only = args.value("--only")?;
    let daprd = args.value("--daprd")?;
    let profile = args.value("--profile")?.unwrap_or_else(|| "dev".to_owned());
    args.finish()?;
    let chosen = chosen(only.as_deref())?;
    let Some(daprd) = daprd else {
        return all(&chosen, &ours(&profile)?);
    };
    let program = fs::canonicalize(&daprd).with_context(|| daprd.clone())?;
    if program.file_name() == Some(OsStr::new("outrigger")) {
        return all(
            &chosen,
            &Sidecar {
                program,
                verb: Some("daprd"),
                redis: None,
            },
        );
    }
    // It lacks our embedded configuration and lock stores; Redis takes their place.
    let services = env::var_os(REDIS)
        .is_none()
        .then(|| Services::start_named("redis"))
        .transpose()?;
    let redis = match &services {
        Some(services) => services
            .variables()
            .find(|(name, _)| *name == REDIS)
            .map(|(_, address)| address.to_owned()),
        None => env::var(REDIS).ok(),
    };
    let redis = redis.context("a sidecar without our embedded stores needs Redis, which is not here")?;
    all(
        &chosen,
        &Sidecar {
            program,
            verb: None,
            redis: Some(redis),
        },
    )
}

/// Every client beside the built program; one that cannot be had here is skipped with the reason.
pub(crate) fn test() -> anyhow::Result<()> {
    all(&ALL.iter().collect::<Vec<_>>(), &ours("dev")?)
}

fn ours(profile: &str) -> anyhow::Result<Sidecar> {
    Ok(Sidecar {
        program: repo::build(profile, &["outrigger"])?.join("outrigger"),
        verb: Some("daprd"),
        redis: None,
    })
}

/// The clients of a list of names with commas; all without one.
fn chosen(only: Option<&str>) -> anyhow::Result<Vec<&'static Client>> {
    let Some(only) = only else {
        return Ok(ALL.iter().collect());
    };
    only.split(',')
        .map(|name| {
            ALL.iter()
                .find(|client| client.name == name)
                .with_context(|| format!("--only {name}: no such client"))
        })
        .collect()
}

/// Runs clients one after the other and prints the table; fails when a case failed.
fn all(clients: &[&Client], sidecar: &Sidecar) -> anyhow::Result<()> {
    let mut tallies = Vec::new();
    for client in clients {
        let folder = repo::root().join(CLIENTS).join(client.folder);
        println!("==> {CLIENTS}: {}", client.name);
        let program = match (client.prepare)(&folder) {
            Ok(program) => program,
            Err(reason) => {
                println!("    skipped: {reason}");
                continue;
            }
        };
        let started = Instant::now();
        let tally = one(client, sidecar, program).with_context(|| format!("{CLIENTS}/{}", client.name))?;
        println!("    {}: {:.1} s", client.name, started.elapsed().as_secs_f64());
        tallies.push((client.name, tally));
    }
    print!("{}", table(&tallies));
    let failed: usize = tallies.iter().map(|(_, tally)| tally.failed.len()).sum();
    ensure!(failed == 0, "{failed} cases failed");
    Ok(())
}

/// Runs one client's program between its two sidecars.
fn one(client: &Client, sidecar: &Sidecar, mut program: Command) -> anyhow::Result<Tally> {
    let folder = repo::target().join("clients").join(client.name);
    furnish(&folder)?;
    let guard = Guard::start()?;
    let [http, grpc, app, two_http, two_grpc, two_app] = outrigger_test_ports::free::<6>()?;
    // Names are announced on the network: another run must not answer to them. They have no dots.
    let name = client.name.replace('.', "-");
    let id = |app: &str| format!("clients-{name}-{app}-{}", std::process::id());
    let _one = sidecar.start(&guard, &folder, &id("one"), client.protocol, [http, grpc, app])?;
    let _two = sidecar.start(&guard, &folder, &id("two"), "grpc", [two_http, two_grpc, two_app])?;
    clean(&mut program);
    let configuration = sidecar.redis.as_ref().map_or_else(
        || folder.join("configuration.db").into_os_string(),
        |address| format!("redis:{address}").into(),
    );
    let log = folder.join("client.log");
    program
        .env("APP_ID", id("one"))
        .env("TWO_APP_ID", id("two"))
        .env("DAPR_HTTP_PORT", http.to_string())
        .env("DAPR_GRPC_PORT", grpc.to_string())
        .env("APP_PORT", app.to_string())
        .env("TWO_HTTP_PORT", two_http.to_string())
        .env("TWO_GRPC_PORT", two_grpc.to_string())
        .env("TWO_APP_PORT", two_app.to_string())
        .env("CONFIGURATION", configuration)
        .env(
            "SET_CONFIGURATION",
            repo::root().join(CLIENTS).join("set_configuration.py"),
        );
    let mut running = Program::start(&guard, client.name, &mut program, &log)?;
    let status = running.wait(LIMIT)?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let tally = Tally::read(&text);
    for (name, reason) in &tally.failed {
        println!("    failed {name}: {reason}");
    }
    let ended = match status {
        Some(status) if status.success() || !tally.failed.is_empty() => return Ok(tally),
        Some(status) => status.to_string(),
        None => format!("killed after {LIMIT:?}"),
    };
    println!("{text}");
    bail!(
        "the client ended early: {ended}; {} cases ok before; see {}",
        tally.passed,
        folder.display()
    )
}

impl Sidecar {
    /// Starts one for an app; the client waits for it. `ports` are those of HTTP, gRPC and the app.
    fn start(
        &self,
        guard: &Guard,
        folder: &Path,
        id: &str,
        protocol: &str,
        ports: [u16; 3],
    ) -> anyhow::Result<Program> {
        let resources = repo::root().join(CLIENTS).join("resources");
        let [http, grpc, app] = ports.map(|port| port.to_string());
        let mut command = Command::new(&self.program);
        clean(&mut command);
        command
            .args(self.verb)
            .args(["--app-id", id, "--app-port", &app, "--app-protocol", protocol])
            .args(["--dapr-http-port", &http, "--dapr-grpc-port", &grpc])
            .args(["--dapr-listen-addresses", "127.0.0.1", "--enable-metrics=false"])
            .arg("--resources-path")
            .arg(resources.join("common"))
            .arg("--resources-path")
            .arg(resources.join(if self.redis.is_some() { "redis" } else { "embedded" }))
            .current_dir(folder);
        if let Some(address) = &self.redis {
            command.env(REDIS, address);
        }
        Program::start(guard, id, &mut command, &folder.join(format!("{id}.log")))
    }
}

/// A fresh folder with what the resources name: both sidecars work in it.
fn furnish(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    for sub in ["files", "keys"] {
        fs::create_dir_all(folder.join(sub))?;
    }
    let resources = repo::root().join(CLIENTS).join("resources");
    fs::copy(resources.join("secrets.json"), folder.join("secrets.json"))?;
    let keys = repo::root().join("runtime/components/crypto/testdata/keys");
    for (from, to) in [("rsa.pkcs8.pem", "rsa.pem"), ("kek", "aes.key")] {
        fs::copy(keys.join(from), folder.join("keys").join(to)).with_context(|| format!("copy {from}"))?;
    }
    Ok(())
}

/// What the developer has set for a Dapr of their own stays out.
fn clean(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("DAPR_") {
            command.env_remove(name);
        }
    }
}

fn prepare_python(folder: &Path) -> Result<Command, String> {
    python_with(folder, "requirements.txt", "venv-clients")
}

fn prepare_old_python(folder: &Path) -> Result<Command, String> {
    python_with(folder, "requirements-1.14.txt", "venv-clients-1.14")
}

fn python_with(folder: &Path, requirements: &str, venv: &str) -> Result<Command, String> {
    let venv = repo::target().join(venv);
    python::prepare(&folder.join(requirements), &venv)?;
    let mut program = Command::new(venv.join("bin/python"));
    program
        .arg("main.py")
        .current_dir(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(program)
}

fn prepare_node(folder: &Path) -> Result<Command, String> {
    node::prepare(folder)?;
    let mut program = Command::new("node");
    program.arg("main.js").current_dir(folder);
    Ok(program)
}

fn prepare_rust(folder: &Path) -> Result<Command, String> {
    let target = repo::target().join("clients-rust");
    let cargo = |arguments: &[&str]| {
        repo::cargo()
            .args(arguments)
            .current_dir(folder)
            .env("CARGO_TARGET_DIR", &target)
            .status()
            .is_ok_and(|status| status.success())
    };
    if !cargo(&["fetch", "--locked", "--quiet"]) {
        return Err("cargo cannot fetch the crates of its Cargo.lock here".to_owned());
    }
    if !cargo(&["build", "--locked", "--quiet"]) {
        return Err("the client does not compile".to_owned());
    }
    let mut program = Command::new(target.join("debug/clients-rust"));
    program.current_dir(folder);
    Ok(program)
}

impl Tally {
    /// Reads a client's output; lines of its libraries are in between.
    fn read(text: &str) -> Self {
        let mut tally = Self::default();
        for line in text.lines() {
            let Some((verdict, rest)) = line.split_once(' ') else {
                continue;
            };
            let reason = || {
                let (name, reason) = rest.split_once(": ").unwrap_or((rest, ""));
                (name.to_owned(), reason.to_owned())
            };
            match verdict {
                "ok" => tally.passed += 1,
                "failed" => tally.failed.push(reason()),
                "skipped" => tally.skipped.push(reason()),
                _ => {}
            }
        }
        tally
    }
}

fn table(tallies: &[(&str, Tally)]) -> String {
    let mut out = String::from("| client | passed | failed | skipped |\n| --- | ---: | --- | --- |\n");
    for (name, tally) in tallies {
        let list = |cases: &[(String, String)]| {
            let names: Vec<_> = cases.iter().map(|(name, _)| name.as_str()).collect();
            match names.len() {
                0 => "-".to_owned(),
                count => format!("{count}: {}", names.join(", ")),
            }
        };
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {} |",
            tally.passed,
            list(&tally.failed),
            list(&tally.skipped)
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_prints_is_counted() {
        let tally = Tally::read(
            "ok a.b\nnoise\nfailed c: it: broke\nskipped d: no tool\n1 ok, 1 failed, 1 skipped\n",
        );
        assert_eq!(
            tally,
            Tally {
                passed: 1,
                failed: vec![("c".to_owned(), "it: broke".to_owned())],
                skipped: vec![("d".to_owned(), "no tool".to_owned())],
            }
        );
        assert!(table(&[("x", tally)]).contains("| x | 1 | 1: c | 1: d |"));
    }

    #[test]
    fn clients_are_chosen_by_name() {
        assert_eq!(chosen(None).unwrap().len(), ALL.len());
        let names: Vec<_> = chosen(Some("rust,node"))
            .unwrap()
            .iter()
            .map(|client| client.name)
            .collect();
        assert_eq!(names, ["rust", "node"]);
        assert!(chosen(Some("perl")).is_err());
    }
}
