//! Who may speak to a sidecar, and where: API token, public port, Unix sockets.

use http::Method;
use outrigger_wire::dapr::proto::runtime::v1::{GetMetadataRequest, dapr_client::DaprClient};
use serde_json::json;
use tonic::Code;

use crate::support::{
    app::{self, App},
    client::{get, request, send, send_unix},
    echo::{EchoApp, EchoClient},
    sidecar::{Launch, unix_channel},
};

#[tokio::test]
async fn a_token_guards_both_apis() {
    let sidecar = Launch::new("guarded")
        .env("DAPR_API_TOKEN", "very-secret")
        .start()
        .await;
    let metadata = sidecar.url("/v1.0/metadata");
    for token in [
        None,
        Some("wrong"),
        Some("very-secre"),
        Some("very-secret2"),
        Some(""),
    ] {
        let headers: Vec<_> = token.iter().map(|token| ("dapr-api-token", *token)).collect();
        let answer = send(request(Method::GET, &metadata, &headers, "")).await.unwrap();
        assert_eq!(
            (answer.status, answer.text().trim()),
            (401, "invalid api token"),
            "{token:?}"
        );
    }
    let answer = send(request(
        Method::GET,
        &metadata,
        &[("dapr-api-token", "very-secret")],
        "",
    ))
    .await
    .unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(get(&sidecar.url("/v1.0/healthz")).await.unwrap().status, 204);

    let mut dapr = sidecar.dapr().await;
    let refusal = dapr.get_metadata(GetMetadataRequest {}).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated);
    let mut call = tonic::Request::new(GetMetadataRequest {});
    call.metadata_mut()
        .insert("dapr-api-token", "very-secret".parse().unwrap());
    assert_eq!(dapr.get_metadata(call).await.unwrap().get_ref().id, "guarded");
    // A call of an app's own service is guarded as well.
    let refusal = EchoClient::new(sidecar.channel().await, "guarded")
        .unary("hello")
        .await
        .unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated);
    assert!(!sidecar.log().contains("very-secret"), "the token is in the log");
}

#[tokio::test]
async fn an_app_sees_its_own_token_and_not_the_sidecars() {
    let app = App::start(|request| async move {
        let seen = request.headers().get_all("dapr-api-token").iter();
        app::json(&json!(
            seen.map(|value| value.to_str().unwrap()).collect::<Vec<_>>()
        ))
    })
    .await;
    let sidecar = Launch::new("tokens")
        .env("DAPR_API_TOKEN", "for-the-sidecar")
        .env("APP_API_TOKEN", "for-the-app")
        .start_with_app(app.port)
        .await;
    let url = sidecar.url("/v1.0/invoke/tokens/method/tokens");
    let answer = send(request(
        Method::GET,
        &url,
        &[("dapr-api-token", "for-the-sidecar")],
        "",
    ))
    .await
    .unwrap();
    assert_eq!(answer.json(), json!(["for-the-app"]));
}

#[tokio::test]
async fn the_public_port_serves_health_and_metadata_only() {
    let [port] = outrigger_test_ports::free().unwrap();
    let sidecar = Launch::new("public")
        .env("DAPR_API_TOKEN", "secret")
        .component("store", "state.in-memory", &[])
        .args([
            "--dapr-public-port",
            &port.to_string(),
            "--dapr-public-listen-address",
            "127.0.0.1",
        ])
        .start()
        .await;
    let public = |path: &str| format!("http://127.0.0.1:{port}{path}");
    // No token is asked for here.
    assert_eq!(get(&public("/v1.0/healthz")).await.unwrap().status, 204);
    assert_eq!(get(&public("/v1.0/healthz/outbound")).await.unwrap().status, 204);
    assert_eq!(
        get(&public("/v1.0/metadata")).await.unwrap().json()["id"],
        "public"
    );
    for path in [
        "/v1.0/state/store/key",
        "/v1.0/invoke/public/method/x",
        "/v1.0/secrets/store/bulk",
        "/",
    ] {
        let answer = get(&public(path)).await.unwrap();
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
    let answer = send(request(Method::POST, &public("/v1.0/shutdown"), &[], ""))
        .await
        .unwrap();
    assert!((404..=405).contains(&answer.status), "{}", answer.status);
    drop(sidecar);
}

#[tokio::test]
async fn unix_sockets_replace_the_ports() {
    let folder = tempfile::tempdir().unwrap();
    let app = EchoApp::start("behind").await;
    let mut sidecar = Launch::new("sockets")
        .args(["--unix-domain-socket", folder.path().to_str().unwrap()])
        .args(["--app-protocol", "grpc", "--app-port", &app.port.to_string()])
        .spawn();
    let socket = |kind: &str| folder.path().join(format!("dapr-sockets-{kind}.socket"));
    let health = crate::support::eventually("health over the socket", || async {
        let request = request(Method::GET, "http://localhost/v1.0/healthz", &[], "");
        send_unix(&socket("http"), request)
            .await
            .ok()
            .filter(|answer| answer.status == 204)
    });
    health.await;
    let answer = send_unix(
        &socket("http"),
        request(Method::GET, "http://localhost/v1.0/metadata", &[], ""),
    )
    .await;
    assert_eq!(answer.unwrap().json()["id"], "sockets");
    let channel = unix_channel(&socket("grpc")).await;
    let metadata = DaprClient::new(channel.clone())
        .get_metadata(GetMetadataRequest {})
        .await
        .unwrap();
    assert_eq!(metadata.get_ref().id, "sockets");
    assert_eq!(
        EchoClient::new(channel, "sockets")
            .talk(&["a", "b"])
            .await
            .unwrap(),
        ["behind: a", "behind: b"]
    );
    assert!(
        get(&sidecar.url("/v1.0/healthz")).await.is_err(),
        "the TCP port is open too"
    );
    assert_eq!(sidecar.stop().await.code(), Some(0), "{}", sidecar.log());
    assert!(
        !socket("http").exists() && !socket("grpc").exists(),
        "sockets are left behind"
    );
}
