//! The second version: typed messages, tools, formats, usage.

use outrigger_conversation::{Choice, Message, Output, Request, Role, Tool, ToolCall};
use outrigger_sidecar_api::{ApiError, errors};
use outrigger_wire::dapr::proto::runtime::v1::{
    ConversationMessage, ConversationMessageContent, ConversationRequestAlpha2, ConversationResponseAlpha2,
    ConversationResultAlpha2, ConversationResultAlpha2CompletionUsage, ConversationResultChoices,
    ConversationResultMessage, ConversationToolCalls, ConversationToolCallsOfFunction, ConversationTools,
    conversation_message::MessageTypes, conversation_tool_calls, conversation_tools,
};

use super::{ConversationService, proto};

impl ConversationService {
    /// `ConverseAlpha2`.
    ///
    /// # Errors
    /// Rows of the conversation table.
    pub async fn grpc_converse_alpha2(
        &self,
        request: ConversationRequestAlpha2,
    ) -> Result<ConversationResponseAlpha2, ApiError> {
        let name = request.name;
        let model = self.model(&name).await?;
        if request.inputs.is_empty() {
            return Err(errors::conversation_missing_inputs(&name));
        }
        let mut messages = Vec::new();
        for input in request.inputs {
            let scrub = input.scrub_pii.unwrap_or_default();
            for message in input.messages {
                messages.push(self.message(&name, message, scrub).await?);
            }
        }
        let tool_choice = tool_choice(&name, request.tool_choice, &request.tools)?;
        let prompt_cache_retention = request
            .prompt_cache_retention
            .map(|retention| {
                proto::duration(retention).ok_or_else(|| {
                    errors::conversation_invalid_params_because(
                        &name,
                        "prompt cache retention is out of range",
                    )
                })
            })
            .transpose()?;
        let context_id = request.context_id.filter(|id| !id.is_empty());
        let answer = self
            .converse(
                &model,
                Request {
                    messages,
                    parameters: proto::parameters(&request.parameters),
                    metadata: request.metadata.into_iter().collect(),
                    context_id: context_id.clone(),
                    temperature: request.temperature,
                    tools: request.tools.into_iter().filter_map(tool).collect(),
                    tool_choice,
                    response_format: request.response_format.as_ref().and_then(proto::object),
                    prompt_cache_retention,
                },
            )
            .await?;
        let scrub = request.scrub_pii.unwrap_or_default();
        let mut outputs = Vec::with_capacity(answer.outputs.len());
        for output in answer.outputs {
            outputs.push(self.output(&name, output, scrub).await?);
        }
        Ok(ConversationResponseAlpha2 {
            context_id: context_id.or(answer.context_id),
            outputs,
        })
    }

