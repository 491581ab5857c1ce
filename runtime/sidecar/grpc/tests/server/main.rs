//! The public gRPC API as clients see it.

mod access;
mod bench;
mod calls;
mod services;
mod support;
mod telemetry;
mod without_engines;
