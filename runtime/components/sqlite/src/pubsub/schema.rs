//! The tables of `pubsub.sqlite` and their format version.
//!
//! - `pubsub_messages`: each message once, in the order of commits; ids are never used twice.
//! - `pubsub_groups`: one durable row per topic and group; `cursor` is the last message handed to the group,
//!   `life` how long it is kept without readers.
//! - `pubsub_claims`: messages up to the cursor that the group has not finished. `owner` is a consumer,
//!   [`FREE`] (to be delivered at `due`) or [`BEHIND`] (waits for an earlier message of its partition key);
//!   `epoch` counts how often it was claimed and fences late acknowledgements.
//! - `pubsub_consumers`: running subscriptions with their lease and doorbell; ids are never used twice.
//! - `pubsub_totals`: the bytes stored, for the size cap.
//!
//! Of one group and partition key either one consumer owns a run from the oldest on, or the oldest is `FREE`; all
//! later ones are `BEHIND`. That is the whole of ordering (A2.7).
//!
//! Times are milliseconds since the Unix epoch.

use outrigger_component::Error;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::migrations::{self, Migration};

/// Owner of a claim that anybody may take once it is due.
pub(super) const FREE: i64 = 0;
/// Owner of a claim that waits behind another of its partition key.
pub(super) const BEHIND: i64 = -1;

const VERSION_TABLE: &str = "pubsub_metadata";
const VERSION_KEY: &str = "format";
const STEPS: [&str; 2] = [include_str!("schema-v1.sql"), include_str!("schema-v2.sql")];

/// Brings the tables up to date.
pub(super) fn set_up(connection: &Connection) -> Result<(), Error> {
    let steps: Vec<Migration> = STEPS.iter().map(|step| (*step).to_owned()).collect();
    migrations::refuse_newer(connection, VERSION_TABLE, VERSION_KEY, steps.len())?;
    migrations::perform(connection, VERSION_TABLE, VERSION_KEY, &steps)
}

/// The id of a topic, made if need be.
pub(super) fn topic_id(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    let known = connection
        .prepare_cached("SELECT id FROM pubsub_topics WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    match known {
        Some(id) => Ok(id),
        None => connection
            .prepare_cached("INSERT INTO pubsub_topics (name) VALUES (?1) RETURNING id")?
            .query_row([name], |row| row.get(0)),
    }
}

/// The doorbells of all consumers of a topic.
pub(super) fn doorbells(connection: &Connection, topic: i64) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached(
            "SELECT DISTINCT doorbell FROM pubsub_consumers WHERE topic = ?1 AND doorbell IS NOT NULL",
        )?
        .query_map(params![topic], |row| row.get(0))?
        .collect()
}
