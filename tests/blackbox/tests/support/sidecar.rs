//! One `daprd` process.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use outrigger_wire::dapr::proto::runtime::v1::dapr_client::DaprClient;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};

use super::{PATIENCE, client, eventually, program};

/// How a sidecar is to be started.
#[derive(Debug)]
pub(crate) struct Launch {
    app_id: String,
    program: Option<PathBuf>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    resources: Vec<(String, String)>,
    folder: Option<PathBuf>,
}

impl Launch {
    pub(crate) fn new(app_id: &str) -> Self {
        Self {
            app_id: app_id.to_owned(),
            program: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            resources: Vec::new(),
            folder: None,
        }
    }

    /// Another program than ours.
    pub(crate) fn program(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    pub(crate) fn args<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.arguments.extend(arguments.map(str::to_owned));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A resource file.
    pub(crate) fn resource(mut self, file: &str, text: &str) -> Self {
        self.resources.push((file.to_owned(), text.to_owned()));
        self
    }

    /// A component with this metadata.
    pub(crate) fn component(self, name: &str, kind: &str, metadata: &[(&str, &str)]) -> Self {
        let text = component(name, kind, metadata);
        self.resource(&format!("{name}.yaml"), &text)
    }

    /// Where it runs; by default in a folder of its own that goes with it.
    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(self) -> Sidecar {
        let home = tempfile::tempdir().unwrap();
        let resources = home.path().join("resources");
        std::fs::create_dir(&resources).unwrap();
        for (file, text) in &self.resources {
            std::fs::write(resources.join(file), text).unwrap();
        }
        let (program, first) = match self.program {
            Some(program) => (program, Vec::new()),
            None => program::ours(),
        };
        let [http, grpc, metrics, internal] = outrigger_test_ports::free().unwrap();
        let mut command = Command::new(program);
        command
            .args(first)
            .args(["--app-id", &self.app_id])
            .args([
                "--dapr-http-port",
                &http.to_string(),
                "--dapr-grpc-port",
                &grpc.to_string(),
            ])
            .args(["--dapr-internal-grpc-port", &internal.to_string()])
            .args([
                "--metrics-port",
                &metrics.to_string(),
                "--metrics-listen-address",
                "127.0.0.1",
            ])
            .args(["--dapr-listen-addresses", "127.0.0.1"])
            .arg("--resources-path")
            .arg(&resources);
        let log = home.path().join("log");
        let output = File::create(&log).unwrap();
        let child = command
            .args(&self.arguments)
            .current_dir(self.folder.as_deref().unwrap_or(home.path()))
            .env_remove("DAPR_API_TOKEN")
            .env_remove("APP_API_TOKEN")
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Sidecar {
            app_id: self.app_id,
            child,
            http,
            grpc,
            metrics,
            internal,
            resources,
            log,
            _home: home,
        }
    }

    /// Starts it and waits until it is healthy.
    pub(crate) async fn start(self) -> Sidecar {
        let mut sidecar = self.spawn();
        sidecar.ready().await;
        sidecar
    }

    /// Starts it before an app on this port and waits until it is healthy.
    pub(crate) async fn start_with_app(self, port: u16) -> Sidecar {
        self.args(["--app-port", &port.to_string()]).start().await
    }
}

/// A sidecar with a component of every kind, its files in this folder.
pub(crate) async fn sidecar_with_everything(files: &Path, app: u16) -> Sidecar {
    std::fs::write(files.join("secrets.json"), r#"{"k":"v","nested":{"a":"b"}}"#).unwrap();
    std::fs::create_dir(files.join("keys")).unwrap();
    std::fs::create_dir(files.join("files")).unwrap();
    std::fs::write(files.join("keys/key"), [7; 32]).unwrap();
    let path = |name: &str| files.join(name).to_str().unwrap().to_owned();
    Launch::new("fuzzed")
        .folder(files)
        .env("OUTRIGGER_REGISTRY_DIR", &path("registry"))
        .component("memory", "state.in-memory", &[])
        .component(
            "sqlite",
            "state.sqlite",
            &[("connectionString", &path("state.db")), ("synchronous", "OFF")],
        )
        .component("events", "pubsub.in-memory", &[])
        .component(
            "durable-events",
            "pubsub.sqlite",
            &[("connectionString", &path("pubsub.db")), ("synchronous", "OFF")],
        )
        .component(
            "secrets",
            "secretstores.local.file",
            &[("secretsFile", &path("secrets.json"))],
        )
        .component(
            "configuration",
            "configuration.sqlite",
            &[("connectionString", &path("configuration.db"))],
        )
        .component("lock", "lock.sqlite", &[("connectionString", &path("lock.db"))])
        .component("crypto", "crypto.dapr.localstorage", &[("path", &path("keys"))])
        .component("files", "bindings.localstorage", &[("rootPath", &path("files"))])
        .component("web", "bindings.http", &[("url", "http://127.0.0.1:1")])
        .component("conversation", "conversation.echo", &[])
        .component("shout", "middleware.http.uppercase", &[])
        .start_with_app(app)
        .await
}

/// The text of a component.
pub(crate) fn component(name: &str, kind: &str, metadata: &[(&str, &str)]) -> String {
    let metadata: String = metadata
        .iter()
        .map(|(name, value)| {
            format!(
                "  - name: {name}\n    value: {}\n",
                serde_json::Value::from(*value)
            )
        })
        .collect();
    let metadata = if metadata.is_empty() {
        "  metadata: []\n".to_owned()
    } else {
        format!("  metadata:\n{metadata}")
    };
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: {kind}\n  version: v1\n{metadata}"
    )
}

/// A running sidecar; killed when dropped.
#[derive(Debug)]
pub(crate) struct Sidecar {
    pub(crate) app_id: String,
    child: Child,
    pub(crate) http: u16,
    pub(crate) grpc: u16,
    pub(crate) metrics: u16,
    pub(crate) internal: u16,
    /// Its folder of resources.
    pub(crate) resources: PathBuf,
    log: PathBuf,
    /// Goes with the sidecar.
    _home: TempDir,
}

impl Sidecar {
    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    async fn ready(&mut self) {
        let url = self.url("/v1.0/healthz");
        let began = std::time::Instant::now();
        loop {
            if client::get(&url).await.is_ok_and(|answer| answer.status == 204) {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended with {status}:\n{}", self.app_id, self.log());
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{} is not ready:\n{}",
                self.app_id,
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// `path` starts with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    pub(crate) async fn channel(&self) -> Channel {
        let address = format!("http://127.0.0.1:{}", self.grpc);
        eventually("the gRPC port", || async {
            Endpoint::from_shared(address.clone())
                .unwrap()
                .connect()
                .await
                .ok()
        })
        .await
    }

    pub(crate) async fn dapr(&self) -> DaprClient<Channel> {
        DaprClient::new(self.channel().await)
    }

    /// A line of the log that contains all of this.
    pub(crate) async fn logs(&self, parts: &[&str]) -> String {
        eventually(&format!("{parts:?} in the log"), || async {
            let log = self.log();
            log.lines()
                .find(|line| parts.iter().all(|part| line.contains(part)))
                .map(str::to_owned)
        })
        .await
    }

    /// Memory in use, and the most there ever was, in KiB.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok())
                .unwrap_or(0)
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("the sidecar runs")
    }

    /// Serves, has not died, has not panicked.
    pub(crate) async fn assert_alive(&mut self) {
        let answer = tokio::time::timeout(PATIENCE, client::get(&self.url("/v1.0/healthz"))).await;
        let answer = answer
            .expect("health answers")
            .unwrap_or_else(|error| panic!("{error}:\n{}", tail(&self.log())));
        assert_eq!(answer.status, 204, "{}", answer.text());
        assert!(self.child.try_wait().unwrap().is_none());
        let log = self.log();
        assert!(!log.contains("panicked at"), "a panic:\n{}", tail(&log));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("it does not end:\n{}", tail(&self.log())))
            .unwrap()
    }

    /// Asks it to go and waits until it has gone.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// As the kernel ends it when memory is short: with no chance to say anything.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }
}

fn tail(log: &str) -> &str {
    let from = log.len().saturating_sub(4000);
    &log[log.ceil_char_boundary(from)..]
}

/// A client of a gRPC server on a Unix socket.
pub(crate) async fn unix_channel(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .unwrap()
}
