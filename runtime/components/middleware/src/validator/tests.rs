use serde_json::{Value, json};

use super::VALIDATOR;
use crate::testing::{Seen, call, get, open, post};

const ORDERS: &str = r#"[
    {"path": "/v1.0/invoke/shop/method/orders/{id}", "methods": ["put"],
     "schema": {"type": "object", "required": ["item", "count"], "additionalProperties": false,
                "properties": {"item": {"type": "string", "pattern": "^[a-z]+$"}, "count": {"type": "integer", "minimum": 1}}}},
    {"path": "/v1.0/publish/{pubsub}/{topic}", "schema": {"type": "array"}}
]"#;

fn said(seen: &Seen) -> Value {
    assert_eq!(seen.headers["content-type"], "application/json");
    assert!(seen.passed.is_none());
    serde_json::from_str(&seen.body).unwrap()
}

#[tokio::test]
async fn without_metadata_json_must_be_json() {
    let handler = open(VALIDATOR, &[]).await.unwrap();
    for (content_type, body, status) in [
        ("application/json", "{\"a\": 1}", 200),
        ("application/json; charset=utf-8", "{\"a\": ", 400),
        ("application/cloudevents+json", "nope", 400),
        ("text/plain", "nope", 200),
        ("application/json", "", 200),
    ] {
        let seen = call(&handler, post("/v1.0/state/s", content_type, body)).await;
        assert_eq!(seen.status, status, "{content_type} {body}");
        if status == 200 {
            assert_eq!(seen.passed.unwrap().body(), body);
        }
    }
    assert_eq!(call(&handler, get("/v1.0/state/s/k")).await.status, 200);
    let deep = "[".repeat(100_000);
    assert_eq!(
        call(&handler, post("/", "application/json", &deep)).await.status,
        400
    );
}

#[tokio::test]
async fn a_body_must_fit_the_schema_of_its_path_and_method() {
    let handler = open(VALIDATOR, &[("schemas", ORDERS)]).await.unwrap();
    let put = async |path: &str, body: &str| {
        let mut request = post(path, "text/plain", body);
        *request.method_mut() = http::Method::PUT;
        call(&handler, request).await
    };
    let orders = "/v1.0/invoke/shop/method/orders/7";
    let seen = put(orders, r#"{"item": "apple", "count": 2}"#).await;
    assert_eq!(seen.status, 200);
    assert_eq!(seen.passed.unwrap().body(), r#"{"item": "apple", "count": 2}"#);
    for (body, paths) in [
        (r#"{"item": "Apple", "count": 0}"#, vec!["/item", "/count"]),
        (r#"{"item": "apple"}"#, vec![""]),
        ("[]", vec![""]),
    ] {
        let seen = put(orders, body).await;
        assert_eq!(seen.status, 400, "{body}");
        let said = said(&seen);
        assert_eq!(said["errorCode"], "ERR_REQUEST_VALIDATION");
        assert_eq!(said["handler"], "handler");
        let mut found: Vec<_> = said["details"]
            .as_array()
            .unwrap()
            .iter()
            .map(|detail| detail["instancePath"].as_str().unwrap())
            .collect();
        found.sort_unstable();
        found.reverse();
        assert_eq!(found, paths);
    }
    assert_eq!(put(orders, "").await.status, 400, "a body that must be there");
    // The path that is dispatched counts; another method or path has no schema.
    assert_eq!(
        put("//v1.0/invoke/shop/method/x/%2e%2e/orders/7", "[]")
            .await
            .status,
        400
    );
    assert_eq!(call(&handler, post(orders, "text/plain", "[]")).await.status, 200);
    assert_eq!(
        call(&handler, post("/v1.0/publish/p/t", "x/y", "[1]"))
            .await
            .status,
        200
    );
    assert_eq!(
        call(&handler, post("/v1.0/publish/p/t", "x/y", "1")).await.status,
        400
    );
}

#[tokio::test]
async fn a_refusal_names_the_trace_and_lists_a_few_mistakes() {
    let handler = open(
        VALIDATOR,
        &[(
            "schemas",
            r#"[{"path": "/a", "schema": {"items": {"type": "string"}}}]"#,
        )],
    )
    .await
    .unwrap();
    let body = Value::from(vec![1; 1000]).to_string();
    let mut request = post("/a", "application/json", &body);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request
        .headers_mut()
        .insert("traceparent", parent.parse().unwrap());
    let said = said(&call(&handler, request).await);
    assert_eq!(said["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(said["details"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn a_body_over_the_bound_is_refused() {
    let handler = open(VALIDATOR, &[("maxBodySize", "8")]).await.unwrap();
    let seen = call(&handler, post("/", "application/json", "\"1234567\"")).await;
    assert_eq!(seen.status, 413);
    said(&seen);
    assert_eq!(
        call(&handler, post("/", "application/json", "\"123456\""))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn schemas_can_be_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("order.json");
    std::fs::write(&file, json!({"type": "object"}).to_string()).unwrap();
    let schemas = json!([{"path": "/a", "schemaFile": file}]).to_string();
    let handler = open(VALIDATOR, &[("schemas", &schemas)]).await.unwrap();
    assert_eq!(call(&handler, post("/a", "x/y", "{}")).await.status, 200);
    assert_eq!(call(&handler, post("/a", "x/y", "1")).await.status, 400);
}

#[tokio::test]
async fn wrong_metadata_is_said_at_the_start() {
    for (schemas, reason) in [
        ("{}", "'schemas'"),
        (r#"[{"path": "/a"}]"#, "either schema or schemaFile"),
        (r#"[{"path": "/a", "schema": {}, "shema": 1}]"#, "unknown field"),
        (
            r#"[{"path": "/a", "schema": {"type": "nonsense"}}]"#,
            "cannot be used",
        ),
        (
            r#"[{"path": "/a", "schema": {"pattern": "("}}]"#,
            "cannot be used",
        ),
        (
            r#"[{"path": "/a", "schema": {"$ref": "http://127.0.0.1:1/x"}}]"#,
            "cannot be used",
        ),
        (r#"[{"path": "a", "schema": true}]"#, "path template"),
        (
            r#"[{"path": "/a", "methods": ["no method"], "schema": true}]"#,
            "method",
        ),
        (r#"[{"path": "/a", "schemaFile": "absent.json"}]"#, "absent.json"),
    ] {
        let error = open(VALIDATOR, &[("schemas", schemas)]).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{schemas}: {error}");
    }
}

#[tokio::test]
async fn a_pattern_cannot_be_made_to_backtrack() {
    let schemas = r#"[{"path": "/a", "schema": {"type": "string", "pattern": "^(a+)+$"}}]"#;
    let handler = open(VALIDATOR, &[("schemas", schemas)]).await.unwrap();
    let body = format!("\"{}!\"", "a".repeat(50_000));
    assert_eq!(
        call(&handler, post("/a", "application/json", &body)).await.status,
        400
    );
}
