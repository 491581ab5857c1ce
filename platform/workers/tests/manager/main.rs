//! The worker manager from outside: over gRPC and HTTP, beside sidecars in memory, with state and events by the sidecar
//! and by the gateway (Z1); and as processes beside a real sidecar.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests say what they skip and count"
)]
#![allow(clippy::duplicate_mod, reason = "the same tests run in both modes")]

#[path = "../../examples/own_engine/engine.rs"]
mod engine;

mod by_gateway;
mod by_sidecar;
mod processes;
