//! The first version: texts with roles.

use outrigger_conversation::{Message, Request, Role};
use outrigger_sidecar_api::{ApiError, errors};
use outrigger_wire::dapr::proto::runtime::v1::{
    ConversationRequest, ConversationResponse, ConversationResult,
};

use super::{ConversationService, proto};

impl ConversationService {
    /// `ConverseAlpha1`.
    ///
    /// # Errors
    /// Rows of the conversation table.
    pub async fn grpc_converse_alpha1(
        &self,
        request: ConversationRequest,
    ) -> Result<ConversationResponse, ApiError> {
        let name = request.name;
        let model = self.model(&name).await?;
        if request.inputs.is_empty() {
            return Err(errors::conversation_missing_inputs(&name));
        }
        let mut messages = Vec::with_capacity(request.inputs.len());
        for input in request.inputs {
            let text = self
                .scrubbed(&name, input.content, input.scrub_pii.unwrap_or_default())
                .await?;
            messages.push(Message {
                role: role(input.role.as_deref().unwrap_or_default()),
                name: None,
                content: vec![text],
                tool_calls: Vec::new(),
                tool_id: None,
            });
        }
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
                    ..Request::default()
                },
            )
            .await?;
        let mut outputs = Vec::with_capacity(answer.outputs.len());
        for output in answer.outputs {
            // This version knows one text per output: that of the first choice.
            let text = output
                .choices
                .into_iter()
                .next()
                .map(|choice| choice.content)
                .unwrap_or_default();
            let result = self
                .scrubbed(&name, text, request.scrub_pii.unwrap_or_default())
                .await?;
            outputs.push(ConversationResult {
                result,
                parameters: request.parameters.clone(),
            });
        }
        Ok(ConversationResponse {
            context_id: context_id.or(answer.context_id),
            outputs,
        })
    }
}

/// Roles by the names and aliases of upstream's model library. Tools speak as the user here: this version has no ids
/// that could tie them to a call.
fn role(name: &str) -> Role {
    match name {
        "system" => Role::System,
        "assistant" | "ai" => Role::Assistant,
        _ => Role::User,
    }
}
