//! What runs a worker's code: the trait of engines and the table of those there are (requirement H2.4).
//!
//! An [`EngineFactory`] turns the bytes of one content type into an [`Engine`]; an engine is one piece of loaded
//! code, and new code is a new engine, so that events under way finish on the old one. A new kind of engine is a
//! factory put into [`Engines`]: the worker manager does not change.

mod answer;
mod error;
mod registry;

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use outrigger_kit::Event;
use serde_json::Value;

pub use answer::answer;
pub use error::EngineError;
pub use registry::Engines;

/// What an engine is told about the worker whose code it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerContext {
    /// The worker's id.
    pub id: String,
    /// Its group, if it has one.
    pub group: Option<String>,
    /// The topic it reads.
    pub topic: String,
}

/// Makes engines for some content types.
pub trait EngineFactory: Debug + Send + Sync {
    /// The content types, in lower case, without parameters: `text/x-python`.
    fn mime_types(&self) -> &'static [&'static str];

    /// What people call the language: `python`.
    fn language(&self) -> &'static str;

    /// Loads code. The engine that is answered is ready for events.
    ///
    /// Cancel-safe: what was begun is ended when the future is dropped.
    ///
    /// # Errors
    /// [`EngineError::Load`] with diagnostics if the code cannot be run, [`EngineError::Unavailable`] if what runs it
    /// is missing on this machine.
    fn load(
        &self,
        context: WorkerContext,
        code: Bytes,
    ) -> BoxFuture<'_, Result<Arc<dyn Engine>, EngineError>>;
}

/// One piece of loaded code.
pub trait Engine: Debug + Send + Sync {
    /// Gives one event to the code. Calls may overlap; `None` means that nothing is to be published.
    ///
    /// Cancel-safe: the answer of a call that was given up is thrown away.
    ///
    /// # Errors
    /// [`EngineError::Failed`] is the code's own fault, [`EngineError::Timeout`] and [`EngineError::Crashed`] are
    /// what their names say; after each of them the engine takes further events, if need be in a fresh process.
    fn process(&self, event: Event<Value>) -> BoxFuture<'_, Result<Option<Event<Value>>, EngineError>>;

    /// Ends what the engine runs, after the calls under way. Later calls of [`process`](Self::process) fail.
    fn close(&self) -> BoxFuture<'_, ()>;
}
