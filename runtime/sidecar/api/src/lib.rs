//! What the sidecar's surfaces share: the API error table, endpoints, requests and replies.
//!
//! Each building block of the sidecar exports its endpoints as data ([`Endpoint`]); the HTTP server only matches and
//! runs them. Handlers return [`ApiError`]; only the edge renders it (design D5), so no handler can invent an answer.

mod components;
mod endpoint;
mod error;
pub mod errors;
mod request;
mod switch;

pub use components::{Components, Loaded, Missing};
pub use endpoint::{CallName, Endpoint, EndpointHandler, Group, WantsCallName, handler};
pub use error::{ApiError, Category, Detail, RenderedError};
pub use outrigger_middleware::{Body, BoxError};
pub use request::{ApiRequest, Params, Reply, RequestMetadata};
pub use switch::Switch;
