//! The cases of sdks/cases.json in Rust; a comment names each.
#![allow(clippy::print_stderr, reason = "a test says why it is skipped")]

mod common;
mod gateway;
mod server;
mod structure;
mod websocketmanager;
mod workmanager;
