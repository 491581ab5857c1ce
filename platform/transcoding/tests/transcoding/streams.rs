//! Server streams over HTTP.

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::schema::{Answer, send_request};

async fn watch(key: &str, accept: &str) -> Answer {
    let request = Request::get(format!("/v1/watch/{key}"))
        .header("accept", accept)
        .header("x-say", "hi")
        .body(Body::empty())
        .unwrap();
    send_request(request).await
}

fn item(key: &str) -> Value {
    json!({"service": "", "key": key, "includeValue": false})
}

#[tokio::test]
async fn a_stream_is_an_array() {
    let answer = watch("k", "*/*").await;
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["x-said"], "hi");
    assert_eq!(answer.json(), json!([item("k"), item("k"), item("k")]));
}

#[tokio::test]
async fn a_stream_can_be_lines_or_events() {
    let answer = watch("k", "text/html, application/x-ndjson").await;
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let lines: Vec<Value> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines, [item("k"), item("k"), item("k")]);
    let answer = watch("k", "text/event-stream").await;
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let events: Vec<&str> = answer.text().split_terminator("\n\n").collect();
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| event.starts_with("data: {")));
}

#[tokio::test]
async fn a_broken_stream_ends_with_its_error() {
    let answer = watch("broken", "application/json").await;
    assert_eq!(answer.status, StatusCode::OK);
    let error = json!({"error": {"code": 15, "message": "lost", "details": []}});
    assert_eq!(
        answer.json(),
        json!([item("broken"), item("broken"), item("broken"), error])
    );
}

#[tokio::test]
async fn a_refused_stream_is_an_error_answer() {
    let answer = watch("refused", "application/json").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.json()["code"], 7);
}
