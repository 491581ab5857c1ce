//! The conversation block: messages, tools and the trait of language model components.

use std::{collections::BTreeMap, fmt, future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use outrigger_component::{Error, Metadata};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions of the developer.
    Developer,
    /// Instructions of the system.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// A call of a tool that the model asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolCall {
    /// Its id; results refer to it.
    pub id: Option<String>,
    /// The function's name.
    pub name: String,
    /// The arguments as JSON text.
    pub arguments: String,
}

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The speaker's name, where given.
    pub name: Option<String>,
    /// The texts.
    pub content: Vec<String>,
    /// Tool calls (assistant only).
    pub tool_calls: Vec<ToolCall>,
    /// Which call this answers (tool only).
    pub tool_id: Option<String>,
}

/// A function the model may call.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON schema of its parameters.
    pub parameters: Option<serde_json::Value>,
}

/// A request.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Model parameters.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Component metadata of this request.
    pub metadata: Metadata,
    /// Ties calls of one conversation together.
    pub context_id: Option<String>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// The tools on offer.
    pub tools: Vec<Tool>,
    /// `auto`, `none`, `required` or a tool's name.
    pub tool_choice: Option<String>,
    /// JSON schema of the answer.
    pub response_format: Option<serde_json::Value>,
    /// How long the prompt stays cached.
    pub prompt_cache_retention: Option<Duration>,
}

/// One choice of an answer.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Why the model stopped (`stop`, `tool_calls`, …).
    pub finish_reason: String,
    /// Its position.
    pub index: i64,
    /// The text.
    pub content: String,
    /// Tool calls.
    pub tool_calls: Vec<ToolCall>,
}

/// Token counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the answer.
    pub completion_tokens: u64,
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of both.
    pub total_tokens: u64,
}

/// One output: the answer to the inputs so far.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// The choices.
    pub choices: Vec<Choice>,
    /// The model that answered.
    pub model: Option<String>,
    /// What it cost.
    pub usage: Option<Usage>,
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// The context id, as given or as the component made it.
    pub context_id: Option<String>,
    /// The outputs.
    pub outputs: Vec<Output>,
}

/// A language model component.
pub trait Conversation: fmt::Debug + Send + Sync + 'static {
    /// Asks the model.
    fn converse(&self, request: Request) -> impl Future<Output = Result<Response, Error>> + Send;
    /// Lets go of connections.
    fn close(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
}

/// The erased twin of [`Conversation`].
pub trait DynConversation: fmt::Debug + Send + Sync + 'static {
    /// See [`Conversation::converse`].
    fn converse(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>>;
    /// See [`Conversation::close`].
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// A shared model.
pub type SharedConversation = Arc<dyn DynConversation>;

impl<C: Conversation> DynConversation for C {
    fn converse(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>> {
        Box::pin(Conversation::converse(self, request))
    }
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(Conversation::close(self))
    }
}
