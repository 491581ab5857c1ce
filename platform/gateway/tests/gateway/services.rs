//! The services file while the gateway runs, services behind sidecars, jobs (G6).

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http::uri::PathAndQuery;
use outrigger_kit::{BreakerPolicy, Breakers, Environment};
use outrigger_platform_gateway::backends::{Backends, Pool, Times};
use outrigger_platform_gateway::services::Catalog;
use outrigger_platform_transcoding::Call;
use outrigger_platform_wire::virtufin::{Empty, PublishRequest, PubsubSubscribeRequest};
use outrigger_wire::dapr::proto::runtime::v1::JobEventRequest;
use outrigger_wire::dapr::proto::runtime::v1::app_callback_alpha_client::AppCallbackAlphaClient;
use serde_json::json;
use tonic::metadata::MetadataMap;

use crate::backend::Backend;
use crate::harness::{Gateway, SOON, send, until};

async fn listed(gateway: &Gateway) -> Vec<String> {
    gateway
        .gateway()
        .list_services(Empty {})
        .await
        .unwrap()
        .into_inner()
        .services
}

#[tokio::test]
async fn the_file_changes_while_streams_go_on() {
    let first = Backend::start().await;
    let gateway = Gateway::start(json!([first.entry("shop")]), &[]).await;
    let ask = PubsubSubscribeRequest {
        topics: vec!["t".to_owned()],
    };
    let mut events = gateway.pubsub().subscribe(ask).await.unwrap().into_inner();
    let publish = |data: &'static str| PublishRequest {
        topic: "t".to_owned(),
        data: Bytes::from_static(data.as_bytes()),
        ..PublishRequest::default()
    };
    gateway.pubsub().publish_event(publish("1")).await.unwrap();
    assert_eq!(events.message().await.unwrap().unwrap().data, "1");

    let second = Backend::start().await;
    gateway.write_services(&json!({"services": [second.entry("moved"), {"name": "new"}]}).to_string());
    until("the file is read anew", async || {
        listed(&gateway).await == ["moved", "new"]
    })
    .await;
    assert_eq!(
        gateway.invoke_json("shop", "Sum", &json!({})).await.status,
        "NOT_FOUND"
    );
    assert_eq!(gateway.invoke_json("moved", "Sum", &json!({})).await.status, "OK");
    until("its routes are read", async || {
        gateway.get("/shop/v1/sum").await.status == 200
    })
    .await;
    gateway.pubsub().publish_event(publish("2")).await.unwrap();
    assert_eq!(events.message().await.unwrap().unwrap().data, "2");

    // A wrong file keeps the old one, and says so.
    for (text, part) in [
        ("{", "EOF"),
        (r#"{"services": [{"name": "a.b"}]}"#, "services[0] (a.b)"),
        (
            r#"{"services": [{"name": "far", "grpc": {"host": "10.0.0.1", "port": 1}}]}"#,
            "tls block",
        ),
    ] {
        gateway.write_services(text);
        until("it is told", async || {
            let health = gateway.health("services").await;
            health["status"] == "Degraded" && health["description"].as_str().unwrap().contains(part)
        })
        .await;
        assert_eq!(listed(&gateway).await, ["moved", "new"]);
    }
    gateway.write_services(r#"{"services": []}"#);
    until("it is mended", async || {
        gateway.health("services").await["status"] == "Healthy"
    })
    .await;
    assert!(listed(&gateway).await.is_empty());
    gateway.pubsub().publish_event(publish("3")).await.unwrap();
    let last = tokio::time::timeout(SOON, events.message()).await.unwrap();
    assert_eq!(last.unwrap().unwrap().data, "3");
}

#[tokio::test]
async fn a_service_behind_a_sidecar_is_called_by_its_app_id() {
    // It says back the metadata that a sidecar finds the app by.
    let sidecar = Backend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("services.yaml");
    std::fs::write(&file, "services:\n  - name: shop\n    daprAppId: shop-app\n").unwrap();
    let environment = Environment::from([
        ("DAPR_GRPC_PORT".to_owned(), sidecar.address.port().to_string()),
        ("DAPR_API_TOKEN".to_owned(), "secret".to_owned()),
    ]);
    let times = Times {
        max_age: Duration::from_secs(300),
        call_timeout: Duration::from_secs(30),
    };
    let backends = Backends::new(
        Catalog::open(Some(&file)).unwrap(),
        Pool::new(&environment, 10).unwrap(),
        Breakers::new(BreakerPolicy::default()),
        times,
    );
    let service = backends.service("shop").unwrap();
    assert_eq!(
        backends.descriptors(&service).await.unwrap().services,
        ["shop.v1.Shop"]
    );
    let mut metadata = MetadataMap::new();
    // Not for callers to choose.
    metadata.insert("dapr-app-id", "somebody-else".parse().unwrap());
    let call = Call {
        path: PathAndQuery::from_static("/shop.v1.Shop/Echo"),
        metadata,
        message: Bytes::new(),
    };
    let (metadata, _) = backends.unary(&service, call).await.unwrap();
    assert_eq!(metadata.get("x-app-id").unwrap(), "shop-app");
    assert_eq!(metadata.get("x-token").unwrap(), "secret");
}

#[tokio::test]
async fn a_service_at_an_address_is_called_over_mutual_tls() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use tonic::service::Routes;
    use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

    let folder = tempfile::tempdir().unwrap();
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let issuer = Issuer::new(root, root_key);
    let leaf = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (
            params.signed_by(&key, &issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    };
    let (server_pem, server_key) = leaf("shop.test");
    let (client_pem, client_key) = leaf("gateway.test");
    for (name, text) in [
        ("ca.pem", &root_pem),
        ("cert.pem", &client_pem),
        ("key.pem", &client_key),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let (v1, listener) = (
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(outrigger_platform_wire::DESCRIPTORS)
            .with_service_name("virtufin.Config")
            .build_v1()
            .unwrap(),
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
    );
    let port = listener.local_addr().unwrap().port();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(server_pem, server_key))
        .client_ca_root(Certificate::from_pem(&root_pem));
    let server = Server::builder()
        .tls_config(tls)
        .unwrap()
        .add_routes(Routes::new(v1));
    tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));

    let path = |name: &str| folder.path().join(name).display().to_string();
    let entry = |name: &str, tls: serde_json::Value| json!({"name": name, "grpc": {"host": "127.0.0.1", "port": port, "tls": tls}});
    let whole = json!({
        "caFile": path("ca.pem"), "certFile": path("cert.pem"), "keyFile": path("key.pem"), "serverName": "shop.test",
    });
    let unknown = json!({"caFile": path("ca.pem"), "serverName": "shop.test"});
    let other = json!({
        "caFile": path("ca.pem"), "certFile": path("cert.pem"), "keyFile": path("key.pem"), "serverName": "other.test",
    });
    let file = json!([
        entry("known", whole),
        entry("unknown", unknown),
        entry("other", other)
    ]);
    let gateway = Gateway::start(file, &[]).await;
    let methods = gateway.get("/v1/grpc/known/methods").await;
    assert_eq!(methods.status, 200, "{}", methods.text());
    // Without a certificate of its own, or with another name in the server's, there is no call.
    for name in ["unknown", "other"] {
        let answer = gateway.get(&format!("/v1/grpc/{name}/methods")).await;
        assert!(answer.status.is_server_error(), "{name}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_due_job_publishes_or_calls() {
    let backend = Backend::start().await;
    let mut entry = backend.entry("shop");
    entry["jobs"] = json!({"crons": [
        {"name": "tick", "schedule": "@every 1h", "topic": "ticks", "data": {"a": 1}},
        {"name": "sum", "schedule": "@every 1h", "method": "Sum", "data": {"values": [1]}},
        {"name": "wrong", "schedule": "@every 1h", "method": "Nothing"},
    ]});
    let gateway = Gateway::start(json!([entry]), &[]).await;
    // This sidecar has no scheduler.
    until("health says so", async || {
        let health = gateway.health("jobs").await;
        health["status"] == "Degraded"
            && health["description"]
                .as_str()
                .unwrap()
                .starts_with("jobs are unavailable: 0 of 3")
    })
    .await;
    assert_eq!(
        gateway.get("/health/ready").await.status,
        200,
        "requests do not rest on jobs"
    );

    let due = async |name: &str| {
        let request = Request::post(format!("http://{}/job/{name}", gateway.http))
            .body(Body::empty())
            .unwrap();
        send(request).await.status
    };
    assert_eq!(due("shop.tick").await, 200);
    let published = gateway.cluster.published("ticks");
    assert_eq!(published[0]["data"], json!({"a": 1}));
    assert_eq!(published[0]["type"], "com.virtufin.gateway.job.due");
    assert_eq!(published[0]["source"], "urn:com.virtufin.shop");
    assert_eq!(due("shop.sum").await, 200);
    assert_eq!(due("shop.wrong").await, 500);
    assert_eq!(
        due("shop.gone").await,
        200,
        "one that is not wanted any more is done with"
    );
    // A page can post without asking first; it is none of the sidecar's calls.
    let request = Request::post(format!("http://{}/job/shop.tick", gateway.http))
        .header("origin", "http://elsewhere.example")
        .body(Body::empty())
        .unwrap();
    assert_eq!(send(request).await.status, 403);
    assert_eq!(gateway.cluster.published("ticks").len(), 1);
    // By gRPC, as a sidecar of `--app-protocol grpc` calls.
    let request = JobEventRequest {
        name: "shop.tick".to_owned(),
        ..JobEventRequest::default()
    };
    #[allow(deprecated, reason = "the name that sidecars use")]
    AppCallbackAlphaClient::new(gateway.channel.clone())
        .on_job_event_alpha1(request)
        .await
        .unwrap();
    assert_eq!(gateway.cluster.published("ticks").len(), 2);
}
