//! State and configuration on PostgreSQL.
//!
//! One `Database` per component: a pool of a few connections. Single-key reads and writes that
//! arrive while others are on their way share a statement (`merge`), so that load makes statements larger and not
//! more numerous. Tables, migrations and their bookkeeping are those of Dapr's Go components, which may work on the
//! same tables at the same time.

mod cleanup;
pub mod configuration;
mod connection;
mod database;
mod error;
mod identifier;
mod merge;
mod migrations;
pub mod state;
mod statement;
#[cfg(test)]
mod testing;
