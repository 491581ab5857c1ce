//! Managers as processes beside real sidecars: killed, and put to sleep in the middle of a turn.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use outrigger_kit::{Client, Environment};
use outrigger_platform_service::Backend;
use outrigger_platform_wire::virtufin as proto;
use outrigger_platform_workers::lock::LockRecord;
use outrigger_platform_workers::names::group_lock_key;
use proto::work_manager_client::WorkManagerClient;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

use super::by_sidecar::support::{PUBSUB, STORE, event, until, worker};

/// The programs, where they were built.
struct Programs {
    outrigger: PathBuf,
    /// The manager with the engine of the tests.
    example: PathBuf,
    /// The manager as it is shipped.
    manager: PathBuf,
}

impl Programs {
    fn find() -> Option<Self> {
        let manager = PathBuf::from(env!("CARGO_BIN_EXE_workmanager"));
        let outrigger = manager.with_file_name("outrigger");
        if !outrigger.exists() {
            eprintln!(
                "skipped: there is no outrigger beside workmanager; build it with: cargo build -p outrigger"
            );
            return None;
        }
        let example = manager.with_file_name("examples").join("own_engine");
        Some(Self {
            outrigger,
            example,
            manager,
        })
    }
}

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn start(program: &Path, folder: &Path, log: &str, arguments: &[String]) -> Self {
        let log = fs::File::create(folder.join(log)).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn component(folder: &Path, name: &str, kind: &str) {
    let text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: {kind}\n  version: v1\n  metadata:\n  - name: connectionString\n    value: {name}.db\n"
    );
    fs::write(folder.join("resources").join(format!("{name}.yaml")), text).unwrap();
}

/// Components that all sidecars of a folder share.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("resources")).unwrap();
    component(home.path(), STORE, "state.sqlite");
    component(home.path(), PUBSUB, "pubsub.sqlite");
    home
}

struct Sidecar {
    _process: Process,
    http: u16,
    grpc: u16,
    client: Client,
}

impl Sidecar {
    async fn start(programs: &Programs, home: &Path, app_id: &str, log: &str) -> Self {
        let [http, grpc, metrics, internal] = outrigger_test_ports::free().unwrap();
        let arguments = [
            "daprd".to_owned(),
            format!("--app-id={app_id}"),
            format!("--dapr-http-port={http}"),
            format!("--dapr-grpc-port={grpc}"),
            format!("--dapr-internal-grpc-port={internal}"),
            format!("--metrics-port={metrics}"),
            "--metrics-listen-address=127.0.0.1".to_owned(),
            "--dapr-listen-addresses=127.0.0.1".to_owned(),
            "--resources-path=resources".to_owned(),
        ];
        let process = Process::start(&programs.outrigger, home, log, &arguments);
        let environment = Environment::from([
            ("DAPR_HTTP_PORT".to_owned(), http.to_string()),
            ("DAPR_GRPC_PORT".to_owned(), grpc.to_string()),
        ]);
        let client = Client::builder().environment(environment).build().unwrap();
        client
            .wait_for_sidecar(std::time::Duration::from_secs(60))
            .await
            .unwrap();
        Self {
            _process: process,
            http,
            grpc,
            client,
        }
    }

    fn backend(&self) -> Backend {
        Backend::sidecar(self.client.clone(), STORE, PUBSUB)
    }
}

struct Manager {
    process: Process,
    http: u16,
    client: WorkManagerClient<Channel>,
}

impl Manager {
    fn start(program: &Path, home: &Path, name: &str, sidecar: &Sidecar, more: &[&str]) -> Self {
        let [http, grpc] = outrigger_test_ports::free().unwrap();
        let mut arguments = vec![
            format!("--instance={name}"),
            format!("--http-port={http}"),
            format!("--grpc-port={grpc}"),
            format!("--dapr-http-port={}", sidecar.http),
            format!("--dapr-grpc-port={}", sidecar.grpc),
            "--worker-sync-interval-ms=100".to_owned(),
        ];
        arguments.extend(more.iter().map(|flag| (*flag).to_owned()));
        let channel = Endpoint::from_shared(format!("http://127.0.0.1:{grpc}")).unwrap();
        Self {
            process: Process::start(program, home, &format!("{name}.log"), &arguments),
            http,
            client: WorkManagerClient::new(channel.connect_lazy()),
        }
    }

    async fn ready(&self) {
        until("the manager's health passes", async || {
            let (status, _) = super::by_sidecar::support::try_http(self.http, "/health/ready").await?;
            (status == 200).then_some(())
        })
        .await;
    }

