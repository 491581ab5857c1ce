//! Which request is which call, and how failures are told.

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use outrigger_platform_transcoding::{LiveRoutes, Mount, Transcoder, http_status};
use serde_json::json;
use std::sync::Arc;
use tonic::Code;

use crate::schema::{Echo, echo, pool, send, send_request, shared};

#[tokio::test]
async fn keys_may_hold_slashes() {
    for (path, key) in [
        ("a", "a"),
        ("a/b/c", "a/b/c"),
        ("a%2Fb", "a/b"),
        ("a//b", "a//b"),
        ("a%20%C3%BC", "a ü"),
    ] {
        let answer = echo("GET", &format!("/v1/state/s/{path}"), "").await;
        assert_eq!(answer, json!({"service": "s", "key": key}));
    }
    let answer = echo("DELETE", "/v1/state/s/a/b?include_value=true", "").await;
    assert_eq!(
        answer,
        json!({"service": "s", "key": "a/b", "includeValue": true})
    );
    // Without a key it is the list, whose rule has no `**`.
    assert_eq!(echo("GET", "/v1/state/s", "").await, json!({"service": "s"}));
}

#[tokio::test]
async fn verbs_and_custom_methods_are_routes() {
    let answer = echo("POST", "/v1/state/s:run", r#"{"key":"k"}"#).await;
    assert_eq!(answer, json!({"service": "s", "key": "k"}));
    assert_eq!(echo("PROPFIND", "/v1/state/s", "").await, json!({"service": "s"}));
}

#[tokio::test]
async fn what_is_not_served_is_not_found() {
    let answer = send("GET", "/v1/nothing", "").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.json()["code"], 5);
    let answer = send("PUT", "/v1/state/s/k", "{}").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers["allow"], "DELETE, GET");
    assert_eq!(answer.json()["code"], 12);
}

#[tokio::test]
async fn every_code_has_its_status_and_body() {
    for number in 1..=16 {
        let answer = send("GET", &format!("/v1/fail/{number}"), "").await;
        assert_eq!(answer.status, http_status(Code::from(number)));
        assert_eq!(
            answer.json(),
            json!({"code": number, "message": "it failed", "details": [{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "BECAUSE", "domain": "test", "metadata": {"a": "b"},
            }]})
        );
    }
    assert_eq!(send("GET", "/v1/fail/10", "").await.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn bodies_have_a_limit_and_a_type() {
    let answer = send(
        "POST",
        "/v1/all",
        &format!(r#"{{"aString":"{}"}}"#, "x".repeat(1 << 16)),
    )
    .await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.json()["code"], 8);
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let request = Request::post("/v1/all")
            .header("content-type", kind)
            .body(Body::from("{}"))
            .unwrap();
        assert_eq!(
            send_request(request).await.status,
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        );
    }
    for kind in ["application/json; charset=utf-8", "application/merge-patch+json"] {
        let request = Request::post("/v1/all")
            .header("content-type", kind)
            .body(Body::from("{}"))
            .unwrap();
        assert_eq!(send_request(request).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn headers_are_metadata_both_ways() {
    let request = Request::get("/v1/state/s")
        .header("x-say", "hello")
        .body(Body::empty())
        .unwrap();
    assert_eq!(send_request(request).await.headers["x-said"], "hello");
}

#[tokio::test]
async fn http_bodies_pass_as_they_are() {
    let request = Request::post("/v1/files/7")
        .header("content-type", "image/png")
        .body(Body::from(vec![0, 255, 1]))
        .unwrap();
    let answer = send_request(request).await;
    assert_eq!(answer.headers["content-type"], "image/png");
    assert_eq!(answer.body.as_ref(), [0, 255, 1]);
}

#[test]
fn rules_that_cannot_be_served_are_told() {
    let transcoder = Transcoder::new(&pool(), &["test.Wrong"]);
    let mut faults: Vec<String> = transcoder.faults().iter().map(ToString::to_string).collect();
    faults.sort();
    assert_eq!(transcoder.rules().count(), 0);
    assert_eq!(
        faults,
        [
            "test.Wrong.Answer: the answer's field nothing is not in test.Key",
            "test.Wrong.Body: the body's field nothing is not in test.Key",
            "test.Wrong.Field: test.Key has no field \"nothing\"",
            "test.Wrong.In: a stream of requests has no form in HTTP",
            "test.Wrong.Message: the path variable inner is no single value",
            "test.Wrong.Template: path template \"v1/a\": does not begin with /",
        ]
    );
}

#[tokio::test]
async fn routes_change_while_served() {
    let routes = LiveRoutes::default();
    let get = || Request::get("/v1/state/s").body(Body::empty()).unwrap();
    assert_eq!(routes.handle(get()).await.status(), StatusCode::NOT_FOUND);
    let mount = Mount {
        name: "echo".to_owned(),
        transcoder: Arc::new(Transcoder::new(&pool(), &["test.Echo"])),
        upstream: shared(),
    };
    routes.replace(vec![mount.clone(), mount]);
    assert!(routes.matches(&http::Method::GET, "/v1/state/s"));
    let response = routes.handle(get()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let put = Request::put("/v1/state/s").body(Body::empty()).unwrap();
    let response = routes.handle(put).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()["allow"], "DELETE, GET, PROPFIND");
    routes.replace(Vec::new());
    let response = routes.handle(get()).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(response.into_body().collect().await.is_ok());
}

#[test]
fn descriptors_without_rules_have_no_routes() {
    let pool = prost_reflect::DescriptorPool::global();
    assert_eq!(Transcoder::new(&pool, &["test.Echo"]).rules().count(), 0);
    let _ = Echo(pool);
}
