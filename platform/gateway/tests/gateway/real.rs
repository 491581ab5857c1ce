//! Two gateways as processes beside real sidecars, each with files of its own: the first calls the second by its app
//! id, through both sidecars, and keeps state and events with them.
//!
//! `OUTRIGGER_BIN` names the sidecar's program (or a Dapr's `daprd`); else the one that was built beside these tests.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use outrigger_platform_wire::virtufin::gateway_client::GatewayClient;
use outrigger_platform_wire::virtufin::pubsub_client::PubsubClient;
use outrigger_platform_wire::virtufin::state_client::StateClient;
use outrigger_platform_wire::virtufin::{
    GetStateRequest, InvokeJsonRequest, ListMethodsRequest, PublishRequest, PubsubSubscribeRequest,
    PubsubSubscribeResponse, SaveStateRequest,
};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

const LIMIT: Duration = Duration::from_secs(60);

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The sidecar's program, if there is one, and what it is called with.
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
fn sidecar() -> Option<(PathBuf, &'static [&'static str])> {
    if let Some(path) = std::env::var_os("OUTRIGGER_BIN") {
        let path = PathBuf::from(path);
        let daprd = path.file_name().is_some_and(|name| name == "daprd");
        return Some((path, if daprd { &[] } else { &["daprd"] }));
    }
    let beside = Path::new(env!("CARGO_BIN_EXE_gateway")).with_file_name("outrigger");
    if beside.exists() {
        return Some((beside, &["daprd"]));
    }
    eprintln!("skipped: no outrigger beside these tests; build it with: cargo build -p outrigger");
    None
}

fn ports<const N: usize>() -> [String; N] {
    outrigger_test_ports::free().unwrap().map(|port| port.to_string())
}

fn start(program: &Path, arguments: &[&str]) -> Process {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Process(child)
}

/// A gateway with its sidecar.
struct Pair {
    channel: Channel,
    http: String,
    _processes: [Process; 2],
}

fn pair(program: &(PathBuf, &[&str]), app_id: &str, folder: &Path) -> Pair {
    pair_with(program, app_id, folder, "pubsub")
}

fn pair_with(program: &(PathBuf, &[&str]), app_id: &str, folder: &Path, pubsub: &str) -> Pair {
    let [http, grpc, web, dapr_http, dapr_grpc, internal, metrics, public] = ports();
    let services = folder.join("services.yaml");
    let resources = folder.join("resources");
    let config = folder.join("config.yaml");
    let gateway = start(
        Path::new(env!("CARGO_BIN_EXE_gateway")),
        &[
            "--services",
            services.to_str().unwrap(),
            "--http-port",
            &http,
            "--grpc-port",
            &grpc,
            "--grpc-web-port",
            &web,
            "--dapr-http-port",
            &dapr_http,
            "--dapr-grpc-port",
            &dapr_grpc,
            "--pubsub-name",
            pubsub,
        ],
    );
    let mut arguments = program.1.to_vec();
    arguments.extend([
        "--app-id",
        app_id,
        "--app-port",
        &grpc,
        "--app-protocol",
        "grpc",
        "--dapr-http-port",
        &dapr_http,
        "--dapr-grpc-port",
        &dapr_grpc,
        "--dapr-internal-grpc-port",
        &internal,
        "--metrics-port",
        &metrics,
        "--dapr-public-port",
        &public,
        "--placement-host-address",
        "",
        "--config",
        config.to_str().unwrap(),
        "--resources-path",
        resources.to_str().unwrap(),
    ]);
    let sidecar = start(&program.0, &arguments);
    Pair {
        channel: Endpoint::from_shared(format!("http://127.0.0.1:{grpc}"))
            .unwrap()
            .connect_lazy(),
        http: format!("127.0.0.1:{http}"),
        _processes: [gateway, sidecar],
    }
}

/// What a gateway's page for Prometheus shows (C6).
async fn page(pair: &Pair) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(&pair.http).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

fn write_files(folder: &Path) {
    std::fs::create_dir(folder.join("resources")).unwrap();
    let component = |name: &str, kind: &str| {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec: {{type: {kind}, version: v1, metadata: []}}\n"
        )
    };
    let components = [
        component("statestore", "state.in-memory"),
        component("pubsub", "pubsub.in-memory"),
    ];
    std::fs::write(folder.join("resources/components.yaml"), components.join("---\n")).unwrap();
    let names = folder.join("names.db");
    let config = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: test}}\nspec:\n  nameResolution:\n    \
         component: sqlite\n    version: v1\n    configuration: {{connectionString: \"{}\"}}\n",
        names.display()
    );
    std::fs::write(folder.join("config.yaml"), config).unwrap();
    std::fs::write(
        folder.join("services.yaml"),
        "services:\n  - name: second\n    daprAppId: second-gateway\n",
    )
    .unwrap();
}

