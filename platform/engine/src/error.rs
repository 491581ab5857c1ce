//! What can go wrong with a worker's code.

use std::time::Duration;

/// Why code was not loaded, or an event not processed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No engine takes this content type.
    #[error("no engine for {mime:?}; there are: {known}")]
    UnknownType {
        /// What was asked for.
        mime: String,
        /// What there is.
        known: String,
    },
    /// The machine lacks what runs this code.
    #[error("{0}")]
    Unavailable(String),
    /// The code cannot be run: its syntax, its imports, its shape. In the words of the language.
    #[error("the code cannot be loaded: {0}")]
    Load(String),
    /// The code raised an error on an event. In the words of the language.
    #[error("the worker failed: {0}")]
    Failed(String),
    /// The code did not answer in time.
    #[error("the worker did not answer within {0:?}")]
    Timeout(Duration),
    /// What ran the code ended: killed for its use of memory or time, or by itself.
    #[error("the worker's process ended: {0}")]
    Crashed(String),
    /// The engine was closed.
    #[error("the worker is stopped")]
    Closed,
}

impl EngineError {
    /// A word for events and metrics that does not change with the message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UnknownType { .. } => "unknown-type",
            Self::Unavailable(_) => "unavailable",
            Self::Load(_) => "load",
            Self::Failed(_) => "failed",
            Self::Timeout(_) => "timeout",
            Self::Crashed(_) => "crashed",
            Self::Closed => "closed",
        }
    }
}
