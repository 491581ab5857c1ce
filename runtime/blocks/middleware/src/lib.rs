//! The HTTP middleware block: handlers around a request, streaming unless they say that they need a body.
//!
//! Design §4: `{ body_need, handle(request, next) }`, looked up per request; only a declared need buffers, an empty
//! pipeline is one branch.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use http::{Request, Response};
use outrigger_component::Error;

mod body;
mod peer;
mod pipeline;

pub use body::{Body, BoxError};
pub use peer::PeerAddress;
pub use pipeline::Pipeline;

/// Which bodies a handler wants whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyNeed {
    /// Neither: both stream through.
    #[default]
    None,
    /// The request's, up to this many bytes; a larger one is answered with 413.
    Request(usize),
    /// Both, up to this many bytes each.
    Both(usize),
}

/// The rest of the pipeline.
pub trait Next: Send {
    /// Runs it.
    fn run(self: Box<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>>;
}

/// One handler of a pipeline.
pub trait Middleware: fmt::Debug + Send + Sync + 'static {
    /// Which bodies it wants whole. Constant over its life.
    fn body_need(&self) -> BodyNeed {
        BodyNeed::None
    }
    /// Handles a request: answers itself or asks `next`. Failures are answers too (A9.5).
    fn handle(&self, request: Request<Body>, next: Box<dyn Next>) -> BoxFuture<'_, Response<Body>>;
    /// Lets go of what it holds.
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}

/// A shared handler.
pub type SharedMiddleware = Arc<dyn Middleware>;