    async fn create(&self, request: proto::CreateWorkerRequest) -> String {
        let created = self.client.clone().create_worker(request).await.unwrap();
        created.into_inner().id
    }
}

/// All events of a topic, as they come.
async fn watch(backend: &Backend, topic: &str) -> mpsc::UnboundedReceiver<Value> {
    let mut deliveries = backend.subscribe(topic).await.unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(delivery) = deliveries.next().await {
            let event = serde_json::to_value(&delivery.event).unwrap();
            delivery.settle(outrigger_kit::Ack::Success);
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Waits until every one of these inputs has an output; answers all outputs in their order.
async fn all_of(outputs: &mut mpsc::UnboundedReceiver<Value>, inputs: &BTreeSet<String>) -> Vec<Value> {
    let mut seen = Vec::new();
    let mut missing = inputs.clone();
    while !missing.is_empty() {
        let wait = tokio::time::timeout(std::time::Duration::from_secs(90), outputs.recv());
        let Ok(Some(output)) = wait.await else {
            panic!("no output of {missing:?}");
        };
        missing.remove(output["data"]["of"].as_str().unwrap());
        seen.push(output);
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_3_h3_1_a_manager_killed_under_load_loses_no_event_and_repeats_under_the_same_ids() {
    let Some(programs) = Programs::find() else { return };
    let home = home();
    let sidecar = Sidecar::start(&programs, home.path(), "workmanager", "sidecar.log").await;
    let watcher = Sidecar::start(&programs, home.path(), "watcher", "watcher.log").await;
    let backend = watcher.backend();
    let mut outputs = watch(&backend, "priced").await;
    let mut manager = Manager::start(&programs.example, home.path(), "one", &sidecar, &[]);
    manager.ready().await;
    let recipe = json!({"type": "priced", "sleep_ms": 20});
    let id = manager.create(worker("orders", &recipe)).await;
    let inputs: BTreeSet<String> = (0..200).map(|number| number.to_string()).collect();
    let publish = async {
        for input in &inputs {
            backend.publish("orders", &event(input)).await.unwrap();
        }
    };
    let kill = async {
        for life in 0..3 {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            let next = format!("life-{life}");
            let old = std::mem::replace(
                &mut manager,
                Manager::start(&programs.example, home.path(), &next, &sidecar, &[]),
            );
            old.process.kill();
            manager.ready().await;
            // The worker is back in its state at the moment that health passes.
            let ask = proto::ListWorkersRequest::default();
            let listed = manager
                .client
                .clone()
                .list_workers(ask)
                .await
                .unwrap()
                .into_inner();
            assert_eq!(listed.workers[0].id, id);
            assert_eq!(listed.workers[0].status(), proto::WorkerStatus::Running);
        }
    };
    tokio::join!(publish, kill);
    let outputs = all_of(&mut outputs, &inputs).await;
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for output in &outputs {
        let of = output["data"]["of"].to_string();
        ids.entry(of).or_default().insert(output["id"].to_string());
    }
    assert_eq!(ids.len(), 200);
    assert!(ids.values().all(|ids| ids.len() == 1), "a repeat has the same id");
    println!("{} outputs of 200 events over three kills", outputs.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h4_4_a_holder_that_sleeps_past_its_lease_is_robbed_and_its_late_output_refused() {
    let Some(programs) = Programs::find() else { return };
    let home = home();
    let watcher = Sidecar::start(&programs, home.path(), "watcher", "watcher.log").await;
    let backend = watcher.backend();
    let mut outputs = watch(&backend, "priced").await;
    let mut told = watch(&backend, "workmanager.infra.grouplock").await;
    let flags = [
        "--group-lock-lease-ms=1000",
        "--group-lock-max-retries=8",
        "--group-lock-retry-base-delay-ms=50",
        "--group-lock-max-redeliveries=1000",
    ];
    let mut managers = BTreeMap::new();
    let mut sidecars = Vec::new();
    for name in ["a", "b"] {
        let sidecar = Sidecar::start(
            &programs,
            home.path(),
            "workmanager",
            &format!("sidecar-{name}.log"),
        )
        .await;
        let manager = Manager::start(&programs.example, home.path(), name, &sidecar, &flags);
        manager.ready().await;
        managers.insert(name.to_owned(), manager);
        sidecars.push(sidecar);
    }
    let go = home.path().join("go");
    let mut request = worker("orders", &json!({"type": "priced", "until": go}));
    request.group = "pricing".to_owned();
    managers["a"].create(request).await;
    backend.publish("orders", &event("first")).await.unwrap();
    let shared = sidecars[0].backend();
    let holder = until("somebody has the turn", async || {
        let stored = shared.get(&group_lock_key("pricing")).await.unwrap()?;
        let record: LockRecord = stored.read().unwrap();
        Some(record.owner_instance_id).filter(|owner| !owner.is_empty())
    })
    .await;
    managers[&holder].process.signal("-STOP");
    fs::write(&go, "").unwrap();
    let inputs: BTreeSet<String> = (0..10).map(|number| number.to_string()).collect();
    for input in &inputs {
        backend.publish("orders", &event(input)).await.unwrap();
    }
    let robbed = tokio::time::timeout(std::time::Duration::from_secs(60), told.recv());
    let robbed = robbed.await.unwrap().unwrap();
    assert_eq!(robbed["data"]["event"], "robbed");
    assert_eq!(robbed["data"]["holder"], holder);
    // The successor has published something by the time the sleeper wakes.
    let early = outputs.recv().await.unwrap();
    managers[&holder].process.signal("-CONT");
    let refused = tokio::time::timeout(std::time::Duration::from_secs(60), told.recv());
    let refused = refused.await.unwrap().unwrap();
    assert_eq!(refused["data"]["event"], "refused");
    assert_eq!(refused["data"]["instance_id"], holder);
    assert_eq!(refused["data"]["fencing_token"], 1);

    let mut missing = inputs;
    missing.insert("first".to_owned());
    missing.remove(early["data"]["of"].as_str().unwrap());
    let mut all = vec![early];
    all.extend(all_of(&mut outputs, &missing).await);
    let token = |output: &Value| -> u64 { output["fencingtoken"].as_str().unwrap().parse().unwrap() };
    assert!(
        all.iter().all(|output| token(output) > 1),
        "what the sleeper made was not published"
    );
    let mut seen = BTreeSet::new();
    let firsts: Vec<u64> = all
        .iter()
        .filter(|output| seen.insert(output["id"].to_string()))
        .map(token)
        .collect();
    assert_eq!(firsts.len(), 11);
    println!("tokens in the order of outputs: {firsts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_manager_runs_workers_in_python() {
    let Some(programs) = Programs::find() else { return };
    let home = home();
    let sidecar = Sidecar::start(&programs, home.path(), "workmanager", "sidecar.log").await;
    let watcher = Sidecar::start(&programs, home.path(), "watcher", "watcher.log").await;
    let backend = watcher.backend();
    let mut outputs = watch(&backend, "priced").await;
    let manager = Manager::start(&programs.manager, home.path(), "one", &sidecar, &[]);
    manager.ready().await;
    let code = "def Process(event):\n    return {'type': 'priced', 'source': 'python', 'data': {'of': event['id'], 'n': event['data']['n'] + 1}}\n";
    let request = proto::CreateWorkerRequest {
        code_source: Some(proto::CodeSource {
            source: Some(proto::code_source::Source::Content(code.into())),
            ..proto::CodeSource::default()
        }),
        mime_type: "text/x-python".to_owned(),
        topic: "orders".to_owned(),
        ..proto::CreateWorkerRequest::default()
    };
    match manager.client.clone().create_worker(request).await {
        Ok(_) => {}
        Err(status) if status.code() == tonic::Code::FailedPrecondition => {
            eprintln!("skipped: {}", status.message());
            return;
        }
        Err(status) => panic!("{status}"),
    }
    // What is refused for where it is from is in the audit log, without its query (H5.3).
    let mut inner = worker("orders", &json!({}));
    inner.mime_type = "text/x-python".to_owned();
    inner.code_source = Some(proto::CodeSource {
        source: Some(proto::code_source::Source::Url(
            "http://169.254.169.254/code?key=s3cret".to_owned(),
        )),
        ..proto::CodeSource::default()
    });
    let refused = manager.client.clone().create_worker(inner).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let log = fs::read_to_string(home.path().join("one.log")).unwrap();
    let line = log.lines().find(|line| line.contains("code source was refused"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(
        line.contains("audit") && line.contains("http://169.254.169.254/code"),
        "{line}"
    );
    assert!(!log.contains("s3cret"));

    backend.publish("orders", &event("first")).await.unwrap();
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), outputs.recv());
    let output = output.await.unwrap().unwrap();
    assert_eq!(output["data"], json!({"of": "first", "n": 2}));
    let broken = proto::CreateWorkerRequest {
        code_source: Some(proto::CodeSource {
            source: Some(proto::code_source::Source::Content("import socket\n".into())),
            ..proto::CodeSource::default()
        }),
        mime_type: "text/x-python".to_owned(),
        topic: "orders".to_owned(),
        ..proto::CreateWorkerRequest::default()
    };
    let refused = manager.client.clone().create_worker(broken).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("socket"), "{refused}");
}
