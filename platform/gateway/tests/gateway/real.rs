//! Two gateways as processes beside real sidecars, each with files of its own: the first calls the second by its app
//! id, through both sidecars, and keeps state and events with them.
//!
//! `OUTRIGGER_BIN` names the sidecar's program (or a Dapr's `daprd`); else the one that was built beside these tests.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use outrigger_platform_wire::virtufin::gateway_client::GatewayClient;
use outrigger_platform_wire::virtufin::pubsub_client::PubsubClient;
use outrigger_platform_wire::virtufin::state_client::StateClient;
use outrigger_platform_wire::virtufin::{
    GetStateRequest, InvokeJsonRequest, ListMethodsRequest, PublishRequest, PubsubSubscribeRequest,
    SaveStateRequest,
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
    let held: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    std::array::from_fn(|index| held[index].local_addr().unwrap().port().to_string())
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
