use outrigger_conversation::{Conversation, Message, Request, Response, Role, Tool, ToolCall, Usage};
use serde_json::{Value, json};

use super::Echo;

fn message(role: Role, content: &[&str]) -> Message {
    Message {
        role,
        name: None,
        content: content.iter().map(|text| (*text).to_owned()).collect(),
        tool_calls: Vec::new(),
        tool_id: None,
    }
}

fn tool(name: &str, parameters: Option<Value>) -> Tool {
    Tool {
        name: name.to_owned(),
        description: None,
        parameters,
    }
}

async fn ask(messages: Vec<Message>, tools: Vec<Tool>) -> Response {
    Echo.converse(Request {
        messages,
        tools,
        ..Request::default()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn texts_come_back_joined_and_counted() {
    let response = ask(
        vec![
            message(Role::User, &["first message", "second message"]),
            message(Role::System, &["third"]),
        ],
        Vec::new(),
    )
    .await;
    let [output] = response.outputs.as_slice() else {
        panic!("one output")
    };
    let [choice] = output.choices.as_slice() else {
        panic!("one choice")
    };
    assert_eq!(choice.content, "first message\nsecond message\nthird");
    assert_eq!((choice.finish_reason.as_str(), choice.index), ("stop", 0));
    assert_eq!(
        output.usage,
        Some(Usage {
            completion_tokens: 5,
            prompt_tokens: 5,
            total_tokens: 10
        })
    );
}

#[tokio::test]
async fn an_empty_text_is_an_empty_choice() {
    let response = ask(vec![message(Role::User, &[""])], Vec::new()).await;
    assert_eq!(response.outputs[0].choices[0].content, "");
    assert_eq!(response.outputs[0].usage, Some(Usage::default()));
}

#[tokio::test]
async fn every_tool_is_called_with_its_sorted_parameter_names() {
    let schema = json!({"type": "object", "properties": {"unit": {}, "name": {}, "location": {}}});
    let response = ask(
        vec![message(Role::User, &["hi"])],
        vec![tool("f", Some(schema)), tool("g", None)],
    )
    .await;
    let choice = &response.outputs[0].choices[0];
    assert_eq!(choice.finish_reason, "tool_calls");
    assert_eq!(
        choice.tool_calls,
        [
            ToolCall {
                id: Some("0".into()),
                name: "f".into(),
                arguments: "location,name,unit".into()
            },
            ToolCall {
                id: Some("1".into()),
                name: "g".into(),
                arguments: String::new()
            },
        ]
    );
}

#[tokio::test]
async fn calls_and_results_of_earlier_turns_are_repeated() {
    let earlier = ToolCall {
        id: Some("call_1".into()),
        name: "f".into(),
        arguments: "{}".into(),
    };
    let mut assistant = message(Role::Assistant, &["calling"]);
    assistant.tool_calls = vec![earlier.clone()];
    let mut result = message(Role::Tool, &["42"]);
    result.tool_id = Some("call_1".into());
    result.name = Some("f".into());
    let response = ask(vec![assistant, result], vec![tool("g", None)]).await;
    let choice = &response.outputs[0].choices[0];
    assert_eq!(
        choice.content,
        "calling\nTool Response for tool ID 'call_1' with name 'f': 42"
    );
    assert_eq!(
        choice
            .tool_calls
            .iter()
            .map(|call| call.name.as_str())
            .collect::<Vec<_>>(),
        ["g", "f"]
    );
    assert_eq!(choice.tool_calls[1], earlier);
}

#[tokio::test]
async fn a_schema_that_is_no_object_is_refused() {
    for schema in [json!("text"), json!({"properties": []})] {
        let request = Request {
            tools: vec![tool("f", Some(schema))],
            ..Request::default()
        };
        assert!(Echo.converse(request).await.is_err());
    }
}
