//! The cases of sdks/cases.json in Rust; a comment names each.

mod common;
mod gateway;
mod server;
mod structure;
mod websocketmanager;
mod workmanager;
