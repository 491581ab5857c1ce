//! A home, processes of this program in it, and conditions to wait for.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Variable that makes this program `outrigger`.
pub(crate) const AS_PROGRAM: &str = "OUTRIGGER_CLI_TEST";

/// Longest wait for anything that has no promise of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A home of its own for each test.
pub(crate) struct Home {
    pub(crate) folder: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["run", "data", "resources", "web"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// App ids are unique on the machine, because `list` sees all of it.
    pub(crate) fn id(&self, name: &str) -> String {
        format!("{name}-{}", std::process::id())
    }

    /// What makes this program `outrigger` in this home.
    pub(crate) fn variables(&self) -> [(&'static str, PathBuf); 4] {
        [
            (AS_PROGRAM, PathBuf::from("1")),
            ("HOME", self.folder.path().to_owned()),
            ("XDG_RUNTIME_DIR", self.path("run")),
            ("XDG_DATA_HOME", self.path("data")),
        ]
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(args)
            .envs(self.variables())
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a verb to its end.
    pub(crate) fn outrigger(&self, args: &[&str]) -> (ExitStatus, String) {
        let output = self.command(args).output().unwrap();
        let text = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .concat();
        (output.status, text)
    }

    /// Starts a verb.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let mut child = self
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        let pipes: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        for pipe in pipes {
            let output = Arc::clone(&output);
            thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let mut output = output.lock().unwrap();
                    output.push_str(&line);
                    output.push('\n');
                }
            });
        }
        Running { child, output }
    }

    /// A run file with the apps' lines, each app in the folder `web`.
    pub(crate) fn run_file(&self, apps: &str) -> String {
        let text = format!(
            "version: 1\nname: shop\ncommon:\n  resourcesPath: ./resources\n  restart: always\napps:\n{apps}"
        );
        let path = self.path("dapr.yaml");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// What `list` says of an app's instances.
    pub(crate) fn list(&self, app_id: &str) -> Vec<Value> {
        let (status, text) = self.outrigger(&["list", "--output", "json"]);
        assert!(status.success(), "{text}");
        let Value::Array(rows) = serde_json::from_str(&text).unwrap() else {
            panic!("{text}")
        };
        rows.into_iter().filter(|row| row["appId"] == app_id).collect()
    }

    /// Waits until `count` instances are listed with an app process.
    pub(crate) fn listed(&self, app_id: &str, count: usize, running: &Running) -> Vec<Value> {
        let mut rows = Vec::new();
        eventually(PATIENCE, running, &format!("{count} of {app_id}"), || {
            rows = self.list(app_id);
            rows.len() == count && rows.iter().all(|row| number(row, "appPid") > 0)
        });
        rows
    }
}

/// A verb at work.
pub(crate) struct Running {
    pub(crate) child: Child,
    output: Arc<Mutex<String>>,
}

impl Running {
    pub(crate) fn text(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    pub(crate) fn says(&self, words: &str) {
        eventually(PATIENCE, self, words, || self.text().contains(words));
    }

    pub(crate) fn ends(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "still running:\n{}", self.text());
            pause();
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(u64::from(self.child.id()), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::TERM);
            let until = Instant::now() + Duration::from_secs(10);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
                pause();
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

pub(crate) fn pause() {
    thread::park_timeout(Duration::from_millis(10));
}

/// Waits for a condition; gives the time it took.
pub(crate) fn eventually(
    limit: Duration,
    running: &Running,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> Duration {
    let since = Instant::now();
    while !condition() {
        assert!(
            since.elapsed() < limit,
            "not within {limit:?}: {what}\n{}",
            running.text()
        );
        pause();
    }
    since.elapsed()
}

pub(crate) fn send(pid: u64, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

pub(crate) fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap()
}

/// Whether a process runs; one that waits to be reaped does not.
pub(crate) fn alive(pid: u64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with(['Z', 'X']))
}

/// Processes started by a process, and theirs.
pub(crate) fn descendants(root: u64) -> BTreeSet<u64> {
    let parents: Vec<(u64, u64)> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?))
        })
        .collect();
    let mut found = BTreeSet::from([root]);
    while let Some((pid, _)) = parents
        .iter()
        .find(|(pid, parent)| found.contains(parent) && !found.contains(pid))
    {
        found.insert(*pid);
    }
    found.remove(&root);
    found
}

pub(crate) fn is_guard(pid: u64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("__guard"))
}

/// Asks an app through its sidecar; the answer is the app's process id.
pub(crate) fn invoke(http_port: u64, app_id: &str) -> Option<u64> {
    ask(http_port, &format!("/v1.0/invoke/{app_id}/method/pid"))
}

/// Gets a number from a path.
pub(crate) fn ask(port: u64, path: &str) -> Option<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    if !answer.starts_with("HTTP/1.1 200") {
        return None;
    }
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    body.lines().nth(usize::from(chunked))?.trim().parse().ok()
}

pub(crate) fn this_program() -> String {
    std::env::current_exe().unwrap().display().to_string()
}

pub(crate) fn run_args<'a>(resources: &'a Path, app_id: &'a str) -> Vec<&'a str> {
    vec![
        "run",
        "--app-id",
        app_id,
        "--resources-path",
        resources.to_str().unwrap(),
    ]
}
