//! State, pub/sub, configuration, lock and name resolution on SQLite.
//!
//! One `Database` per component: a writer thread that merges waiting operations into one durable
//! transaction (group commit, design §2) and a few reader threads that come and go with the load. Nothing here
//! blocks an async thread, and no transaction is held across an await. The tables of the types Dapr also has
//! (`state.sqlite`, `nameresolution.sqlite`) are read and written the same way by its Go components, at the same
//! time if need be; the others carry a format version of ours.

mod checkpoint;
pub mod configuration;
mod connection;
mod database;
mod job;
pub mod lock;
mod migrations;
pub mod name_resolution;
pub mod pubsub;
mod queue;
mod reader;
pub mod snapshot;
pub mod state;
mod turns;
mod writer;
