//! The public gRPC API as clients see it.

mod access;
mod bench;
mod calls;
mod services;
mod state_errors;
mod support;
mod telemetry;
mod without_engines;
