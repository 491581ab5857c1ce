//! A service on the host, beside an in-memory sidecar: readiness, version check, reflection, health; and state and
//! events by the sidecar.

use std::net::SocketAddr;
use std::time::Duration;

use outrigger_kit::testing::{Cluster, Sidecar};
use outrigger_kit::{Ack, App, CancellationToken, Event};
use outrigger_platform_service::backend::{Backend, BackendError, Expect};
use outrigger_platform_service::host::{Service, serve_until};
use outrigger_platform_service::status::reason;
use outrigger_platform_wire::virtufin::config_client::ConfigClient;
use outrigger_platform_wire::virtufin::config_server::{Config, ConfigServer};
use outrigger_platform_wire::virtufin::{
    GetConfigServiceRequest, GetConfigServiceResponse, ListConfigServicesRequest, ListConfigServicesResponse,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_stream::StreamExt as _;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

struct Empty;

#[tonic::async_trait]
impl Config for Empty {
    async fn list_services(
        &self,
        _: Request<ListConfigServicesRequest>,
    ) -> Result<Response<ListConfigServicesResponse>, Status> {
        Ok(Response::new(ListConfigServicesResponse::default()))
    }

    async fn get_service(
        &self,
        _: Request<GetConfigServiceRequest>,
    ) -> Result<Response<GetConfigServiceResponse>, Status> {
        Err(Status::not_found("no services here"))
    }
}

struct Running {
    channel: Channel,
    http: SocketAddr,
    grpc: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

/// Runs the service; its recovery waits for a permit.
async fn run(sidecar: &Sidecar, recover: &'static Semaphore) -> Running {
    let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, grpc_address) = (http.local_addr().unwrap(), grpc.local_addr().unwrap());
    let app = App::new(sidecar.client()).recover("records", move || async {
        recover.acquire().await.unwrap().forget();
        Ok(())
    });
    let service = Service {
        app,
        grpc: Routes::new(ConfigServer::new(Empty)),
        names: vec!["virtufin.Config"],
        rest: true,
        beside: None,
    };
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve_until(service, http, grpc, stop.clone().cancelled_owned()));
    Running {
        channel: Endpoint::from_shared(format!("http://{grpc_address}"))
            .unwrap()
            .connect_lazy(),
        http: address,
        grpc: grpc_address,
        stop,
        task,
    }
}

async fn list(channel: &Channel, version: Option<&'static str>) -> Result<(), Status> {
    let mut request = Request::new(ListConfigServicesRequest {});
    if let Some(version) = version {
        request
            .metadata_mut()
            .insert("x-api-version", version.parse().unwrap());
    }
    ConfigClient::new(channel.clone())
        .list_services(request)
        .await
        .map(drop)
}

/// A plain request: status and body.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    ask(address, "GET", path, "", "").await
}

/// A request with more headers, each with its line's end, and a body.
async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

