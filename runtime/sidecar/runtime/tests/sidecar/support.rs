//! A sidecar on free ports with its own folder, and a client that says what it saw.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use outrigger_sidecar::{AppOptions, Exit, MetricsListen, Sidecar, SidecarOptions};
use outrigger_sidecar_app_channel::Protocol;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Nothing here takes so long on any machine.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Running {
    pub(crate) sidecar: Sidecar,
    pub(crate) http: SocketAddr,
    folder: TempDir,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Running {
    /// Starts with these resource files and this Configuration, ready when it returns.
    pub(crate) async fn start(app: Option<SocketAddr>, files: &[(&str, &str)], configuration: &str) -> Self {
        Self::start_with(app, files, configuration, |_| {}).await
    }

    /// As [`Running::start`], with options of its own.
    pub(crate) async fn start_with(
        app: Option<SocketAddr>,
        files: &[(&str, &str)],
        configuration: &str,
        change: impl FnOnce(&mut SidecarOptions),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let resources = folder.path().join("resources");
        std::fs::create_dir(&resources).unwrap();
        for (name, text) in files {
            std::fs::write(resources.join(name), text).unwrap();
        }
        let config = folder.path().join("config.yaml");
        std::fs::write(&config, configuration).unwrap();
        let mut options = SidecarOptions::new("reloaded".into());
        options.http_port = 0;
        options.grpc_port = 0;
        options.listen_addresses = vec!["127.0.0.1".to_owned()];
        options.internal_grpc_listen_address = "127.0.0.1".to_owned();
        [options.internal_grpc_port] = outrigger_test_ports::free().unwrap();
        options.metrics = Some(MetricsListen {
            address: "127.0.0.1".to_owned(),
            port: 0,
        });
        options.resources_paths = vec![resources];
        options.config_paths = vec![config];
        options.base_dir = folder.path().to_owned();
        options.registry_dir = Some(folder.path().join("registry"));
        options.app = app.map(|app| AppOptions {
            port: app.port(),
            protocol: Protocol::Http,
            channel_address: "127.0.0.1".to_owned(),
            max_concurrency: None,
            health: None,
        });
        change(&mut options);
        let sidecar = Sidecar::start(options).await.unwrap();
        let http = sidecar.addresses().http[0];
        let running = Self {
            sidecar,
            http,
            folder,
        };
        running
            .until("GET", "/v1.0/healthz", "", |answer| answer.status == 204)
            .await;
        running
    }

    /// The folder that is all this sidecar's own.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("resources").join(name)
    }

    /// Puts a resource file in place, in one step.
    pub(crate) fn write(&self, name: &str, text: &str) {
        replace(&self.file(name), text);
    }

    pub(crate) fn configure(&self, text: &str) {
        replace(&self.folder.path().join("config.yaml"), text);
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        ask(self.http, method, path, body).await.unwrap()
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn until(
        &self,
        method: &str,
        path: &str,
        body: &str,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Answer {
        let mut last = None;
        let asking = async {
            loop {
                let answer = self.ask(method, path, body).await;
                if wanted(&answer) {
                    return answer;
                }
                last = Some(answer);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let answered = tokio::time::timeout(DEADLINE, asking).await;
        answered.unwrap_or_else(|_| panic!("{method} {path} never as wanted, at last {last:?}"))
    }

    /// Waits until the metadata says something of the components, or no longer.
    pub(crate) async fn until_metadata(&self, text: &str, says: bool) {
        self.until("GET", "/v1.0/metadata", "", |answer| {
            answer.body.contains(text) == says
        })
        .await;
    }

    pub(crate) async fn stop(self) -> Exit {
        self.sidecar.shutdown();
        tokio::time::timeout(DEADLINE, self.sidecar.wait()).await.unwrap()
    }
}

fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, path).unwrap();
}

/// One request on a connection of its own.
pub(crate) async fn ask(to: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(to).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    parse(&answer)
}

fn parse(answer: &str) -> std::io::Result<Answer> {
    let broken = || std::io::Error::other(format!("a broken answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    Ok(Answer {
        status: status.ok_or_else(broken)?,
        body: body.to_owned(),
    })
}

/// A client that keeps its connection; answers must have a length.
pub(crate) struct KeptAlive(TcpStream);

impl KeptAlive {
    pub(crate) async fn connect(to: SocketAddr) -> std::io::Result<Self> {
        TcpStream::connect(to).await.map(Self)
    }

    pub(crate) async fn ask(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<u16> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap_or(0));
        self.0.read_exact(&mut vec![0; length]).await?;
        Ok(parse(&head)?.status)
    }
}

/// Serves an app; it ends with the test.
pub(crate) async fn app(router: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

pub(crate) fn component(name: &str, kind: &str, metadata: &[(&str, &str)]) -> String {
    use std::fmt::Write as _;

    let mut text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: {kind}\n  version: v1\n  metadata:\n"
    );
    for (name, value) in metadata {
        let _ = write!(text, "  - name: {name}\n    value: {value:?}\n");
    }
    text.push_str("---\n");
    text
}

pub(crate) fn subscription(name: &str, topic: &str) -> String {
    format!(
        "apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata:\n  name: {name}\nspec:\n  pubsubname: broker\n  topic: {topic}\n  routes:\n    default: /{topic}\n---\n"
    )
}

pub(crate) fn resiliency(timeout: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata:\n  name: policies\nspec:\n  policies:\n    timeouts:\n      t: {timeout}\n  targets:\n    apps:\n      reloaded:\n        timeout: t\n"
    )
}

pub(crate) const PLAIN: &str =
    "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: plain\nspec: {}\n";
