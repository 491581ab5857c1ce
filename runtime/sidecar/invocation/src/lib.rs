//! Service invocation end to end (rows A1.*, C3; wire.md §2, §3, §5).
//!
//! ```text
//! HTTP endpoint ─┐                         ┌─ local app (HTTP, gRPC)
//! InvokeService ─┼─ target ─ resiliency ───┼─ HTTP endpoint outside Dapr
//! gRPC proxy ────┘           (retries)     └─ peer ══ CallLocalStream ══ peer's internal server ─ policy ─ its app
//! ```
//!
//! [`InvocationService`] is the whole of it; the public servers and the wiring know nothing else. Bodies stream both
//! ways; what is kept for retries is bounded by a [`ReplayBudget`] shared by the process. A method is normalised
//! once, into [`Method`], which policies and dispatch share.

mod body;
mod connection;
mod delivery;
mod envelope;
mod external;
mod framing;
mod http_api;
mod internal;
mod invoke_service;
mod metadata;
mod peers;
mod protobuf;
mod proxy;
mod received;
mod remote;
mod replay;
mod resolve;
mod service;
mod status;
mod target;
mod tracing_context;

pub use envelope::Forwarded;
pub use external::{HttpEndpoints, InvalidEndpoint};
pub use internal::{InternalService, PeerIdentity};
pub use peers::{PeerConnector, PeerName, PeerStream, PlainPeers};
pub use replay::ReplayBudget;
pub use service::{InvocationOptions, InvocationService, SharedApp};
pub use status::{InvokeError, grpc_from_http, http_from_grpc, status_from_http};
pub use target::{InvalidMethod, Method};
