//! Publish and deliver, end to end in one process (A2.*).

mod batches;
mod delivery;
mod grpc_apps;
mod outbox;
mod publish;
mod streams;
mod subscriptions;
mod support;
