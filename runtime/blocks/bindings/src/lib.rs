//! The bindings building block: traits of input and output bindings, requests and behaviour suite.

pub mod suite;

use std::{fmt, future::Future, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;
use outrigger_component::{Error, Metadata};

/// A request to an output binding.
#[derive(Debug, Clone, Default)]
pub struct InvokeRequest {
    /// The payload.
    pub data: Bytes,
    /// Which operation, for example `create`.
    pub operation: String,
    /// Request metadata.
    pub metadata: Metadata,
}

/// The answer of an output binding.
#[derive(Debug, Clone, Default)]
pub struct InvokeResponse {
    /// The payload, if the operation has one.
    pub data: Option<Bytes>,
    /// What the backend adds (`statusCode` of `bindings.http`, …).
    pub metadata: Metadata,
    /// What the payload is, if known.
    pub content_type: Option<String>,
}

/// An output binding fails; some backends answer with data all the same (`bindings.http` and a status above 299).
#[derive(Debug)]
pub struct InvokeError {
    /// Why.
    pub error: Error,
    /// What the backend answered with it.
    pub response: Option<InvokeResponse>,
}

impl From<Error> for InvokeError {
    fn from(error: Error) -> Self {
        Self {
            error,
            response: None,
        }
    }
}

impl fmt::Display for InvokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for InvokeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// An event of an input binding.
#[derive(Debug, Clone, Default)]
pub struct Event {
    /// The payload.
    pub data: Bytes,
    /// The backend's metadata.
    pub metadata: Metadata,
    /// What the payload is, if known.
    pub content_type: Option<String>,
}

/// Takes events of an input binding; the answer is the app's response body.
pub trait EventHandler: Send + Sync + 'static {
    /// Takes one event. An error means: not taken, deliver again by the backend's rules.
    fn handle(&self, event: Event) -> BoxFuture<'_, Result<Option<Bytes>, Error>>;
}

/// A running input. Dropping it stops it without waiting.
pub trait Reading: Send + Sync + 'static {
    /// Stops fetching, waits for events in flight. Idempotent.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A component that calls out.
pub trait OutputBinding: fmt::Debug + Send + Sync + 'static {
    /// The operations it serves.
    fn operations(&self) -> Vec<&str>;
    /// Runs one operation; `None` where there is nothing to answer.
    fn invoke(
        &self,
        request: InvokeRequest,
    ) -> impl Future<Output = Result<Option<InvokeResponse>, InvokeError>> + Send;
    /// Whether the backend answers.
    fn ping(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
    /// Lets go of connections.
    fn close(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
}

/// A component that brings events in.
pub trait InputBinding: fmt::Debug + Send + Sync + 'static {
    /// Begins to read; returns when events can arrive.
    fn read(
        &self,
        handler: Arc<dyn EventHandler>,
    ) -> impl Future<Output = Result<Box<dyn Reading>, Error>> + Send;
    /// Whether the backend answers.
    fn ping(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
    /// Lets go of connections.
    fn close(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
}

/// The erased twin of [`OutputBinding`].
pub trait DynOutputBinding: fmt::Debug + Send + Sync + 'static {
    /// See [`OutputBinding::operations`].
    fn operations(&self) -> Vec<&str>;
    /// See [`OutputBinding::invoke`].
    fn invoke(&self, request: InvokeRequest) -> BoxFuture<'_, Result<Option<InvokeResponse>, InvokeError>>;
    /// See [`OutputBinding::ping`].
    fn ping(&self) -> BoxFuture<'_, Result<(), Error>>;
    /// See [`OutputBinding::close`].
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}

impl<B: OutputBinding> DynOutputBinding for B {
    fn operations(&self) -> Vec<&str> {
        OutputBinding::operations(self)
    }
    fn invoke(&self, request: InvokeRequest) -> BoxFuture<'_, Result<Option<InvokeResponse>, InvokeError>> {
        Box::pin(OutputBinding::invoke(self, request))
    }
    fn ping(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(OutputBinding::ping(self))
    }
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(OutputBinding::close(self))
    }
}

/// The erased twin of [`InputBinding`].
pub trait DynInputBinding: fmt::Debug + Send + Sync + 'static {
    /// See [`InputBinding::read`].
    fn read(&self, handler: Arc<dyn EventHandler>) -> BoxFuture<'_, Result<Box<dyn Reading>, Error>>;
    /// See [`InputBinding::ping`].
    fn ping(&self) -> BoxFuture<'_, Result<(), Error>>;
    /// See [`InputBinding::close`].
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}

impl<B: InputBinding> DynInputBinding for B {
    fn read(&self, handler: Arc<dyn EventHandler>) -> BoxFuture<'_, Result<Box<dyn Reading>, Error>> {
        Box::pin(InputBinding::read(self, handler))
    }
    fn ping(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(InputBinding::ping(self))
    }
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(InputBinding::close(self))
    }
}

/// A binding component: it reads, it calls out, or both.
#[derive(Debug, Clone, Default)]
pub struct Binding {
    /// Its input side.
    pub input: Option<Arc<dyn DynInputBinding>>,
    /// Its output side.
    pub output: Option<Arc<dyn DynOutputBinding>>,
}
