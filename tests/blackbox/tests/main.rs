//! The real `daprd` program from outside: what goes in by flags, files and sockets, and what comes out.
//!
//! `OUTRIGGER_BIN` names another program to test (run with `daprd` as its first argument unless it is called that);
//! without it the workspace's own is built and run. `REFERENCE_DAPRD_DIR` names a folder with a `daprd` of Dapr
//! 1.18.2 for the tests of a mixed mesh, which say so when they are left out; `OUTRIGGER_TEST_REDIS` (host:port) names
//! the server on which both store and publish, `OUTRIGGER_TEST_POSTGRES` (a URL) one for tables they share.
//! `BLACKBOX_SEED` changes what the fuzz tests send.

#![allow(clippy::print_stderr, reason = "a test says why it leaves something out")]

mod advisories;
mod bad_requests;
mod broken_resources;
mod dashboards;
mod durability;
mod fuzz_grpc;
mod fuzz_http;
mod listeners;
mod mixed_mesh;
mod moving_callee;
mod overload;
mod process;
mod redis_both_ways;
mod shared_stores;
mod support;
mod telemetry;
