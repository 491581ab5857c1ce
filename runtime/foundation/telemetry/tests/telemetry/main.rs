//! Exposition, bounds and exporters over real sockets.

mod audit;
mod grpc_collector;
mod metrics;
mod otlp;
mod push;
mod spans;
