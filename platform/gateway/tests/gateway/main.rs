//! The gateway as its clients see it, beside in-memory sidecars and backends that exist only as `.proto` text.

mod backend;
mod events;
mod harness;
mod invoke;
mod real;
mod rest;
mod services;
mod state;
mod web;
