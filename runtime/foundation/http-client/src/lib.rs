//! A bounded HTTP client for components, and documents kept fresh through it.
//!
//! Components that fetch a key set, ask for a token or speak to a small HTTP service share this client: names go
//! through our own resolver (design D10), a request has one deadline for everything, a response has a bound, redirects
//! are counted. It is not for the data path: invocation and the app channel stream and pool by rules of their own.
//!
//! - [`Client`]: one request, one whole answer;
//! - [`Proxies`]: which proxy stands before an address, from the environment as Go's clients read it;
//! - [`Cached`]: a document behind an address, parsed once, refreshed behind the callers' backs;
//! - [`connect`]: the connector below, for components that need a client of their own shape.

mod cached;
mod client;
pub mod connect;
mod error;
mod proxy;
mod tls;

pub use cached::{Cached, Freshness};
pub use client::{Client, ClientOptions};
pub use error::ClientError;
pub use outrigger_tls::system_roots;
pub use proxy::Proxies;
pub use tls::{Identity, TlsOptions};
