//! Pluggable components: Dapr's `dapr.proto.components.v1` over a Unix socket, both ends (upstream
//! `pkg/components/pluggable`, wire.md §17).
//!
//! - [`discover`] looks at a folder of sockets and asks each by gRPC reflection what it offers; [`Discovered`] then
//!   builds state stores, brokers, bindings and secret stores whose work is done in the other process.
//! - [`Server`] is the other end: it offers one of our component types to any Dapr sidecar.
//!
//! What differs from upstream: a connection that is lost is made again with a new Init, subscriptions and readings
//! included (upstream leaves streams dead), and a socket that does not answer costs only itself.

mod client;
mod discovery;
mod query;
mod server;
mod status;
mod wire;

pub use discovery::{DEFAULT_FOLDER, Discovered, FOLDER_VARIABLE, discover};
pub use server::{Offer, Server, ServerError};

/// Names the instance on every call, so that one socket can serve several components (upstream `grpc.go`).
const INSTANCE_HEADER: &str = "x-component-instance";

/// Most bytes of one message in either direction: above grpc-go's 4 MiB, so that what a sidecar accepted also gets
/// through, and still a bound.
const MAX_MESSAGE: usize = 64 << 20;
