//! The command line from outside: real processes, killed and stopped (requirements D1, D5).
//!
//! Started with [`AS_PROGRAM`], this program is `outrigger` itself or one of the apps it runs; otherwise it runs the
//! tests. `OUTRIGGER_DAPRD` puts another sidecar program under the same tests.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test program prints")]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Variable that makes this program `outrigger`.
const AS_PROGRAM: &str = "OUTRIGGER_CLI_TEST";

/// Longest wait for anything that has no promise of its own.
const PATIENCE: Duration = Duration::from_secs(30);

/// The promise: a killed process is back.
const BACK: Duration = Duration::from_secs(2);

const TESTS: [(&str, fn()); 8] = [
    (
        "a_run_ends_with_its_apps_exit_code",
        a_run_ends_with_its_apps_exit_code,
    ),
    (
        "an_app_gets_its_sidecars_ports_and_is_listed",
        an_app_gets_its_sidecars_ports_and_is_listed,
    ),
    (
        "killed_processes_are_back_in_two_seconds",
        killed_processes_are_back_in_two_seconds,
    ),
    (
        "an_app_that_keeps_failing_is_restarted_more_slowly",
        an_app_that_keeps_failing_is_restarted_more_slowly,
    ),
    (
        "nothing_outlives_a_killed_command_line",
        nothing_outlives_a_killed_command_line,
    ),
    (
        "one_app_of_a_run_file_is_stopped_for_good",
        one_app_of_a_run_file_is_stopped_for_good,
    ),
    (
        "a_run_file_is_stopped_and_its_logs_stay",
        a_run_file_is_stopped_and_its_logs_stay,
    ),
    (
        "an_interrupt_ends_a_run_in_order",
        an_interrupt_ends_a_run_in_order,
    ),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if std::env::var_os(AS_PROGRAM).is_some() {
        if args.get(1).is_some_and(|arg| arg == "app") {
            return app(&args[2..]);
        }
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        return outrigger_cli::main(std::env::args_os());
    }
    // The few words of the usual harness that cargo and its friends say.
    if args.iter().any(|arg| arg == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = args[1..].iter().filter(|arg| !arg.starts_with('-')).collect();
    let mut failed = 0;
    for (name, test) in TESTS {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let since = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        let took = since.elapsed().as_millis();
        println!(
            "test {name} ... {} ({took} ms)",
            if passed { "ok" } else { "FAILED" }
        );
        failed += usize::from(!passed);
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The apps under test.
fn app(args: &[String]) -> ExitCode {
    match args[0].as_str() {
        "exit" => ExitCode::from(args[1].parse::<u8>().unwrap()),
        "park" => park(),
        // A process that starts another one, as `npm start` does.
        "family" => {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["app", "park"])
                .spawn()
                .unwrap();
            println!("child {}", child.id());
            let _ = child.wait();
            park()
        }
        // Answers every path but the sidecar's own questions with its process id.
        "serve" => {
            let port = std::env::var("APP_PORT").unwrap();
            let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
            println!("serving as {} on {port}", std::env::var("APP_ID").unwrap());
            for stream in listener.incoming().flatten() {
                thread::spawn(move || answer(stream));
            }
            ExitCode::SUCCESS
        }
        "environment" => {
            for name in ["APP_ID", "DAPR_HTTP_PORT", "DAPR_GRPC_PORT", "GREETING"] {
                println!("{name}={}", std::env::var(name).unwrap_or_default());
            }
            park()
        }
        other => panic!("no app {other}"),
    }
}

fn park() -> ExitCode {
    loop {
        thread::park();
    }
}

fn answer(stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let (mut path, mut length, mut last) = (String::new(), 0, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if path.is_empty() {
                path = line.split(' ').nth(1).unwrap_or("").to_owned();
            }
            let field = line.to_ascii_lowercase();
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            last |= field.starts_with("connection: close");
            if line == "\r\n" {
                break;
            }
        }
        let _ = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink());
        let (status, body) = if path.starts_with("/dapr/") {
            ("404 Not Found", String::new())
        } else {
            ("200 OK", std::process::id().to_string())
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if writer.write_all(head.as_bytes()).is_err() || last {
            return;
        }
    }
}

/// A home of its own for each test.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["run", "data", "resources", "web"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// App ids are unique on the machine, because `list` sees all of it.
    fn id(&self, name: &str) -> String {
        format!("{name}-{}", std::process::id())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(args)
            .env(AS_PROGRAM, "1")
            .env("HOME", self.folder.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("XDG_DATA_HOME", self.path("data"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a verb to its end.
    fn outrigger(&self, args: &[&str]) -> (ExitStatus, String) {
        let output = self.command(args).output().unwrap();
        let text = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .concat();
        (output.status, text)
    }

    /// Starts a verb.
    fn start(&self, args: &[&str]) -> Running {
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
    fn run_file(&self, apps: &str) -> String {
        let text = format!(
            "version: 1\nname: shop\ncommon:\n  resourcesPath: ./resources\n  restart: always\napps:\n{apps}"
        );
        let path = self.path("dapr.yaml");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// What `list` says of an app's instances.
    fn list(&self, app_id: &str) -> Vec<Value> {
        let (status, text) = self.outrigger(&["list", "--output", "json"]);
        assert!(status.success(), "{text}");
        let Value::Array(rows) = serde_json::from_str(&text).unwrap() else {
            panic!("{text}")
        };
        rows.into_iter().filter(|row| row["appId"] == app_id).collect()
    }

    /// Waits until `count` instances are listed with an app process.
    fn listed(&self, app_id: &str, count: usize, running: &Running) -> Vec<Value> {
        let mut rows = Vec::new();
        eventually(PATIENCE, running, &format!("{count} of {app_id}"), || {
            rows = self.list(app_id);
            rows.len() == count && rows.iter().all(|row| number(row, "appPid") > 0)
        });
        rows
    }
}

/// A verb at work.
struct Running {
    child: Child,
    output: Arc<Mutex<String>>,
}

impl Running {
    fn text(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    fn says(&self, words: &str) {
        eventually(PATIENCE, self, words, || self.text().contains(words));
    }

    fn ends(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "still running:\n{}", self.text());
            pause();
        }
    }

    fn signal(&self, signal: Signal) {
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

fn pause() {
    thread::park_timeout(Duration::from_millis(10));
}

/// Waits for a condition; gives the time it took.
fn eventually(
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

fn send(pid: u64, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap()
}

/// Whether a process runs; one that waits to be reaped does not.
fn alive(pid: u64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with(['Z', 'X']))
}

/// Processes started by a process, and theirs.
fn descendants(root: u64) -> BTreeSet<u64> {
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

fn is_guard(pid: u64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("__guard"))
}

/// Asks an app through its sidecar; the answer is the app's process id.
fn invoke(http_port: u64, app_id: &str) -> Option<u64> {
    ask(http_port, &format!("/v1.0/invoke/{app_id}/method/pid"))
}

/// Gets a number from a path.
fn ask(port: u64, path: &str) -> Option<u64> {
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

fn this_program() -> String {
    std::env::current_exe().unwrap().display().to_string()
}

fn run_args<'a>(resources: &'a Path, app_id: &'a str) -> Vec<&'a str> {
    vec![
        "run",
        "--app-id",
        app_id,
        "--resources-path",
        resources.to_str().unwrap(),
    ]
}

fn a_run_ends_with_its_apps_exit_code() {
    let home = Home::new();
    let (resources, id, program) = (home.path("resources"), home.id("code"), this_program());
    let args = |code: &'static str, program: &'static str| {
        let mut args = run_args(&resources, &id);
        args.extend(["--", program, "app", "exit", code]);
        args
    };
    let program: &'static str = Box::leak(program.into_boxed_str());
    for code in ["7", "0"] {
        let (status, text) = home.outrigger(&args(code, program));
        assert_eq!(status.code(), code.parse().ok(), "{text}");
    }
    let mut missing = run_args(&resources, &id);
    missing.extend(["--", "no-such-program"]);
    let (status, text) = home.outrigger(&missing);
    assert_eq!(status.code(), Some(127), "{text}");
    assert!(text.contains("no-such-program"), "{text}");
}

fn an_app_gets_its_sidecars_ports_and_is_listed() {
    let home = Home::new();
    let (resources, id, program) = (home.path("resources"), home.id("single"), this_program());
    let mut args = run_args(&resources, &id);
    args.extend(["--", &program, "app", "environment"]);
    let running = home.start(&args);
    running.says("You're up and running!");
    let row = &home.listed(&id, 1, &running)[0];
    running.says(&format!("== APP == APP_ID={id}\n"));
    running.says(&format!("== APP == DAPR_HTTP_PORT={}\n", row["httpPort"]));
    running.says(&format!("== APP == DAPR_GRPC_PORT={}\n", row["grpcPort"]));
    assert_eq!(number(row, "cliPid"), u64::from(running.child.id()));
    assert!(alive(number(row, "appPid")) && alive(number(row, "daprdPid")));
    assert_eq!(row["appPort"], 0);
    let (_, table) = home.outrigger(&["list"]);
    assert!(table.starts_with("APP ID") && table.contains(&id), "{table}");
}

fn killed_processes_are_back_in_two_seconds() {
    let home = Home::new();
    let (tasks, id) = (home.id("tasks"), this_program());
    let file = home.run_file(&format!(
        "- {{appDirPath: web, appID: {tasks}, appPort: 0, instances: 2, command: [{id}, app, serve]}}\n"
    ));
    let running = home.start(&["run", "-f", &file]);
    let rows = home.listed(&tasks, 2, &running);
    for row in &rows {
        let port = number(row, "httpPort");
        eventually(PATIENCE, &running, "an answer", || invoke(port, &tasks).is_some());
    }
    // Load while things die.
    let stop = Arc::new(Mutex::new(false));
    let load: Vec<_> = rows
        .iter()
        .map(|row| {
            let (port, tasks, stop) = (number(row, "httpPort"), tasks.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                while !*stop.lock().unwrap() {
                    let _ = invoke(port, &tasks);
                }
            })
        })
        .collect();
    for row in &rows {
        let (http, app) = (number(row, "httpPort"), number(row, "appPort"));
        let victim = number(row, "appPid");
        send(victim, Signal::KILL);
        let app_took = eventually(BACK, &running, "the app", || {
            ask(app, "/pid").is_some_and(|pid| pid != victim)
        });
        let victim = number(row, "daprdPid");
        send(victim, Signal::KILL);
        let sidecar_took = eventually(BACK, &running, "the sidecar", || {
            !alive(victim) && invoke(http, &tasks).is_some()
        });
        println!(
            "back after: app {} ms, sidecar {} ms",
            app_took.as_millis(),
            sidecar_took.as_millis()
        );
    }
    *stop.lock().unwrap() = true;
    load.into_iter().for_each(|thread| thread.join().unwrap());
    for (kind, number) in [("APP", 1), ("DAPRD", 1), ("APP", 2), ("DAPRD", 2)] {
        running.says(&format!("== {kind} - {tasks}-{number} == restarting in "));
    }
    running.says("(exit code 137)");
    // The new processes are known to `list`, and the old ports serve them.
    let again = home.listed(&tasks, 2, &running);
    for row in &rows {
        let same = again
            .iter()
            .find(|other| other["httpPort"] == row["httpPort"])
            .unwrap();
        assert_ne!(same["daprdPid"], row["daprdPid"]);
        eventually(PATIENCE, &running, "the new app's id", || {
            home.list(&tasks).iter().all(|row| alive(number(row, "appPid")))
        });
    }
}

fn an_app_that_keeps_failing_is_restarted_more_slowly() {
    let home = Home::new();
    let (resources, id, program) = (home.path("resources"), home.id("failing"), this_program());
    let mut args = run_args(&resources, &id);
    args.extend(["--restart", "on-failure", "--", &program, "app", "exit", "3"]);
    let running = home.start(&args);
    let waits = || -> Vec<u64> {
        let text = running.text();
        let news = text
            .lines()
            .filter_map(|line| line.strip_prefix("== APP == restarting in "));
        news.map(|rest| rest.strip_suffix("ms (exit code 3)").unwrap().parse().unwrap())
            .collect()
    };
    eventually(PATIENCE, &running, "three restarts", || waits().len() >= 3);
    let waits = waits();
    assert!(waits[0] <= 120 && waits[1] >= 160 && waits[2] >= 320, "{waits:?}");
}

fn nothing_outlives_a_killed_command_line() {
    let home = Home::new();
    let (id, program) = (home.id("family"), this_program());
    let file = home.run_file(&format!(
        "- {{appDirPath: web, appID: {id}, command: [{program}, app, family]}}\n"
    ));
    let running = home.start(&["run", "-f", &file]);
    home.listed(&id, 1, &running);
    let cli = u64::from(running.child.id());
    // The guard, the sidecar, the app and its child.
    let mut family = BTreeSet::new();
    eventually(PATIENCE, &running, "the family", || {
        family = descendants(cli);
        family.len() == 4
    });
    // A killed guard is replaced and knows what to guard.
    let guard = *family.iter().find(|pid| is_guard(**pid)).unwrap();
    send(guard, Signal::KILL);
    eventually(BACK, &running, "a new guard", || {
        family = descendants(cli);
        family.len() == 4 && family.iter().any(|pid| *pid != guard && is_guard(*pid))
    });
    running.signal(Signal::KILL);
    eventually(Duration::from_secs(10), &running, "the end of all", || {
        !family.iter().any(|pid| alive(*pid))
    });
    assert!(home.list(&id).is_empty());
}

fn one_app_of_a_run_file_is_stopped_for_good() {
    let home = Home::new();
    let (one, other, program) = (home.id("one"), home.id("other"), this_program());
    let line = |id: &str| format!("- {{appDirPath: web, appID: {id}, command: [{program}, app, park]}}\n");
    let file = home.run_file(&format!("{}{}", line(&one), line(&other)));
    let mut running = home.start(&["run", "-f", &file]);
    let row = home.listed(&one, 1, &running).remove(0);
    home.listed(&other, 1, &running);
    let (status, text) = home.outrigger(&["stop", "--app-id", &one]);
    assert!(
        status.success() && text.contains(&format!("app stopped successfully: {one}")),
        "{text}"
    );
    for key in ["appPid", "daprdPid"] {
        assert!(
            !alive(number(&row, key)),
            "{key} of {row} lives:\n{}",
            running.text()
        );
    }
    assert!(home.list(&one).is_empty());
    assert_eq!(home.list(&other).len(), 1);
    let (status, text) = home.outrigger(&["stop", "--app-id", &one]);
    assert!(
        !status.success() && text.contains("couldn't find app id"),
        "{text}"
    );
    // The last app takes the command line with it.
    let (status, text) = home.outrigger(&["stop", &other]);
    assert!(status.success(), "{text}");
    assert_eq!(running.ends().code(), Some(0), "{}", running.text());
}

fn a_run_file_is_stopped_and_its_logs_stay() {
    let home = Home::new();
    let (id, program) = (home.id("web"), this_program());
    let file = home.run_file(&format!(
        "- appDirPath: web\n  appID: {id}\n  env: {{GREETING: hello there}}\n  command: [{program}, app, environment]\n"
    ));
    let mut running = home.start(&["run", "-f", &file]);
    let row = home.listed(&id, 1, &running).remove(0);
    assert_eq!(row["runTemplatePath"], file.as_str());
    assert_eq!(row["runTemplateName"], "shop");
    running.says(&format!("== APP - {id} == GREETING=hello there\n"));
    assert!(
        !running.text().contains("level=info"),
        "the sidecar's lines go to its file:\n{}",
        running.text()
    );
    let (status, text) = home.outrigger(&["logs", "--app-id", &id]);
    assert!(
        status.success() && text.contains("GREETING=hello there") && text.contains("level=info"),
        "{text}"
    );

    let (status, text) = home.outrigger(&["stop", "-f", &file]);
    assert!(status.success(), "{text}");
    assert_eq!(running.ends().code(), Some(0), "{}", running.text());
    assert!(!alive(number(&row, "appPid")) && !alive(number(&row, "daprdPid")));
    let (status, text) = home.outrigger(&["logs", "--app-id", &id, "--source", "app", "--tail", "10"]);
    assert!(
        status.success() && text.contains("GREETING=hello there"),
        "{text}"
    );
    assert!(!home.outrigger(&["stop", "-f", &file]).0.success());
}

fn an_interrupt_ends_a_run_in_order() {
    let home = Home::new();
    let (resources, id, program) = (home.path("resources"), home.id("interrupt"), this_program());
    let mut args = run_args(&resources, &id);
    args.extend(["--restart", "always", "--", &program, "app", "family"]);
    let mut running = home.start(&args);
    let row = home.listed(&id, 1, &running).remove(0);
    let family = descendants(u64::from(running.child.id()));
    running.signal(Signal::INT);
    assert_eq!(running.ends().code(), Some(0), "{}", running.text());
    eventually(PATIENCE, &running, "the end of all", || {
        !family.iter().any(|pid| alive(*pid))
    });
    let text = running.text();
    let place = |words: &str| {
        text.find(words)
            .unwrap_or_else(|| panic!("{words} not in:\n{text}"))
    };
    assert!(place("shutting down") < place("Exited App") && place("Exited App") < place("Exited Dapr"));
    assert!(!alive(number(&row, "daprdPid")));
}
