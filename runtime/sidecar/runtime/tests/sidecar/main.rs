//! Whole sidecars over real sockets: what changes while they run (wire.md §19 "Hot reload", A8.6, design D13).

mod components;
mod policies;
mod subscriptions;
mod support;
mod swap;
