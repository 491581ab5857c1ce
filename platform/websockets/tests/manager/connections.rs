//! I1 and R4: connect, list, disconnect, tags, refusals, REST.

use std::sync::Arc;
use std::time::Duration;

use outrigger_kit::testing::Cluster;
use outrigger_platform_service::Backend;
use outrigger_platform_websockets::{Dialer, Limits, Manager, Status};
use outrigger_platform_wire::virtufin::{GetTagRequest, GetTagsRequest, SetTagRequest, SetTagsRequest};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tonic::Code;

use crate::instance::{Instance, made_and, story};
use crate::peer::Peer;
use crate::until;
use crate::world::World;

async fn stored(instance: &Instance, key: &str) -> Option<Value> {
    instance
        .backend
        .get(key)
        .await
        .unwrap()
        .map(|stored| stored.value)
}

pub(crate) async fn a_connection_is_made_listed_written_down_and_forgotten(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let id = instance.connect(&peer).await;
    assert_eq!(peer.open(), 1, "the handshake is done");
    let all = instance.list().await;
    assert_eq!(all.len(), 1);
    let connection = &all[0];
    assert_eq!(
        (connection.id.as_str(), connection.url.as_str()),
        (id.as_str(), peer.url().as_str())
    );
    assert_eq!(
        (connection.status.as_str(), connection.topic.as_str()),
        ("Connected", "")
    );
    assert_eq!(
        (connection.instance_id.as_str(), connection.content_type.as_str()),
        ("one", "")
    );
    assert_eq!(connection.tags["venue"], "test");

    let record = stored(&instance, &format!("websocketmanager.connection.{id}"))
        .await
        .unwrap();
    assert_eq!(
        (&record["status"], &record["instance_id"]),
        (&json!("Connected"), &json!("one"))
    );
    assert!(record["connected_at"].is_string() && record["last_heartbeat"].is_string());
    assert_eq!(
        stored(&instance, "websocketmanager.connection.index").await,
        Some(json!(["one"]))
    );
    let own = stored(&instance, "websocketmanager.connection.instance.one")
        .await
        .unwrap();
    assert_eq!(own["connections"], json!([id]));

    instance.say(&id, b"hello", "text/plain").await.unwrap();
    until("the answer came", || async {
        instance.list().await[0].content_type == "text/plain"
    })
    .await;

    instance.disconnect(&id).await.unwrap();
    assert!(instance.list().await.is_empty());
    assert!(
        stored(&instance, &format!("websocketmanager.connection.{id}"))
            .await
            .is_none()
    );
    until("the peer heard a goodbye", || async {
        peer.open() == 0 && peer.heard().iter().any(Message::is_close)
    })
    .await;
    let error = instance.disconnect(&id).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    until("it was told", || async {
        story(&cluster, &id) == made_and(&["closed"])
    })
    .await;
}

pub(crate) async fn what_is_no_websocket_url_or_answers_nothing_is_refused(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    for url in ["http://localhost/", "wss//x", "", "ws://user@localhost/"] {
        let error = instance.connect_to(url, false).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{url}: {error}");
    }
    assert!(
        cluster.published("websocketmanager.lifecycle").is_empty(),
        "nothing was tried"
    );
    peer.refuse(true);
    let error = instance.connect_to(&peer.url(), true).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let free = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = instance
        .connect_to(&format!("ws://{free}/"), true)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let error = instance
        .connect_to("ws://nowhere.invalid/", true)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(instance.list().await.is_empty());
}

pub(crate) async fn neighbours_are_refused_where_that_is_set(cluster: World) {
    let peer = Peer::start().await;
    let walled = Instance::start_with(&cluster, "one", &["--private-addresses=deny"]).await;
    for url in [peer.url(), format!("ws://localhost:{}/", peer.address.port())] {
        let error = walled.connect_to(&url, false).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains("not on the public internet"), "{error}");
    }
    let listed = format!("--allowed-hosts={}", peer.address);
    let flags = ["--private-addresses=deny", listed.as_str()];
    let listed = Instance::start_with(&cluster, "two", &flags).await;
    listed.connect_to(&peer.url(), false).await.unwrap();
}

pub(crate) async fn connections_are_bounded(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start_with(&cluster, "one", &["--max-connections=2"]).await;
    instance.connect(&peer).await;
    let second = instance.connect(&peer).await;
    let error = instance.connect_to(&peer.url(), true).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    instance.disconnect(&second).await.unwrap();
    instance.connect(&peer).await;
}

