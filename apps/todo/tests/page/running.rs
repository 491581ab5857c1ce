//! The whole app as processes under `outrigger run -f`, in a folder of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::until;

/// The programs that a run is made of.
pub(crate) struct Programs {
    outrigger: PathBuf,
    todo: PathBuf,
    /// A limit of seconds says something about them: they are known to be optimised.
    pub(crate) optimised: bool,
}

impl Programs {
    /// Those that this test was built with. `TODO_TEST_PROGRAMS` names another folder, from the workspace's on, to
    /// measure a build.
    pub(crate) fn find() -> Option<Self> {
        let named = std::env::var_os("TODO_TEST_PROGRAMS");
        let optimised = named.is_some() || !cfg!(debug_assertions);
        let todo = match &named {
            // Cargo runs tests in their package's folder.
            Some(folder) => Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../..")
                .join(folder)
                .join("todo"),
            None => PathBuf::from(env!("CARGO_BIN_EXE_todo")),
        };
        let outrigger = todo.with_file_name("outrigger");
        if !outrigger.exists() {
            assert!(named.is_none(), "there is no {}", outrigger.display());
            println!("skipped: there is no outrigger beside todo; build it with: cargo build -p outrigger");
            return None;
        }
        Some(Self {
            outrigger,
            todo,
            optimised,
        })
    }

    /// The command line.
    pub(crate) fn outrigger(&self) -> &Path {
        &self.outrigger
    }
}

/// A folder with the run file and its resources: runs that share it share their data, and no others do.
pub(crate) fn home() -> tempfile::TempDir {
    furnished("dapr.yaml", "resources", &[])
}

/// A [`home`] of another run file, whose resources get other addresses: each pair is what a file says, and what this
/// run needs there.
pub(crate) fn furnished(run_file: &str, resources: &str, addresses: &[(&str, &str)]) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for part in [resources, "data"] {
        fs::create_dir_all(home.path().join(part)).unwrap();
    }
    let mut missing: Vec<_> = addresses.iter().map(|(from, _)| *from).collect();
    for file in fs::read_dir(here.join(resources)).unwrap() {
        let file = file.unwrap().path();
        let mut text = fs::read_to_string(&file).unwrap();
        for (from, to) in addresses {
            if text.contains(from) {
                text = text.replace(from, to);
                missing.retain(|missing| missing != from);
            }
        }
        let name = file.file_name().unwrap();
        fs::write(home.path().join(resources).join(name), text).unwrap();
    }
    assert!(missing.is_empty(), "{resources} does not say {missing:?}");
    fs::copy(here.join(run_file), home.path().join("dapr.yaml")).unwrap();
    fs::copy(here.join("todo.sh"), home.path().join("todo.sh")).unwrap();
    home
}

/// A folder with the Compose file and what it mounts.
pub(crate) fn compose_home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    fs::create_dir_all(home.path().join("compose/resources")).unwrap();
    let resources = fs::read_dir(deploy.join("compose/resources")).unwrap();
    let resources = resources.map(|file| Path::new("compose/resources").join(file.unwrap().file_name()));
    let others = ["compose.yaml", "compose/configuration.yaml"].map(PathBuf::from);
    for file in resources.chain(others) {
        fs::copy(deploy.join(&file), home.path().join(&file)).unwrap();
    }
    home
}

/// A running app.
pub(crate) struct Running {
    outrigger: Child,
    /// When it was started.
    pub(crate) began: Instant,
    url: watch::Receiver<String>,
    /// What was printed.
    lines: Arc<Mutex<Vec<String>>>,
    home: PathBuf,
}

impl Running {
    /// Starts the run file of a [`home`] and waits for the page's address.
    pub(crate) async fn start(programs: &Programs, home: &Path) -> Self {
        Self::start_with(programs, home, "dapr.yaml", &[]).await
    }

