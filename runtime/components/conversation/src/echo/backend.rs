//! The echo itself (behaviour: upstream `conversation/echo`).

use outrigger_component::Error;
use outrigger_conversation::{Choice, Conversation, Output, Request, Response, Role, Tool, ToolCall, Usage};

/// Answers one output with one choice: all texts of all messages, joined by line breaks, and a call of every tool
/// on offer, followed by the calls found in the messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo;

/// A call of the tool with the names of its parameters, sorted and joined by commas, as arguments.
fn call_of(position: usize, tool: &Tool) -> Result<ToolCall, Error> {
    let parameters = match &tool.parameters {
        None | Some(serde_json::Value::Null) => None,
        Some(serde_json::Value::Object(parameters)) => Some(parameters),
        Some(_) => return Err(Error::invalid("tool function parameters must be a map")),
    };
    let arguments = match parameters.and_then(|parameters| parameters.get("properties")) {
        None => String::new(),
        Some(serde_json::Value::Object(properties)) => {
            let mut names: Vec<&str> = properties.keys().map(String::as_str).collect();
            names.sort_unstable();
            names.join(",")
        }
        Some(_) => return Err(Error::invalid("tool function properties must be a map")),
    };
    Ok(ToolCall {
        id: Some(position.to_string()),
        name: tool.name.clone(),
        arguments,
    })
}

impl Conversation for Echo {
    async fn converse(&self, request: Request) -> Result<Response, Error> {
        let mut tool_calls = request
            .tools
            .iter()
            .enumerate()
            .map(|(position, tool)| call_of(position, tool))
            .collect::<Result<Vec<_>, _>>()?;
        let mut texts = Vec::new();
        for message in request.messages {
            if message.role == Role::Tool {
                let id = message.tool_id.as_deref().unwrap_or_default();
                let name = message.name.as_deref().unwrap_or_default();
                texts.extend(
                    message
                        .content
                        .iter()
                        .map(|text| format!("Tool Response for tool ID '{id}' with name '{name}': {text}")),
                );
            } else {
                texts.extend(message.content);
                tool_calls.extend(message.tool_calls);
            }
        }
        let content = texts.join("\n");
        // Words stand in for tokens, and the answer repeats the prompt, so both counts are one.
        let tokens = content.split_whitespace().count() as u64;
        let finish_reason = if tool_calls.is_empty() {
            "stop"
        } else {
            "tool_calls"
        };
        Ok(Response {
            context_id: request.context_id,
            outputs: vec![Output {
                choices: vec![Choice {
                    finish_reason: finish_reason.to_owned(),
                    index: 0,
                    content,
                    tool_calls,
                }],
                model: None,
                usage: Some(Usage {
                    completion_tokens: tokens,
                    prompt_tokens: tokens,
                    total_tokens: 2 * tokens,
                }),
            }],
        })
    }
}
