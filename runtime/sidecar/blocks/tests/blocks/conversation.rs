use std::sync::Arc;

use http::{Method, StatusCode};
use outrigger_components_conversation::ECHO;
use outrigger_conversation::SharedConversation;
use outrigger_sidecar_blocks::{ConversationService, ConversationServiceOptions};
use serde_json::json;

use crate::support::{Answer, call, components, loaded, metrics, open, post, rendered, resilience};

async fn service(metrics: outrigger_telemetry::Metrics) -> Arc<ConversationService> {
    let folder = tempfile::tempdir().unwrap();
    let model: SharedConversation = open(ECHO, folder.path(), &[("key", "testkey")]).await;
    Arc::new(ConversationService::new(ConversationServiceOptions {
        models: components([loaded("echo", "conversation.echo", &[], model)]),
        resilience: resilience(),
        metrics,
    }))
}

async fn converse(version: &str, name: &str, body: serde_json::Value) -> Answer {
    let service = service(outrigger_telemetry::Metrics::disabled()).await;
    let params = [("name", name)];
    let request = post(&body.to_string());
    call(
        &service.endpoints(),
        Method::POST,
        version,
        "conversation/{name}/converse",
        &params,
        request,
    )
    .await
}

#[tokio::test]
async fn alpha1_echoes_and_scrubs() {
    let answer = converse(
        "v1.0-alpha1",
        "echo",
        json!({"name": "ignored", "contextID": "c", "inputs": [
            {"content": "from 10.8.9.1"}, {"content": "mail test@test.com", "scrubPII": true}
        ], "parameters": {"max": {"@type": "type.googleapis.com/google.protobuf.Int64Value", "value": "1"}}}),
    )
    .await;
    assert_eq!(
        answer.json(),
        json!({"contextID": "c", "outputs": [{
            "result": "from 10.8.9.1\nmail <EMAIL_ADDRESS>",
            "parameters": {"max": {"@type": "type.googleapis.com/google.protobuf.Int64Value", "value": "1"}}
        }]})
    );
    let answer = converse(
        "v1.0-alpha1",
        "echo",
        json!({"inputs": [{"content": "from 10.8.9.1"}], "scrubPII": true}),
    )
    .await;
    assert_eq!(answer.json(), json!({"outputs": [{"result": "from <IP>"}]}));
}

#[tokio::test]
async fn alpha2_carries_messages_tools_and_usage() {
    let answer = converse(
        "v1.0-alpha2",
        "echo",
        json!({
            "contextId": "c",
            "inputs": [
                {"messages": [{"ofUser": {"name": "u", "content": [{"text": "well hello there"}]}}], "scrubPII": false},
                {"messages": [{"ofSystem": {"content": [{"text": "be helpful"}]}}]}
            ],
            "temperature": 0.7,
            "responseFormat": {"type": "object"},
            "promptCacheRetention": "86400s",
            "tools": [{"function": {"name": "f", "description": "d",
                "parameters": {"type": "object", "properties": {"p": {"type": "string"}}}}}],
            "toolChoice": "f"
        }),
    )
    .await;
    assert_eq!(
        answer.json(),
        json!({"contextId": "c", "outputs": [{
            "choices": [{"finishReason": "tool_calls", "message": {
                "content": "well hello there\nbe helpful",
                "toolCalls": [{"id": "0", "function": {"name": "f", "arguments": "p"}}]
            }}],
            "usage": {"completionTokens": "5", "promptTokens": "5", "totalTokens": "10"}
        }]})
    );
}

#[tokio::test]
async fn requests_are_checked() {
    for (name, body, code, part) in [
        (
            "none",
            json!({}),
            "ERR_CONVERSATION_NOT_FOUND",
            "failed finding conversation component none",
        ),
        (
            "echo",
            json!({}),
            "ERR_CONVERSATION_MISSING_INPUTS",
            "missing inputs in request",
        ),
        (
            "echo",
            json!({"inputs": [{"messages": [{"unknown": {}}]}]}),
            "ERR_CONVERSATION_INVALID_PARMS",
            "message type cannot be nil",
        ),
        (
            "echo",
            json!({"inputs": [{"messages": [{"ofAssistant": {"toolCalls": [{"id": "1"}]}}]}]}),
            "ERR_CONVERSATION_INVALID_PARMS",
            "tool types cannot be nil",
        ),
    ] {
        let answer = converse("v1.0-alpha2", name, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.json()["errorCode"], code);
        assert!(
            answer.json()["message"].as_str().unwrap().contains(part),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn calls_are_counted() {
    let metrics = metrics();
    let service = service(metrics.clone()).await;
    let request = outrigger_wire::dapr::proto::runtime::v1::ConversationRequest {
        name: "echo".to_owned(),
        inputs: vec![Default::default()],
        ..Default::default()
    };
    service.grpc_converse_alpha1(request).await.unwrap();
    assert!(rendered(&metrics).contains("dapr_component_conversation_count"));
}
