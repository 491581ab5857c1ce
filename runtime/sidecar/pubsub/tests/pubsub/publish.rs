//! What apps publish, and what they are told when it fails.

use std::sync::Arc;

use http::StatusCode;
use outrigger_pubsub::MemoryPubSub;
use outrigger_sidecar_pubsub::SubscriptionKind;
use outrigger_telemetry::trace::SpanContext;
use outrigger_wire::dapr::proto::runtime::v1::PublishEventRequest;

use crate::support::{Bench, body, subscription};

#[tokio::test]
async fn an_event_goes_from_publish_to_app() {
    let mut bench = Bench::new().await;
    bench.subscribe(vec![subscription("t/a", "/in?x=1")]).await;
    let response = bench
        .call(
            "PublishEvent",
            "v1.0",
            "ps/t/a",
            "metadata.cloudevent.type=kind&metadata.key=v",
            "application/json",
            r#"{"b":1,"a":2}"#,
        )
        .await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let seen = bench.next().await;
    assert_eq!(seen.path, "/in?x=1");
    assert_eq!(seen.headers["content-type"], "application/cloudevents+json");
    assert_eq!(seen.headers["pubsubname"], "ps");
    assert_eq!(seen.headers["key"], "v");
    let event = seen.json();
    assert_eq!(event["type"], "kind");
    assert_eq!(event["source"], "app");
    assert_eq!(event["topic"], "t/a");
    assert_eq!(event["data"], serde_json::json!({"a": 2, "b": 1}));
    assert_eq!(event["specversion"], "1.0");
    let infos = bench.service.subscriptions();
    assert_eq!(infos.len(), 1);
    assert_eq!(infos[0].kind, SubscriptionKind::Declarative);
    assert_eq!(infos[0].rules, [(String::new(), "/in?x=1".to_owned())]);
}

#[tokio::test]
async fn publish_errors() {
    let scopes = [
        ("publishingScopes", "app=only"),
        ("allowedTopics", "only,other"),
        ("protectedTopics", "other"),
    ];
    let bench = Bench::with(Arc::new(MemoryPubSub::new()), &scopes).await;
    let single = ("PublishEvent", "v1.0");
    let bulk = ("BulkPublishEvent", "v1.0-alpha1");
    for ((name, version), path, query, content_type, sent, status, code, message) in [
        (
            single,
            "no/only",
            "",
            "",
            "",
            404,
            "ERR_PUBSUB_NOT_FOUND",
            "pubsub no is not found",
        ),
        (
            single,
            "ps/",
            "",
            "",
            "",
            404,
            "ERR_TOPIC_NAME_EMPTY",
            "topic is empty in pubsub ps",
        ),
        (
            single,
            "ps/only",
            "metadata.rawPayload=nope",
            "",
            "",
            400,
            "ERR_PUBSUB_REQUEST_METADATA",
            "failed deserializing metadata. Error: rawPayload value must be a valid boolean: actual is 'nope'",
        ),
        (
            single,
            "ps/only",
            "",
            "application/cloudevents+json",
            r#"{"}"#,
            500,
            "ERR_PUBSUB_CLOUD_EVENTS_SER",
            "cannot create cloudevent",
        ),
        (
            single,
            "ps/x",
            "",
            "",
            "",
            403,
            "ERR_PUBSUB_FORBIDDEN",
            "topic x is not allowed for app id app",
        ),
        (
            bulk,
            "ps/only",
            "",
            "",
            r#"{"entryID": "}"#,
            400,
            "ERR_PUBSUB_EVENTS_SER",
            "error when unmarshaling the request for topic only pubsub ps: unexpected EOF",
        ),
        (
            bulk,
            "ps/only",
            "",
            "",
            r#"[{"entryId":"1","event":5,"contentType":"text/plain"}]"#,
            400,
            "ERR_PUBSUB_EVENTS_SER",
            "error when marshalling cloud event envelope for topic only pubsub ps: error: mismatch between contentType and event",
        ),
        (
            bulk,
            "ps/only",
            "",
            "",
            r#"[{"entryId":"1","event":"a","contentType":"text/plain"},{"entryId":"1","event":"b","contentType":"text/plain"}]"#,
            400,
            "ERR_PUBSUB_EVENTS_SER",
            "error marshaling events to bytes for topic only pubsub ps. error: entryId is duplicated or not present for entry",
        ),
    ] {
        let response = bench.call(name, version, path, query, content_type, sent).await;
        assert_eq!(response.status().as_u16(), status, "{path} {sent}");
        let error = body(response).await;
        assert_eq!(error["errorCode"], code);
        assert_eq!(error["message"], message);
    }
    let status = bench
        .service
        .publish_event(
            PublishEventRequest {
                pubsub_name: "no".into(),
                topic: "t".into(),
                ..Default::default()
            },
            &SpanContext::default(),
        )
        .await
        .unwrap_err()
        .to_status();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::InvalidArgument, "pubsub no is not found")
    );
}

#[tokio::test]
async fn a_broker_that_is_closed_fails_every_entry() {
    let memory = MemoryPubSub::new();
    let bench = Bench::with(Arc::new(memory.clone()), &[]).await;
    outrigger_pubsub::PubSub::close(&memory).await.unwrap();
    let sent = r#"[{"entryId":"1","event":"a","contentType":"text/plain"}]"#;
    let response = bench.call("BulkPublishEvent", "v1.0", "ps/t", "", "", sent).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(response.headers().contains_key("metadata.responsedata"));
    assert!(
        response.headers()["metadata.error"]
            .to_str()
            .unwrap()
            .starts_with("api error: code = Internal desc = error when publishing to topic t in pubsub ps")
    );
    assert_eq!(
        body(response).await,
        serde_json::json!({"failedEntries":[{"entryId":"1","error":"component is closed"}],
            "errorCode":"ERR_PUBSUB_PUBLISH_MESSAGE"})
    );
}