#[tokio::test]
async fn beside_real_sidecars_services_state_and_events_work() {
    let Some(program) = sidecar() else { return };
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path());
    let first = pair(&program, "gateway", folder.path());
    let _second = pair(&program, "second-gateway", folder.path());

    // By reflection and calls through both sidecars.
    let mut gateway = GatewayClient::new(first.channel.clone());
    let deadline = Instant::now() + LIMIT;
    let methods = loop {
        let ask = ListMethodsRequest {
            service: "second".to_owned(),
        };
        match gateway.list_methods(ask).await {
            Ok(answer) => break answer.into_inner().methods,
            Err(status) if Instant::now() > deadline => panic!("{status}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    assert!(
        methods
            .iter()
            .any(|method| method.full_name == "virtufin.State.SaveState")
    );
    let mut invoke = async |method: &str, json: &str| {
        let ask = InvokeJsonRequest {
            service: "second".to_owned(),
            method: method.to_owned(),
            request_data: json.to_owned(),
        };
        gateway.invoke_json(ask).await.unwrap().into_inner()
    };
    let answer = invoke("virtufin.Gateway/ListServices", "").await;
    assert_eq!(
        answer.response_data, r#"{"services":["second"]}"#,
        "{}",
        answer.message
    );
    assert_eq!(
        invoke("GetService", r#"{"name": "nobody"}"#).await.status,
        "NOT_FOUND"
    );

    let mut state = StateClient::new(first.channel.clone());
    let save = |value: &str, etag: &str, create_only: bool| SaveStateRequest {
        service: "orders".to_owned(),
        key: "a/b".to_owned(),
        value: value.to_owned(),
        etag: etag.to_owned(),
        create_only,
        ..SaveStateRequest::default()
    };
    let etag = state
        .save_state(save(r#"{"n":1}"#, "", true))
        .await
        .unwrap()
        .into_inner()
        .etag;
    assert!(!etag.is_empty());
    let newer = state
        .save_state(save("2", &etag, false))
        .await
        .unwrap()
        .into_inner()
        .etag;
    for stale in [save("3", &etag, false), save("3", "", true)] {
        assert_eq!(state.save_state(stale).await.unwrap_err().code(), Code::Aborted);
    }
    let ask = GetStateRequest {
        service: "orders".to_owned(),
        key: "a/b".to_owned(),
    };
    let found = state.get_state(ask).await.unwrap().into_inner();
    assert_eq!((found.value.as_str(), &found.etag), ("2", &newer));

    let mut pubsub = PubsubClient::new(first.channel.clone());
    let ask = PubsubSubscribeRequest {
        topics: vec!["t".to_owned()],
    };
    let mut events = pubsub.subscribe(ask).await.unwrap().into_inner();
    for data in [&b"{\"a\":1}"[..], b"plain", b"\x00\xFF\xFE"] {
        let event = PublishRequest {
            topic: "t".to_owned(),
            data: bytes::Bytes::copy_from_slice(data),
            metadata: [
                ("ce-type".to_owned(), "made".to_owned()),
                ("ce-subject".to_owned(), "s".to_owned()),
                ("correlationid".to_owned(), "c".to_owned()),
            ]
            .into(),
            cloudevent: None,
        };
        pubsub.publish_event(event).await.unwrap();
        let event = tokio::time::timeout(LIMIT, events.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(event.data, data);
        let told = |name: &str| event.metadata.get(name).map(String::as_str);
        assert_eq!(told("ce-type"), Some("made"));
        assert_eq!(told("ce-subject"), Some("s"));
        assert_eq!(told("correlationid"), Some("c"));
        assert!(!event.timestamp.is_empty());
    }

    // All of it was counted by the kit below, for who asks in Prometheus's way.
    let page = page(&first).await;
    for parts in [
        &["# TYPE dapr_client_duration_seconds histogram"][..],
        &[
            "dapr_client_duration_seconds_count{",
            "dapr_api=\"state\"",
            "http_response_status_code=\"204\"",
        ],
        &["dapr_client_duration_seconds_count{", "dapr_api=\"publish\""],
        &["target_info{", "service_name=\"gateway\""],
    ] {
        let holds = |line: &str| parts.iter().all(|part| line.contains(part));
        assert!(page.lines().any(holds), "{parts:?} in {page}");
    }
}

/// As it is shipped, for a file of the test.
const FAN_OUT: &str = include_str!("../../../../deploy/platform/gateway/pubsub-gateway.yaml");

async fn stream_of(gateway: &Pair, topic: &str) -> tonic::Streaming<PubsubSubscribeResponse> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let ask = PubsubSubscribeRequest {
            topics: vec![topic.to_owned()],
        };
        match PubsubClient::new(gateway.channel.clone()).subscribe(ask).await {
            Ok(answer) => return answer.into_inner(),
            Err(status) if Instant::now() > deadline => panic!("{status}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn publish_numbers(gateway: &Pair, topic: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let event = PublishRequest {
            topic: topic.to_owned(),
            data: number.to_string().into(),
            metadata: [("ce-type".to_owned(), "made".to_owned())].into(),
            cloudevent: None,
        };
        PubsubClient::new(gateway.channel.clone())
            .publish_event(event)
            .await
            .unwrap();
    }
}

/// The numbers of so many events, sorted: a broker that delivers side by side keeps no order.
async fn read_numbers(stream: &mut tonic::Streaming<PubsubSubscribeResponse>, count: usize) -> Vec<u32> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let event = tokio::time::timeout(LIMIT, stream.message()).await;
        let event = event.unwrap_or_else(|_| panic!("{} of {count} events came", numbers.len()));
        let data = event.unwrap().unwrap().data;
        let number: u32 = std::str::from_utf8(&data).unwrap().parse().unwrap();
        // Delivery is at least once.
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    numbers
}

/// Two gateways of one app id, one of which is replaced: streams at both get every event.
async fn every_instance_streams_every_event(program: &(PathBuf, &[&str]), component: &str) {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path());
    std::fs::write(folder.path().join("resources/pubsub-gateway.yaml"), component).unwrap();
    // Brokers may be shared by several runs.
    let topic = uuid::Uuid::new_v4().to_string();
    let gateway = || pair_with(program, "gateway", folder.path(), "pubsub-gateway");
    let (one, two) = (gateway(), gateway());
    let mut at_one = stream_of(&one, &topic).await;
    let mut at_two = stream_of(&two, &topic).await;
    publish_numbers(&one, &topic, 0..20).await;
    publish_numbers(&two, &topic, 20..40).await;
    let all: Vec<u32> = (0..40).collect();
    assert_eq!(read_numbers(&mut at_one, 40).await, all);
    assert_eq!(read_numbers(&mut at_two, 40).await, all);

    // A second stream of the same gateway shares its subscription.
    let mut also_at_one = stream_of(&one, &topic).await;
    drop((at_two, two));
    let three = gateway();
    let mut at_three = stream_of(&three, &topic).await;
    publish_numbers(&one, &topic, 40..60).await;
    publish_numbers(&three, &topic, 60..80).await;
    let new: Vec<u32> = (40..80).collect();
    for stream in [&mut at_one, &mut also_at_one] {
        assert_eq!(read_numbers(stream, 40).await, new);
    }
    // Where a new group begins with what the broker kept, that comes first.
    let mut of_three = read_numbers(&mut at_three, 40).await;
    while !new.iter().all(|number| of_three.contains(number)) {
        of_three.extend(read_numbers(&mut at_three, 1).await);
    }
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
async fn every_instance_of_a_gateway_streams_every_event() {
    let Some(program) = sidecar() else { return };
    if program.1.is_empty() {
        eprintln!("skipped: a daprd has no pubsub.sqlite");
        return;
    }
    let file = tempfile::tempdir().unwrap();
    let shipped = "data/pubsub.db";
    assert!(FAN_OUT.contains(shipped));
    let path = file.path().join("pubsub.db");
    let component = FAN_OUT.replace(shipped, path.to_str().unwrap());
    every_instance_streams_every_event(&program, &component).await;
}

/// Runs beside a real daprd too: `OUTRIGGER_BIN`.
#[tokio::test]
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
async fn every_instance_of_a_gateway_streams_every_event_of_redis() {
    let Some(program) = sidecar() else { return };
    let Ok(redis) = std::env::var("OUTRIGGER_TEST_REDIS") else {
        eprintln!("skipped: no OUTRIGGER_TEST_REDIS");
        return;
    };
    let component = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: pubsub-gateway}}\nspec:\n  \
         type: pubsub.redis\n  version: v1\n  metadata:\n  - {{name: redisHost, value: \"{redis}\"}}\n  \
         - {{name: consumerID, value: \"{{uuid}}\"}}\nscopes: [gateway]\n"
    );
    every_instance_streams_every_event(&program, &component).await;
}