    /// Starts a file of a folder with more flags.
    pub(crate) async fn start_with(programs: &Programs, home: &Path, file: &str, flags: &[String]) -> Self {
        let began = Instant::now();
        let mut outrigger = Command::new(&programs.outrigger)
            .args(["run", "-f"])
            .arg(home.join(file))
            .args(flags)
            .env("TODO_BIN", &programs.todo)
            .env("OUTRIGGER_REGISTRY_DIR", home.join("registry"))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let output = outrigger.stdout.take().unwrap();
        let (found, mut url) = watch::channel(String::new());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let printed = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Said again by each life of the gateway.
                if let Some((_, url)) = line.split_once("The todo page is at ") {
                    found.send_replace(url.trim().trim_end_matches('/').to_owned());
                }
                // Shown when the test fails.
                println!("{line}");
                printed.lock().push(line);
            }
        });
        tokio::time::timeout(Duration::from_secs(60), url.wait_for(|url| !url.is_empty()))
            .await
            .expect("the gateway prints its address in time")
            .expect("the gateway prints its address");
        Self {
            outrigger,
            began,
            url,
            lines,
            home: home.to_owned(),
        }
    }

    /// The page's address, kept up to date: a gateway that is started again may find its port taken.
    pub(crate) fn url(&self) -> watch::Receiver<String> {
        self.url.clone()
    }

    /// What services and sidecars have printed so far, each line marked with its process.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// The process id of the command line.
    pub(crate) fn pid(&self) -> u32 {
        self.outrigger.id()
    }

    /// The apps and sidecars that run now.
    pub(crate) fn processes(&self) -> BTreeMap<Role, Process> {
        let children = pids().filter(|pid| parent(*pid) == Some(self.pid()));
        children.filter_map(Process::read).collect()
    }

    /// Ends all of it in order, and waits until nothing of it is left.
    pub(crate) async fn stop(mut self) {
        signal("-TERM", self.pid());
        let status = until("the command line ends", async || {
            self.outrigger.try_wait().unwrap()
        })
        .await;
        assert!(status.success(), "{status}");
        // All that it started has the folder in its environment, whoever its parent is by now.
        let folder = self.home.to_str().unwrap();
        until("no process is left", async || {
            let left = |pid| text(pid, "environ").is_some_and(|variables| variables.contains(folder));
            (!pids().any(left)).then_some(())
        })
        .await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.outrigger.try_wait(), Ok(None)) {
            signal("-TERM", self.pid());
            let _ = self.outrigger.wait();
        }
    }
}

/// What a process of a run is for, over all its lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Role {
    pub(crate) app: String,
    pub(crate) sidecar: bool,
    /// The port of the app parts the instances of one app.
    port: String,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.sidecar { "sidecar" } else { "app" };
        // By its columns a list is a table.
        f.pad(&format!("{} {kind} ({})", self.app, self.port))
    }
}

/// One life of an app or a sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// The sidecar, or the app's sidecar.
    pub(crate) sidecar_url: String,
}

impl Process {
    /// Tells what a process is from its command line; `None` for others, and for one that is only about to be it.
    fn read(pid: u32) -> Option<(Role, Self)> {
        let arguments = text(pid, "cmdline")?;
        let arguments: Vec<_> = arguments.split_terminator('\0').collect();
        let variables = text(pid, "environ")?;
        let flag = |name: &str| {
            let at = arguments.iter().position(|argument| *argument == name)?;
            arguments.get(at + 1).map(|value| (*value).to_owned())
        };
        let variable = |name: &str| {
            let found = variables
                .split_terminator('\0')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            found.map(str::to_owned)
        };
        let program = Path::new(arguments.first()?).file_name()?.to_str()?;
        let (app, port, http) = match program {
            "daprd" => (flag("--app-id")?, flag("--app-port")?, flag("--dapr-http-port")?),
            "todo" => (
                (*arguments.get(1)?).to_owned(),
                variable("APP_PORT")?,
                variable("DAPR_HTTP_PORT")?,
            ),
            _ => return None,
        };
        let role = Role {
            app,
            sidecar: program == "daprd",
            port,
        };
        let sidecar_url = format!("http://127.0.0.1:{http}");
        Some((role, Self { pid, sidecar_url }))
    }
}

/// The memory of a process that is in RAM, in KiB.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let status = text(pid, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

pub(crate) fn signal(name: &str, pid: impl fmt::Display) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.unwrap().success(), "kill {name} {pid}");
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap().map_while(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What `/proc` says of a process, if it is still there.
fn text(pid: u32, file: &str) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn parent(pid: u32) -> Option<u32> {
    // The program's name is in brackets and may hold anything; the state and the parent follow it.
    text(pid, "stat")?
        .rsplit_once(") ")?
        .1
        .split(' ')
        .nth(1)?
        .parse()
        .ok()
}
