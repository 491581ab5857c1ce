//! The pipeline in a folder of its own, on ports of its own.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use super::until;

/// The folder of the programs that the pipeline is made of; `None`, with a printed reason, if one is missing.
pub(crate) fn programs() -> Option<PathBuf> {
    let folder = match env::var_os("MARKET_TEST_PROGRAMS") {
        // Cargo runs tests in their package's folder.
        Some(folder) => Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder),
        None => Path::new(env!("CARGO_BIN_EXE_market")).parent()?.to_path_buf(),
    };
    for program in [
        "outrigger",
        "gateway",
        "workmanager",
        "websocketmanager",
        "market",
    ] {
        if !folder.join(program).exists() {
            println!(
                "skipped: there is no {program} in {}; build the workspace",
                folder.display()
            );
            return None;
        }
    }
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: there is no python3, which runs the workers");
        return None;
    }
    Some(folder)
}

/// Whether limits of seconds say something about the programs: `MARKET_TEST_PROGRAMS` names a folder of optimised ones,
/// from the workspace's on.
pub(crate) fn optimised() -> bool {
    env::var_os("MARKET_TEST_PROGRAMS").is_some() || !cfg!(debug_assertions)
}

/// A running pipeline; dropping it ends it.
pub(crate) struct Pipeline {
    outrigger: Child,
    pub(crate) programs: PathBuf,
    pub(crate) home: tempfile::TempDir,
    /// This run's port for each of the run file's.
    ports: BTreeMap<String, u16>,
}

impl Pipeline {
    /// Starts it, with `rate` trades per second of each exchange, and waits for nothing.
    pub(crate) fn start(programs: &Path, rate: u32) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let home = tempfile::tempdir().unwrap();
        for folder in ["resources", "data"] {
            fs::create_dir_all(home.path().join(folder)).unwrap();
        }
        for file in [
            "market.sh",
            "services.yaml",
            "resources/pubsub.yaml",
            "resources/statestore.yaml",
        ] {
            fs::copy(here.join(file), home.path().join(file)).unwrap();
        }
        let (text, ports) = moved(&fs::read_to_string(here.join("dapr.yaml")).unwrap());
        fs::write(home.path().join("dapr.yaml"), text).unwrap();
        let mut outrigger = Command::new(programs.join("outrigger"))
            .args(["run", "-f"])
            .arg(home.path().join("dapr.yaml"))
            .env("MARKET_BIN", programs)
            .env("EXCHANGE_RATE", rate.to_string())
            .env("OUTRIGGER_REGISTRY_DIR", home.path().join("registry"))
            .env("OTEL_SDK_DISABLED", "true")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let output = outrigger.stdout.take().unwrap();
        std::thread::spawn(move || {
            // Shown when the test fails.
            BufReader::new(output)
                .lines()
                .map_while(Result::ok)
                .for_each(|line| println!("{line}"));
        });
        Self {
            outrigger,
            programs: programs.to_path_buf(),
            home,
            ports,
        }
    }

    /// This run's port for one of the run file's.
    pub(crate) fn port(&self, port: &str) -> u16 {
        self.ports[port]
    }

    /// Where the page is.
    pub(crate) fn page(&self) -> String {
        format!("http://127.0.0.1:{}", self.port("5300"))
    }

    /// The process ids by app and whether it is the sidecar. Both are children of the command line.
    pub(crate) fn processes(&self) -> BTreeMap<(String, bool), u32> {
        let all = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            if parent(pid)? != self.outrigger.id() {
                return None;
            }
            let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            let arguments: Vec<&str> = arguments.split('\0').collect();
            if let Some(at) = arguments.iter().position(|argument| *argument == "--app-id") {
                return Some(((arguments.get(at + 1)?.to_string(), true), pid));
            }
            let variables = fs::read_to_string(format!("/proc/{pid}/environ")).ok()?;
            let app = variables
                .split('\0')
                .find_map(|variable| variable.strip_prefix("APP_ID="))?;
            Some(((app.to_owned(), false), pid))
        });
        all.collect()
    }
}

/// The run file with free ports in place of its own.
fn moved(text: &str) -> (String, BTreeMap<String, u16>) {
    let mut ports = BTreeMap::new();
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let length = from
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(from.len());
        let (number, after) = from.split_at(length);
        out.push_str(before);
        if number.len() == 4 && number.starts_with('5') {
            let port = ports.entry(number.to_owned()).or_insert_with(|| {
                let [port] = outrigger_test_ports::free().unwrap();
                port
            });
            out.push_str(&port.to_string());
        } else {
            out.push_str(number);
        }
        rest = after;
    }
    out.push_str(rest);
    (out, ports)
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything.
    status.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

pub(crate) fn signal(signal: &str, pid: u32) {
    let _ = Command::new("kill").args([signal, &pid.to_string()]).status();
}

impl Pipeline {
    /// Ends it in order.
    pub(crate) async fn stop(mut self) {
        signal("-TERM", self.outrigger.id());
        let status = until("the command line ends", async || {
            self.outrigger.try_wait().unwrap()
        })
        .await;
        assert!(status.success(), "{status}");
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if matches!(self.outrigger.try_wait(), Ok(None)) {
            signal("-TERM", self.outrigger.id());
            let _ = self.outrigger.wait();
        }
    }
}
