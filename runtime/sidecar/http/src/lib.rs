//! The public HTTP server: segment matcher, token, CORS, limits, middleware pipelines, API logging.
//!
//! It knows no building block: what it serves comes as [`outrigger_sidecar_api::Endpoint`]s. A request passes, outermost first (wire.md
//! §2): body limit → tracing → metrics → CORS → API token → `httpPipeline` → API log → endpoint. What no endpoint
//! matches goes to the fallback endpoint (service invocation).

mod cors;
mod h2c_upgrade;
mod limit;
mod path;
mod router;
mod serve;
mod service;
mod tracing_layer;
mod unread;

pub use cors::Cors;
pub use limit::{LimitedBody, TooLarge};
pub use path::{BrokenEscape, clean, query_unescape};
pub use router::{Match, Router};
pub use serve::{Bound, ServeOptions, serve};
pub use service::{ApiLogOptions, HttpService, HttpServiceOptions, MAX_IN_FLIGHT};
pub use tracing_layer::TracingLayer;
