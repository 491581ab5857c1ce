//! Where code comes from (H5, Z15, Z16).

use base64::Engine as _;
use outrigger_platform_wire::virtufin as proto;
use outrigger_platform_workers::store::sha256;
use proto::code_source::Source;
use proto::source_credential::Credential;
use serde_json::json;
use tonic::Code;

use super::support::{Platform, answered, event, http, ready, server, until, worker};

fn from_url(url: String, hash: &str) -> proto::CreateWorkerRequest {
    let mut request = worker("orders", &json!({}));
    request.code_source = Some(proto::CodeSource {
        source: Some(Source::Url(url)),
        credential: None,
        content_sha256: hash.to_owned(),
    });
    request
}

#[tokio::test]
async fn h5_1_inline_code_reaches_the_engine_decoded() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    let code = json!({"type": "priced", "version": "by rest"}).to_string();
    let body = json!({
        "codeSource": {"content": base64::engine::general_purpose::STANDARD.encode(&code)},
        "mimeType": "text/x-recipe",
        "topic": "orders",
        "tags": {"team": "risk"},
    });
    let (status, created) = http(manager.http, "POST", "/v1/workers", Some(&body)).await;
    assert_eq!(status, 200, "{created}");
    manager.publish("orders", &event(1)).await;
    let output = until("the event is answered", async || {
        cluster.published("priced").pop()
    })
    .await;
    assert_eq!(output["data"]["version"], "by rest");

    // The other routes of R4.
    let id = created["id"].as_str().unwrap();
    let (_, listed) = http(manager.http, "GET", "/v1/workers", None).await;
    assert_eq!(listed["workers"][0]["id"], id);
    assert_eq!(listed["workers"][0]["status"], "WORKER_STATUS_RUNNING");
    let newer = json!({"content": base64::engine::general_purpose::STANDARD.encode("{}")});
    for (method, path, body, expected) in [
        ("POST", format!("/v1/workers/{id}/stop"), None, 200),
        ("POST", format!("/v1/workers/{id}/start"), None, 200),
        ("POST", format!("/v1/workers/{id}/code"), Some(&newer), 200),
        ("POST", "/v1/workers/recover".to_owned(), None, 200),
        ("DELETE", format!("/v1/workers/{id}"), None, 200),
        ("DELETE", format!("/v1/workers/{id}"), None, 404),
        (
            "POST",
            "/v1/workers".to_owned(),
            Some(&json!({"topic": "orders"})),
            400,
        ),
    ] {
        let (status, answer) = http(manager.http, method, &path, body).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn h5_2_code_is_fetched_and_its_hash_is_checked() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    let code = json!({"type": "priced"}).to_string();
    let (address, mut asked) = server(code.clone()).await;
    let url = format!("http://{address}/worker.py?token=hidden");

    let refused = manager
        .create(from_url(url.clone(), &sha256(b"other")))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("SHA-256"), "{refused}");
    assert!(manager.list().await.is_empty());

    let mut request = from_url(url.clone(), &sha256(code.as_bytes()).to_uppercase());
    request.code_source.as_mut().unwrap().credential = Some(proto::SourceCredential {
        credential: Some(Credential::Bearer(proto::BearerCredential {
            token: "s3cret".to_owned(),
        })),
    });
    let id = manager.create(request).await.unwrap();
    asked.recv().await.unwrap();
    let second = asked.recv().await.unwrap().to_lowercase();
    assert!(second.contains("authorization: bearer s3cret"), "{second}");
    manager.publish("orders", &event(1)).await;
    until("the event is answered", async || {
        (answered(&cluster, "priced") == ["1"]).then_some(())
    })
    .await;

    // A credential is used once and then nowhere to be found.
    let listed = manager.list().await;
    let source = listed[0].code_source.as_ref().unwrap();
    assert_eq!(source.source, Some(Source::Url(url)));
    assert!(source.credential.is_none());
    let key = outrigger_platform_workers::names::worker_key(&id);
    let record = manager
        .backend
        .get(&key)
        .await
        .unwrap()
        .unwrap()
        .value
        .to_string();
    assert!(!record.contains("s3cret"), "{record}");

    // New code comes the same ways, under the same checks.
    let mut ask = proto::LoadCodeFromUrlRequest {
        id: id.clone(),
        url: format!("http://{address}/newer.py"),
        credential: None,
        content_sha256: sha256(b"other"),
    };
    let refused = manager
        .client
        .clone()
        .load_code_from_url(ask.clone())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    ask.content_sha256.clear();
    manager.client.clone().load_code_from_url(ask).await.unwrap();
    let ask = proto::GetWorkerHistoryRequest { id };
    let history = manager
        .client
        .clone()
        .get_worker_history(ask)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(history.entries.len(), 2);

    // It goes with a URL only.
    let mut inline = worker("orders", &json!({}));
    inline.code_source.as_mut().unwrap().credential = Some(proto::SourceCredential {
        credential: Some(Credential::Basic(proto::BasicCredential::default())),
    });
    assert_eq!(
        manager.create(inline).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn h5_3_code_does_not_come_from_inside_or_from_who_is_not_listed() {
    let cluster = Platform::new();
    let (address, mut asked) = server("{}".to_owned()).await;
    // No list: public hosts only. A list: these hosts only, public ones included.
    for (list, url) in [
        ("", format!("http://{address}/a")),
        ("", "http://localhost/a".to_owned()),
        ("", "http://169.254.169.254/latest/meta-data".to_owned()),
        ("code.example.org", format!("http://{address}/a")),
        ("code.example.org", "https://example.com/a".to_owned()),
    ] {
        let manager = ready(&cluster, "one", &[("ALLOWED_CODE_SOURCE_HOSTS", list)]).await;
        let refused = manager.create(from_url(url.clone(), "")).await.unwrap_err();
        assert_eq!(
            refused.code(),
            Code::PermissionDenied,
            "{list:?} {url}: {refused}"
        );
        assert!(manager.list().await.is_empty());
    }
    assert!(asked.try_recv().is_err(), "nobody was asked");
    let manager = ready(&cluster, "one", &[]).await;
    for url in ["ftp://127.0.0.1/a", "not a url", "http://me:pass@127.0.0.1/"] {
        let refused = manager.create(from_url(url.to_owned(), "")).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{url}");
    }
}

#[tokio::test]
async fn code_has_a_bound() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[("WORKER_MAX_CODE_BYTES", "100")]).await;
    let long = json!({"version": "x".repeat(100)});
    let refused = manager.create(worker("orders", &long)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let (address, _asked) = server(long.to_string()).await;
    let refused = manager
        .create(from_url(format!("http://{address}/"), ""))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}
