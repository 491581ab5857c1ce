//! Both versions as they run: two instances of `tasks`, one of `stats`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use futures::StreamExt as _;
use outrigger_kit::testing::{Cluster, Sidecar};
use outrigger_plumbing::{app_id, direct, kit};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::requests::{Caller, until};

/// A version whose services can be stopped and started.
pub(crate) trait Version {
    fn tasks(&self) -> [Caller; 2];
    async fn stop_stats(&mut self);
    async fn start_stats(&mut self);
    async fn stop(self);
}

/// One running service.
struct Member {
    address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl Member {
    fn caller(&self) -> Caller {
        Caller::new(&format!("http://{}", self.address))
    }

    async fn end(self) {
        self.stop.cancel();
        self.served.await.unwrap();
    }
}

/// The version by hand, on real servers.
pub(crate) struct ByHand {
    environment: BTreeMap<String, String>,
    tasks: [Member; 2],
    stats: Option<Member>,
}

impl ByHand {
    /// `None` where there are no servers.
    pub(crate) async fn start() -> Option<Self> {
        let (redis, rabbitmq) = (
            server("OUTRIGGER_TEST_REDIS")?,
            server("OUTRIGGER_TEST_RABBITMQ")?,
        );
        let prefix = format!("plumbing-{}", uuid::Uuid::new_v4().simple());
        let environment = BTreeMap::from([
            ("PLUMBING_REDIS".to_owned(), format!("redis://{redis}")),
            // With a slash at the end it would name a virtual host without a name.
            (
                "PLUMBING_RABBITMQ".to_owned(),
                rabbitmq.trim_end_matches('/').to_owned(),
            ),
            ("PLUMBING_PREFIX".to_owned(), prefix),
        ]);
        let mut version = Self {
            tasks: [
                Self::member(app_id::TASKS, &environment).await,
                Self::member(app_id::TASKS, &environment).await,
            ],
            stats: None,
            environment,
        };
        version.start_stats().await;
        for member in &version.tasks {
            member.caller().ready().await;
        }
        version.tasks()[0].connected().await;
        Some(version)
    }

    async fn member(service: &'static str, environment: &BTreeMap<String, String>) -> Member {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (environment, stop) = (environment.clone(), CancellationToken::new());
        let stopped = stop.clone().cancelled_owned();
        let served = tokio::spawn(async move {
            direct::run(service, &environment, listener, stopped)
                .await
                .unwrap();
        });
        Member {
            address,
            stop,
            served,
        }
    }

    /// One more instance of `tasks`, as a process.
    pub(crate) fn another(&self) -> (Killed, Caller) {
        let mut process = Command::new(env!("CARGO_BIN_EXE_plumbing"))
            .args(["direct", "tasks"])
            .envs(&self.environment)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.trim().strip_prefix("tasks is at ").unwrap();
        (Killed(process), Caller::new(url))
    }

    /// Reads along what is published.
    pub(crate) async fn listen(&self) -> Events {
        use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
        use lapin::types::FieldTable;
        let exchange = self.environment["PLUMBING_PREFIX"].as_str();
        let queue = format!("{exchange}-test");
        let connection =
            lapin::Connection::connect(&self.environment["PLUMBING_RABBITMQ"], Default::default())
                .await
                .unwrap();
        let channel = connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(queue.as_str().into(), options, FieldTable::default())
            .await
            .unwrap();
        let (options, table) = (QueueBindOptions::default(), FieldTable::default());
        channel
            .queue_bind(queue.as_str().into(), exchange.into(), "".into(), options, table)
            .await
            .unwrap();
        let (options, table) = (BasicConsumeOptions::default(), FieldTable::default());
        let messages = channel
            .basic_consume(queue.as_str().into(), "".into(), options, table)
            .await
            .unwrap();
        Events {
            messages,
            _connection: connection,
        }
    }
}

/// A process that ends with this.
pub(crate) struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is published from now on.
pub(crate) struct Events {
    messages: lapin::Consumer,
    _connection: lapin::Connection,
}

impl Events {
    pub(crate) async fn next(&mut self) -> Value {
        let message = tokio::time::timeout(std::time::Duration::from_secs(30), self.messages.next());
        let message = message.await.expect("an event in time").unwrap().unwrap();
        serde_json::from_slice(&message.data).unwrap()
    }
}

impl Version for ByHand {
    fn tasks(&self) -> [Caller; 2] {
        self.tasks.each_ref().map(Member::caller)
    }

    async fn stop_stats(&mut self) {
        self.stats.take().unwrap().end().await;
    }

    async fn start_stats(&mut self) {
        let member = Self::member(app_id::STATS, &self.environment).await;
        member.caller().ready().await;
        self.stats = Some(member);
    }