async fn until<F, Fut>(what: &str, mut holds: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn calls_are_taken_after_recovery_and_from_clients_of_the_same_version() {
    static RECOVER: Semaphore = Semaphore::const_new(0);
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("configured").await.unwrap();
    let service = run(&sidecar, &RECOVER).await;

    let early = list(&service.channel, None).await.unwrap_err();
    assert_eq!(early.code(), Code::Unavailable);
    let ready = |address| async move {
        let mut health = tonic_health::pb::health_client::HealthClient::new(address);
        let ask = tonic_health::pb::HealthCheckRequest {
            service: "virtufin.Config".to_owned(),
        };
        health.check(ask).await.unwrap().into_inner().status
    };
    assert_eq!(ready(service.channel.clone()).await, 2, "not serving");

    RECOVER.add_permits(1);
    until("a call is taken", || async {
        list(&service.channel, None).await.is_ok()
    })
    .await;
    until("the health service says so", || async {
        ready(service.channel.clone()).await == 1
    })
    .await;
    list(&service.channel, Some("1.7.2")).await.unwrap();
    let refused = list(&service.channel, Some("2.0.0")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused).as_deref(), Some("API_VERSION_MISMATCH"));
    assert!(refused.message().contains("the client 2.0.0"), "{refused}");

    // The same methods by their HTTP rules, behind the same checks.
    let (status, body) = get(service.http, "/v1/config/list-services").await;
    assert_eq!((status, body), (200, "{\"services\":[]}".to_owned()));
    let (status, body) = get(service.http, "/v1/config/get-service?name=a").await;
    assert_eq!(status, 404, "{body}");
    assert!(body.contains("no services here"), "{body}");
    assert_eq!(get(service.http, "/health/ready").await.0, 200);
    service.stop.cancel();
    service.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn pages_of_strangers_cannot_call() {
    static RECOVER: Semaphore = Semaphore::const_new(1);
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("configured").await.unwrap();
    let service = run(&sidecar, &RECOVER).await;
    until("it is ready", || async {
        list(&service.channel, None).await.is_ok()
    })
    .await;
    // What a page may send without asking first: a post of text that happens to be an empty gRPC message.
    let method = "/virtufin.Config/ListServices";
    let message = "\0\0\0\0\0";
    for headers in [
        "origin: http://elsewhere\r\ncontent-type: text/plain\r\n",
        "content-type: text/plain\r\n",
        "",
    ] {
        let (status, body) = ask(service.grpc, "POST", method, headers, message).await;
        assert_eq!(status, 415, "{headers}: {body}");
    }
    let headers = "content-type: application/grpc\r\nte: trailers\r\n";
    let (status, _) = ask(service.grpc, "POST", method, headers, message).await;
    assert_eq!(status, 200, "it would have been a call");
    // And over the HTTP rules.
    let path = "/v1/config/list-services";
    let from = |origin: &str| format!("origin: {origin}\r\n");
    let asked = async |origin: &str| ask(service.http, "GET", path, &from(origin), "").await.0;
    assert_eq!(asked("http://elsewhere").await, 403);
    assert_eq!(asked("null").await, 403);
    assert_eq!(asked("http://here").await, 200, "a page of its own host");
    assert_eq!(get(service.http, path).await.0, 200, "a program");
}

#[tokio::test]
async fn reflection_tells_the_services_and_their_files() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    static RECOVER: Semaphore = Semaphore::const_new(0);
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("configured").await.unwrap();
    let service = run(&sidecar, &RECOVER).await;
    let ask = |message| tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    };
    let asks = tokio_stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("virtufin.Config".to_owned())),
    ]);
    let answers: Vec<_> = ServerReflectionClient::new(service.channel.clone())
        .server_reflection_info(asks)
        .await
        .unwrap()
        .into_inner()
        .map(|answer| answer.unwrap().message_response.unwrap())
        .collect()
        .await;
    let MessageResponse::ListServicesResponse(list) = &answers[0] else {
        panic!("{:?}", answers[0]);
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"virtufin.Config"), "{names:?}");
    assert!(!names.contains(&"virtufin.WorkManager"), "{names:?}");
    assert!(matches!(answers[1], MessageResponse::FileDescriptorResponse(_)));
}

#[tokio::test]
async fn state_has_versions() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("keeper").await.unwrap();
    let backend = Backend::sidecar(sidecar.client(), "statestore", "pubsub");
    assert_eq!(backend.get("a").await.unwrap(), None);
    backend.save("a", &json!({"n": 1}), Expect::Absent).await.unwrap();
    let twice = backend.save("a", &json!({"n": 2}), Expect::Absent).await;
    assert!(matches!(twice, Err(BackendError::Conflict(_))), "{twice:?}");
    let first = backend.get("a").await.unwrap().unwrap();
    assert_eq!(first.value, json!({"n": 1}));
    backend
        .save("a", &json!({"n": 2}), Expect::Etag(&first.etag))
        .await
        .unwrap();
    let stale = backend
        .save("a", &json!({"n": 3}), Expect::Etag(&first.etag))
        .await;
    assert!(stale.unwrap_err().is_conflict());
    assert!(
        backend
            .delete("a", Some(&first.etag))
            .await
            .unwrap_err()
            .is_conflict()
    );
    backend.delete("a", None).await.unwrap();
    assert_eq!(backend.get("a").await.unwrap(), None);
}

#[tokio::test]
async fn updates_of_one_record_meet_and_none_is_lost() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("keeper").await.unwrap();
    let backend = Backend::sidecar(sidecar.client(), "statestore", "pubsub");
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let backend = backend.clone();
        writers.spawn(async move {
            for _ in 0..5 {
                backend
                    .update("count", |count: Option<u32>| Some(count.unwrap_or(0) + 1))
                    .await
                    .unwrap();
            }
        });
    }
    writers.join_all().await;
    let count = backend.get("count").await.unwrap().unwrap();
    assert_eq!(count.value, json!(40));
}

#[tokio::test]
async fn events_come_back_until_they_are_taken() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("keeper").await.unwrap();
    let backend = Backend::sidecar(sidecar.client(), "statestore", "pubsub");
    let mut ticks = backend.subscribe("ticks").await.unwrap();
    let event = Event::new("tick", "urn:com.virtufin.test", json!({"price": 1}));
    backend.publish("ticks", &event).await.unwrap();
    let first = ticks.next().await.unwrap();
    assert_eq!(first.topic, "ticks");
    drop(first);
    let again = ticks.next().await.unwrap();
    assert_eq!(again.event.id, event.id);
    again.settle(Ack::Success);
}
