use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Method, StatusCode};
use outrigger_resources::SecretScope;
use outrigger_secrets::SharedSecretStore;
use outrigger_sidecar_blocks::{SecretsService, SecretsServiceOptions};
use outrigger_telemetry::{
    audit::{Audit, AuditOptions, AuditTarget},
    trace::SpanContext,
};
use outrigger_wire::dapr::proto::runtime::v1::{GetBulkSecretRequest, GetSecretRequest};

use crate::support::{Answer, call, components, get, loaded, metrics, open, rendered, resilience};

struct Fixture {
    service: Arc<SecretsService>,
    audit: Audit,
    metrics: outrigger_telemetry::Metrics,
    folder: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s.json"), r#"{"a":"<1>","b":"2","c":"3"}"#).unwrap();
    let store: SharedSecretStore = open(
        outrigger_components_secretstores::FILE,
        folder.path(),
        &[("secretsFile", "s.json")],
    )
    .await;
    let metrics = metrics();
    let audit = Audit::open(&AuditOptions {
        target: AuditTarget::File {
            path: folder.path().join("audit.log"),
            max_bytes: 1 << 20,
            max_files: 1,
        },
        app_id: "app".into(),
        app: "spiffe://public/ns/default/app".into(),
        clock: Arc::new(SystemTime::now),
    })
    .unwrap();
    let service = SecretsService::new(SecretsServiceOptions {
        stores: components([loaded("vault", "secretstores.local.file", &[], store)]),
        scopes: vec![SecretScope {
            store_name: "vault".to_owned(),
            denied_secrets: vec!["b".to_owned()],
            ..SecretScope::default()
        }],
        resilience: resilience(),
        metrics: metrics.clone(),
        audit: audit.clone(),
    });
    Fixture {
        service: Arc::new(service),
        audit,
        metrics,
        folder,
    }
}

async fn read(fixture: &Fixture, store: &str, key: &str) -> Answer {
    let params = [("secretStoreName", store), ("key", key)];
    let route = "secrets/{secretStoreName}/{key}";
    call(
        &fixture.service.endpoints(),
        Method::GET,
        "v1.0",
        route,
        &params,
        get("/"),
    )
    .await
}

/// A4.1, A4.6: values, refusals and failures in Dapr's shapes.
#[tokio::test]
async fn secrets_are_read_under_their_scopes() {
    let fixture = fixture().await;
    let answer = read(&fixture, "vault", "a").await;
    assert_eq!(
        (answer.status, answer.text()),
        (StatusCode::OK, "{\"a\":\"\\u003c1\\u003e\"}\n")
    );

    let answer = read(&fixture, "vault", "b").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.json()["errorCode"], "ERR_PERMISSION_DENIED");
    assert_eq!(
        answer.json()["message"],
        "access denied by policy to get \"b\" from \"vault\""
    );

    let answer = read(&fixture, "other", "a").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        answer.json()["message"],
        "failed finding secret store with key other"
    );

    let answer = read(&fixture, "vault", "none").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        answer.json()["message"],
        "failed getting secret with key none from secret store vault: secret none not found"
    );
    let text = rendered(&fixture.metrics);
    assert!(text.contains("dapr_component_secret_count"), "{text}");
}

/// A4.2.
#[tokio::test]
async fn bulk_leaves_out_what_is_denied() {
    let fixture = fixture().await;
    let route = "secrets/{secretStoreName}/bulk";
    let params = [("secretStoreName", "vault")];
    let answer = call(
        &fixture.service.endpoints(),
        Method::GET,
        "v1.0",
        route,
        &params,
        get("/"),
    )
    .await;
    assert_eq!(
        answer.json(),
        serde_json::json!({"a": {"a": "<1>"}, "c": {"c": "3"}})
    );
}

#[tokio::test]
async fn grpc_answers_the_same() {
    let fixture = fixture().await;
    let trace = SpanContext::default();
    let request = GetSecretRequest {
        store_name: "vault".to_owned(),
        key: "a".to_owned(),
        ..Default::default()
    };
    let answer = fixture.service.grpc_get(request.clone(), &trace).await.unwrap();
    assert_eq!(answer.data["a"], "<1>");
    let request = GetSecretRequest {
        key: "b".to_owned(),
        ..request
    };
    let error = fixture.service.grpc_get(request, &trace).await.unwrap_err();
    assert_eq!(error.grpc_code(), tonic::Code::PermissionDenied);
    let request = GetBulkSecretRequest {
        store_name: "vault".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        fixture
            .service
            .grpc_bulk(request, &trace)
            .await
            .unwrap()
            .data
            .len(),
        2
    );
}

/// A4.8: every access leaves a record, none of them the value.
#[tokio::test]
async fn accesses_are_recorded_without_values() {
    let fixture = fixture().await;
    for (store, key) in [("vault", "a"), ("vault", "b"), ("vault", "none"), ("other", "a")] {
        read(&fixture, store, key).await;
    }
    fixture
        .audit
        .shutdown(tokio::time::Instant::now() + Duration::from_secs(5))
        .await;
    let text = std::fs::read_to_string(fixture.folder.path().join("audit.log")).unwrap();
    let records: Vec<(String, String, String)> = text
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let field = |name: &str| line[name].as_str().unwrap().to_owned();
            assert_eq!(field("actor"), "spiffe://public/ns/default/app");
            (field("target"), field("decision"), field("policy"))
        })
        .collect();
    let wanted = [
        ("vault/a", "allowed", "secrets.scopes"),
        ("vault/b", "denied", "secrets.scopes"),
        ("vault/none", "failed", "secrets.scopes"),
        ("other/a", "denied", ""),
    ];
    assert_eq!(
        records,
        wanted.map(|(target, decision, policy)| (target.to_owned(), decision.to_owned(), policy.to_owned()))
    );
    assert!(!text.contains("<1>") && !text.contains("\\u003c1"));
}

#[tokio::test]
async fn without_stores_the_block_is_not_configured() {
    let service = Arc::new(SecretsService::new(SecretsServiceOptions {
        stores: components([]),
        scopes: Vec::new(),
        resilience: resilience(),
        metrics: outrigger_telemetry::Metrics::disabled(),
        audit: Audit::disabled(),
    }));
    let params = [("secretStoreName", "vault"), ("key", "a")];
    let route = "secrets/{secretStoreName}/{key}";
    let answer = call(
        &service.endpoints(),
        Method::GET,
        "v1.0",
        route,
        &params,
        get("/"),
    )
    .await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.json()["errorCode"], "ERR_SECRET_STORES_NOT_CONFIGURED");
}
