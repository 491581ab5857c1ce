//! Dapr's published advisories, one test each: what was possible there is not possible here (pains X1, X2).

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request};

use crate::support::{
    PATIENCE,
    app::{App, status},
    client::{Raw, request, send, send_raw},
    eventually,
    sidecar::Launch,
};

/// What an app was sent: method, path, headers.
type Seen = Arc<Mutex<Vec<Request<Bytes>>>>;

async fn recording_app() -> (App, Seen) {
    let seen = Seen::default();
    let keep = Arc::clone(&seen);
    let app = App::start(move |request| {
        let keep = Arc::clone(&keep);
        async move {
            if request.uri().path().starts_with("/dapr/") {
                return status(404);
            }
            keep.lock().unwrap().push(request);
            status(200)
        }
    })
    .await;
    (app, seen)
}

const ONLY_PUBLIC: &str = "apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: guarded
spec:
  accessControl:
    defaultAction: deny
    trustDomain: public
    policies:
    - appId: caller
      defaultAction: deny
      trustDomain: public
      namespace: default
      operations:
      - name: /public/**
        httpVerb: ['*']
        action: allow
";

/// Access control and dispatch normalised a path separately, so that `/public/../admin` passed as public and arrived
/// as admin. Without mTLS nobody has an identity and the default denies all: whatever spelling is sent, nothing may
/// arrive at the app.
#[tokio::test]
async fn go_2026_5242_a_path_that_climbs_does_not_pass_the_access_policy() {
    let folder = tempfile::tempdir().unwrap();
    let registry = folder.path().join("registry");
    let configuration = folder.path().join("guarded.yaml");
    std::fs::write(&configuration, ONLY_PUBLIC).unwrap();
    let in_registry = |launch: Launch| launch.env("OUTRIGGER_REGISTRY_DIR", registry.to_str().unwrap());
    let (app, seen) = recording_app().await;
    let _callee = in_registry(Launch::new("guarded"))
        .args(["--config", configuration.to_str().unwrap()])
        .start_with_app(app.port)
        .await;
    let caller = in_registry(Launch::new("caller")).start().await;
    eventually("the callee is found", || async {
        let url = caller.url("/v1.0/invoke/guarded/method/public/x");
        let answer = send(request(Method::GET, &url, &[], "")).await.unwrap();
        answer
            .text()
            .contains("access control policy has denied")
            .then_some(())
    })
    .await;
    for path in [
        "admin",
        "public/../admin",
        "public/%2e%2e/admin",
        "public/%2E%2E%2Fadmin",
        "public/..%2fadmin",
        "public/%252e%252e/admin",
        "public//..//admin",
        "public/./../admin",
        "./admin",
        "%61dmin",
        "public/..;/admin",
        "public%00/../admin",
        "public%23/../admin",
        "public%3f/../admin",
        "public/x/../../admin",
        "..%5cadmin",
    ] {
        let head = format!(
            "GET /v1.0/invoke/guarded/method/{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        );
        let answer = send_raw(caller.http, head.as_bytes(), PATIENCE).await;
        let passed = matches!(&answer, Raw::Answered(answer) if answer.status < 300);
        assert!(!passed, "{path}: {answer:?}");
    }
    let seen = seen.lock().unwrap();
    assert!(seen.is_empty(), "{seen:?}");
}

/// The API token was not asked for where a path contained `/healthz` (CVE-2023-37918).
#[tokio::test]
async fn ghsa_59m6_82qm_vqgj_only_the_exact_health_paths_pass_without_the_token() {
    let (app, seen) = recording_app().await;
    let sidecar = Launch::new("tokened")
        .env("DAPR_API_TOKEN", "the-token")
        .component("store", "state.in-memory", &[])
        .start_with_app(app.port)
        .await;
    for path in [
        "/v1.0/invoke/tokened/method/healthz",
        "/v1.0/invoke/tokened/method/v1.0/healthz",
        "/v1.0/invoke/tokened/method/x/v1.0/healthz",
        "/v1.0/state/store/healthz",
        "/v1.0/state/store/v1.0%2Fhealthz",
        "/v1.0/healthz/../state/store/k",
        "/v1.0/healthz/%2e%2e/state/store/k",
        "/v1.0//healthz/../metadata",
        "/v1.0/metadata?x=/v1.0/healthz",
        "/v1.0/metadata#/v1.0/healthz",
        "/v1.0/metadata;/v1.0/healthz",
        "/v1.0/healthz/x",
        "/v1.0/healthz/outbound/x",
    ] {
        let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let answer = send_raw(sidecar.http, head.as_bytes(), PATIENCE).await;
        let refused = matches!(&answer, Raw::Answered(answer) if matches!(answer.status, 400 | 401));
        assert!(refused, "{path}: {answer:?}");
    }
    let post = request(Method::POST, &sidecar.url("/v1.0/healthz"), &[], "");
    assert_eq!(send(post).await.unwrap().status, 401, "the method counts too");
    assert!(seen.lock().unwrap().is_empty());
}

/// The caller's API token, or the app's own token, reached the callee (GO-2024-2879, CVE-2024-35223).
#[tokio::test]
async fn go_2024_2879_no_token_leaves_for_another_app() {
    let registry = tempfile::tempdir().unwrap();
    let in_registry =
        |launch: Launch| launch.env("OUTRIGGER_REGISTRY_DIR", registry.path().to_str().unwrap());
    let (callee_app, seen) = recording_app().await;
    let (caller_app, _) = recording_app().await;
    let _callee = in_registry(Launch::new("token-callee"))
        .env("APP_API_TOKEN", "callee-app-token")
        .start_with_app(callee_app.port)
        .await;
    let caller = in_registry(Launch::new("token-caller"))
        .env("DAPR_API_TOKEN", "caller-api-token")
        .env("APP_API_TOKEN", "caller-app-token")
        .start_with_app(caller_app.port)
        .await;
    for target in ["/v1.0/invoke/token-callee/method/x", "/x"] {
        let url = caller.url(target);
        let headers = [
            ("dapr-api-token", "caller-api-token"),
            ("dapr-app-id", "token-callee"),
        ];
        eventually("the callee is found", || async {
            let answer = send(request(Method::GET, &url, &headers, "")).await.unwrap();
            (answer.status == 200).then_some(())
        })
        .await;
    }
    let seen = seen.lock().unwrap();
    assert!(seen.len() >= 2);
    for request in seen.iter() {
        let headers = format!("{:?}", request.headers());
        assert!(
            !headers.contains("caller-api-token") && !headers.contains("caller-app-token"),
            "{headers}"
        );
        assert_eq!(
            request.headers()["dapr-api-token"],
            "callee-app-token",
            "its own sidecar proves itself"
        );
    }
}

/// A gRPC path without its slash matched no deny rule and was served all the same (CVE-2026-33186).
#[tokio::test]
async fn cve_2026_33186_a_grpc_path_without_its_slash_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("denied.yaml");
    std::fs::write(
        &configuration,
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: denied\nspec:\n  api:\n    denied:\n    - {name: state, version: v1, protocol: grpc}\n    - {name: GetMetadata, version: v1, protocol: grpc}\n",
    )
    .unwrap();
    let mut sidecar = Launch::new("slashless")
        .component("store", "state.in-memory", &[])
        .args(["--config", configuration.to_str().unwrap()])
        .start()
        .await;
    // HTTP/2 with prior knowledge, settings, and one HEADERS frame whose :path has no slash, in HPACK literals.
    for path in [
        "dapr.proto.runtime.v1.Dapr/GetMetadata",
        "dapr.proto.runtime.v1.Dapr/GetState",
        "//dapr.proto.runtime.v1.Dapr/GetMetadata",
    ] {
        let mut block = vec![0x83, 0x86];
        for (name, value) in [
            (":path", path),
            (":authority", "a"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            block.push(0x10);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
        let frame = |kind: u8, flags: u8, payload: &[u8]| {
            let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
            let mut frame = length[1..].to_vec();
            frame.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
            frame.extend_from_slice(payload);
            frame
        };
        bytes.extend(frame(1, 0x4, &block));
        bytes.extend(frame(0, 0x1, &[0, 0, 0, 0, 0]));
        let answer = send_raw(sidecar.grpc, &bytes, std::time::Duration::from_secs(2)).await;
        let text = format!("{answer:?}");
        assert!(
            !text.contains("slashless"),
            "{path}: metadata was answered: {text}"
        );
    }
    sidecar.assert_alive().await;
}

/// The dashboard showed everything to everybody (CVE-2022-38817). There is none here; what the sidecar shows of itself
/// wants the token, on every port that serves it.
#[tokio::test]
async fn cve_2022_38817_what_a_sidecar_shows_of_itself_wants_the_token() {
    let sidecar = Launch::new("shy")
        .env("DAPR_API_TOKEN", "the-token")
        .start()
        .await;
    let answer = send(request(Method::GET, &sidecar.url("/v1.0/metadata"), &[], ""))
        .await
        .unwrap();
    assert_eq!(answer.status, 401);
    let mut dapr = sidecar.dapr().await;
    let status = dapr
        .get_metadata(outrigger_wire::dapr::proto::runtime::v1::GetMetadataRequest {})
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    let page = crate::support::client::get(&format!("http://127.0.0.1:{}/v1.0/metadata", sidecar.metrics))
        .await
        .unwrap();
    assert!(
        page.text().starts_with("# HELP"),
        "the metrics port shows metrics only"
    );
}