    async fn stop(self) {
        for member in self.tasks.into_iter().chain(self.stats) {
            member.end().await;
        }
    }
}

/// The version on the kit, beside sidecars in memory.
pub(crate) struct InMemory {
    cluster: Cluster,
    tasks: [(Member, Sidecar); 2],
    stats: Option<(Member, Sidecar)>,
}

impl InMemory {
    pub(crate) async fn start() -> Self {
        let cluster = Cluster::new();
        let version = Self {
            tasks: [
                Self::member(&cluster, app_id::TASKS).await,
                Self::member(&cluster, app_id::TASKS).await,
            ],
            stats: Some(Self::member(&cluster, app_id::STATS).await),
            cluster,
        };
        for (member, _) in version.tasks.iter().chain(&version.stats) {
            member.caller().ready().await;
        }
        version
    }

    async fn member(cluster: &Cluster, service: &'static str) -> (Member, Sidecar) {
        let sidecar = cluster.sidecar(service).await.unwrap();
        let mut environment = sidecar.environment();
        environment.insert("DAPR_RETRY_BASE_DELAY_MS".to_owned(), "20".to_owned());
        environment.insert("DAPR_CIRCUIT_BREAKER_DURATION_SECONDS".to_owned(), "1".to_owned());
        environment.insert("OTEL_SDK_DISABLED".to_owned(), "true".to_owned());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        sidecar.attach(address);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let served = tokio::spawn(async move {
            kit::run(service, environment, listener, stopped).await.unwrap();
        });
        let member = Member {
            address,
            stop,
            served,
        };
        (member, sidecar)
    }
}

impl Version for InMemory {
    fn tasks(&self) -> [Caller; 2] {
        self.tasks.each_ref().map(|(member, _)| member.caller())
    }

    async fn stop_stats(&mut self) {
        let (member, sidecar) = self.stats.take().unwrap();
        sidecar.set_down(true);
        member.end().await;
    }

    async fn start_stats(&mut self) {
        let started = Self::member(&self.cluster, app_id::STATS).await;
        started.0.caller().ready().await;
        self.stats = Some(started);
    }

    async fn stop(self) {
        for (member, _sidecar) in self.tasks.into_iter().chain(self.stats) {
            member.end().await;
        }
    }
}

/// The version on the kit as processes beside real sidecars and on real servers.
pub(crate) struct Processes {
    outrigger: Child,
    found: watch::Receiver<Vec<String>>,
    _home: tempfile::TempDir,
}

impl Processes {
    /// `None` where there are no servers, or no sidecar was built.
    pub(crate) async fn start() -> Option<Self> {
        let (redis, rabbitmq) = (
            server("OUTRIGGER_TEST_REDIS")?,
            server("OUTRIGGER_TEST_RABBITMQ")?,
        );
        let plumbing = PathBuf::from(env!("CARGO_BIN_EXE_plumbing"));
        let outrigger = plumbing.with_file_name("outrigger");
        if !outrigger.exists() {
            println!(
                "skipped: there is no outrigger beside plumbing; build it with: cargo build -p outrigger"
            );
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kit");
        fs::create_dir(home.path().join("resources")).unwrap();
        for file in ["statestore.yaml", "pubsub.yaml", "resiliency.yaml"] {
            let text = fs::read_to_string(here.join("resources").join(file)).unwrap();
            let text = text
                .replace("localhost:6379", &redis)
                .replace("amqp://guest:guest@localhost:5672", &rabbitmq);
            fs::write(home.path().join("resources").join(file), text).unwrap();
        }
        fs::copy(here.join("dapr.yaml"), home.path().join("dapr.yaml")).unwrap();
        let folder = plumbing.parent().unwrap().to_str().unwrap().to_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut outrigger = Command::new(outrigger)
            .args(["run", "-f"])
            .arg(home.path().join("dapr.yaml"))
            .env("PATH", format!("{folder}:{path}"))
            .env("OUTRIGGER_REGISTRY_DIR", home.path().join("registry"))
            .env("OTEL_SDK_DISABLED", "true")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let output = outrigger.stdout.take().unwrap();
        let (told, found) = watch::channel(Vec::new());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((_, url)) = line.split_once("tasks is at ") {
                    told.send_modify(|found: &mut Vec<String>| found.push(url.trim().to_owned()));
                }
                // Shown when the test fails.
                println!("{line}");
            }
        });
        let version = Self {
            outrigger,
            found,
            _home: home,
        };
        until("both instances tell their address", async || {
            (version.found.borrow().len() == 2).then_some(())
        })
        .await;
        for caller in &version.tasks() {
            caller.ready().await;
        }
        version.tasks()[0].connected().await;
        Some(version)
    }

    pub(crate) fn tasks(&self) -> [Caller; 2] {
        let found = self.found.borrow();
        [Caller::new(&found[0]), Caller::new(&found[1])]
    }

    pub(crate) async fn stop(mut self) {
        self.terminate();
        let status = until("the command line ends", async || {
            self.outrigger.try_wait().unwrap()
        })
        .await;
        assert!(status.success(), "{status}");
    }

    fn terminate(&self) {
        let pid = self.outrigger.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if matches!(self.outrigger.try_wait(), Ok(None)) {
            self.terminate();
            let _ = self.outrigger.wait();
        }
    }
}

/// Where a real server is.
fn server(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok();
    if found.is_none() {
        println!("skipped: {variable} is not set; cargo xtask services starts the servers");
    }
    found
}
