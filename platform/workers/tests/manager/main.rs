//! The worker manager from outside: over gRPC and HTTP, beside sidecars in memory; and as processes beside a real one.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests say what they skip and count"
)]

#[path = "../../examples/own_engine/engine.rs"]
mod engine;

mod code;
mod groups;
mod lifecycle;
mod processes;
mod processing;
mod recovery;
mod support;