pub(crate) async fn tags_are_set_read_and_filtered_by_any_instance(cluster: World) {
    let peer = Peer::start().await;
    let (one, two) = (
        Instance::start(&cluster, "one").await,
        Instance::start(&cluster, "two").await,
    );
    let id = one.connect(&peer).await;
    let set = |key: &str, value: &str| SetTagRequest {
        id: id.clone(),
        key: key.to_owned(),
        value: value.to_owned(),
    };
    two.client.clone().set_tag(set("lane", "act")).await.unwrap();
    let ask = GetTagRequest {
        id: id.clone(),
        key: "lane".to_owned(),
    };
    let answer = one
        .client
        .clone()
        .get_tag(ask.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((answer.found, answer.value.as_str()), (true, "act"));
    for (filters, count) in [
        (vec![("lane", "act"), ("venue", "test")], 1),
        (vec![("lane", "")], 1),
        (vec![("lane", "hyp")], 0),
        (vec![("other", "")], 0),
    ] {
        assert_eq!(two.try_list(&filters).await.unwrap().len(), count, "{filters:?}");
    }
    one.client.clone().set_tag(set("lane", "")).await.unwrap();
    assert!(!two.client.clone().get_tag(ask).await.unwrap().into_inner().found);
    let all = SetTagsRequest {
        id: id.clone(),
        tags: [("a".to_owned(), "b".to_owned())].into(),
    };
    one.client.clone().set_tags(all).await.unwrap();
    let tags = two
        .client
        .clone()
        .get_tags(GetTagsRequest { id: id.clone() })
        .await
        .unwrap()
        .into_inner()
        .tags;
    assert_eq!(tags, [("a".to_owned(), "b".to_owned())].into());
    let error = one.client.clone().set_tag(set("", "x")).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let error = one
        .client
        .clone()
        .get_tags(GetTagsRequest { id: "x".to_owned() })
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}

/// A request over HTTP: status and body.
async fn http(address: std::net::SocketAddr, method: &str, path: &str, body: &Value) -> (u16, Value) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

pub(crate) async fn it_all_works_over_rest(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let at = instance.http;
    let (status, answer) = http(
        at,
        "POST",
        "/v1/connect",
        &json!({"url": peer.url(), "autoReconnect": true}),
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["id"].as_str().unwrap().to_owned();
    let of = |rest: &str| format!("/v1/connections/{id}{rest}");
    let (status, _) = http(at, "POST", &of("/publish"), &json!({"topic": "ticks"})).await;
    assert_eq!(status, 200);
    let (status, answer) = http(at, "GET", "/v1/connections", &Value::Null).await;
    assert_eq!(
        (status, &answer["connections"][0]["topic"]),
        (200, &json!("ticks"))
    );
    let message = json!({"message": "cGluZw==", "contentType": "text/plain"});
    let (status, answer) = http(at, "POST", &of("/send"), &message).await;
    assert_eq!((status, &answer["response"]), (200, &json!("cGluZw==")));
    let (status, _) = http(at, "POST", &of("/sendraw"), &message).await;
    assert_eq!(status, 200);
    let (status, _) = http(at, "DELETE", &of("/publish"), &Value::Null).await;
    assert_eq!(status, 200);
    let (status, _) = http(at, "DELETE", &of(""), &Value::Null).await;
    assert_eq!(status, 200);
    let (status, answer) = http(at, "DELETE", &of(""), &Value::Null).await;
    assert_eq!(status, 404, "{answer}");
}

#[tokio::test]
async fn wss_is_tls_with_a_certificate_that_is_trusted() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("websocketmanager").await.unwrap();
    let backend = Backend::sidecar(sidecar.client(), "statestore", "pubsub");
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = rustls_pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            tokio::spawn(async move {
                use futures::StreamExt as _;
                let mut socket = socket;
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_binary() {
                        futures::SinkExt::send(&mut socket, message).await.unwrap();
                    }
                }
            });
        }
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(key.cert.der().clone()).unwrap();
    let dialer = Dialer::trusting(roots, Duration::from_secs(10), 1 << 20).unwrap();
    let manager = Manager::new(backend.clone(), "one", dialer, Limits::default());
    manager.recover().await.unwrap();
    let url = format!("wss://localhost:{port}/");
    let (id, status) = manager.connect(&url, false, Default::default()).await.unwrap();
    assert_eq!(status, Status::Connected);
    let answer = manager.send(&id, b"ping".to_vec(), "", 0).await.unwrap();
    assert_eq!(answer, "ping");
    let trusting_nobody = Dialer::trusting(rustls::RootCertStore::empty(), Duration::from_secs(10), 1 << 20);
    let distrustful = Manager::new(backend, "two", trusting_nobody.unwrap(), Limits::default());
    let error = distrustful
        .connect(&url, false, Default::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("TLS with localhost"), "{error}");
}