    async fn message(
        &self,
        model: &str,
        message: ConversationMessage,
        scrub: bool,
    ) -> Result<Message, ApiError> {
        let because = |cause: &str| errors::conversation_invalid_params_because(model, cause);
        let (role, name, content, calls, tool_id) = match message.message_types {
            None => return Err(because("message type cannot be nil")),
            Some(MessageTypes::OfDeveloper(message)) => {
                (Role::Developer, message.name, message.content, vec![], None)
            }
            Some(MessageTypes::OfSystem(message)) => {
                (Role::System, message.name, message.content, vec![], None)
            }
            Some(MessageTypes::OfUser(message)) => (Role::User, message.name, message.content, vec![], None),
            Some(MessageTypes::OfAssistant(message)) => (
                Role::Assistant,
                message.name,
                message.content,
                message.tool_calls,
                None,
            ),
            Some(MessageTypes::OfTool(message)) => (
                Role::Tool,
                Some(message.name),
                message.content,
                vec![],
                message.tool_id,
            ),
        };
        let tool_calls = calls
            .into_iter()
            .map(|call| match call.tool_types {
                None => Err(because("tool types cannot be nil")),
                Some(conversation_tool_calls::ToolTypes::Function(function)) => Ok(ToolCall {
                    id: call.id,
                    name: function.name,
                    arguments: function.arguments,
                }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut texts = Vec::with_capacity(content.len());
        for ConversationMessageContent { text } in content {
            texts.push(self.scrubbed(model, text, scrub).await?);
        }
        Ok(Message {
            role,
            name,
            content: texts,
            tool_calls,
            tool_id,
        })
    }

    async fn output(
        &self,
        model: &str,
        output: Output,
        scrub: bool,
    ) -> Result<ConversationResultAlpha2, ApiError> {
        let mut choices = Vec::with_capacity(output.choices.len());
        for Choice {
            finish_reason,
            index,
            content,
            tool_calls,
        } in output.choices
        {
            let content = self.scrubbed(model, content, scrub).await?;
            let tool_calls = tool_calls
                .into_iter()
                .map(|call| ConversationToolCalls {
                    id: call.id.filter(|id| !id.is_empty()),
                    tool_types: Some(conversation_tool_calls::ToolTypes::Function(
                        ConversationToolCallsOfFunction {
                            name: call.name,
                            arguments: call.arguments,
                        },
                    )),
                })
                .collect();
            choices.push(ConversationResultChoices {
                finish_reason,
                index,
                message: Some(ConversationResultMessage { content, tool_calls }),
            });
        }
        Ok(ConversationResultAlpha2 {
            choices,
            model: output.model.filter(|model| !model.is_empty()),
            usage: output.usage.map(|usage| ConversationResultAlpha2CompletionUsage {
                completion_tokens: usage.completion_tokens,
                prompt_tokens: usage.prompt_tokens,
                total_tokens: usage.total_tokens,
                // The block's components do not break their counts down.
                completion_tokens_details: None,
                prompt_tokens_details: None,
            }),
        })
    }
}

fn function_name(tool: &ConversationTools) -> Option<&str> {
    match tool.tool_types.as_ref()? {
        conversation_tools::ToolTypes::Function(function) => Some(&function.name),
    }
}

fn tool(tool: ConversationTools) -> Option<Tool> {
    match tool.tool_types? {
        conversation_tools::ToolTypes::Function(function) => Some(Tool {
            name: function.name,
            description: function.description,
            parameters: function.parameters.as_ref().and_then(proto::object),
        }),
    }
}

/// Checks the choice of a tool; without one it is `auto` where there are tools.
fn tool_choice(
    model: &str,
    choice: Option<String>,
    tools: &[ConversationTools],
) -> Result<Option<String>, ApiError> {
    let because = |cause: &str| errors::conversation_invalid_params_because(model, cause);
    let choice = choice.filter(|choice| !choice.is_empty());
    match choice.as_deref() {
        None => Ok((!tools.is_empty()).then(|| "auto".to_owned())),
        Some("auto" | "none") => Ok(choice),
        Some("required") if tools.is_empty() => Err(because(
            "tool choice must be 'auto', 'none', 'required', or the name of one of the tools on offer",
        )),
        Some("required") => Ok(choice),
        Some(name) if !tools.is_empty() && !tools.iter().any(|tool| function_name(tool) == Some(name)) => {
            Err(because(
                "tool choice selected was not found: it must be 'auto', 'none', 'required', or the name of one of the \
             tools on offer",
            ))
        }
        Some(_) => Ok(choice),
    }
}

#[cfg(test)]
mod tests {
    use outrigger_wire::dapr::proto::runtime::v1::ConversationToolsFunction;

    use super::*;

    #[test]
    fn tool_choices_are_checked() {
        let tools = [ConversationTools {
            tool_types: Some(conversation_tools::ToolTypes::Function(
                ConversationToolsFunction {
                    name: "f".to_owned(),
                    ..Default::default()
                },
            )),
        }];
        let chosen =
            |choice: &str, tools: &[ConversationTools]| tool_choice("m", Some(choice.to_owned()), tools);
        assert_eq!(tool_choice("m", None, &tools).unwrap().as_deref(), Some("auto"));
        assert_eq!(tool_choice("m", None, &[]).unwrap(), None);
        assert_eq!(chosen("f", &tools).unwrap().as_deref(), Some("f"));
        assert!(chosen("g", &tools).is_err());
        assert!(chosen("g", &[]).is_ok());
        assert!(chosen("required", &[]).is_err());
        assert!(chosen("required", &tools).is_ok());
    }
}
