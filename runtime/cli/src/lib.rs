//! The command line: the programs the multi-call binary can be, and the verbs of `outrigger`.
//!
//! Everything here ends in an exit code. What a program prints for people or scripts is printed here and nowhere
//! below.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is this crate's job"
)]

mod console;
mod daprd;
mod exec;
mod folders;
mod group;
mod guard;
mod mux;
mod output;
mod ports;
mod program;
mod run;
mod sidecar_api;
mod sidecars;
mod usage;
mod verbs;
mod workbench;

pub use program::{Program, main};
