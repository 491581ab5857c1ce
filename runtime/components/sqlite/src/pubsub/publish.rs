//! Storing messages.

use bytes::Bytes;
use outrigger_component::{Error, ErrorKind, Metadata};
use rusqlite::{Connection, params};

use super::{
    retention,
    schema::{self, doorbells},
};
use crate::connection::failed;

/// Counted per message besides data and metadata: row, index entries and claims.
pub(super) const ROW_BYTES: usize = 64;
/// Finished messages removed by a publisher that finds the store full, at most.
const EMERGENCY_PURGE: usize = 1000;

/// A message ready to be stored.
#[derive(Debug, Clone)]
pub(super) struct Message {
    data: Bytes,
    metadata: Option<String>,
    key: Option<String>,
    ttl_ms: Option<i64>,
}

impl Message {
    /// Reads `partitionKey` and `ttlInSeconds`; all metadata travels with the message.
    pub(super) fn new(data: Bytes, mut metadata: Metadata) -> Result<Self, Error> {
        let ttl_ms = match metadata
            .get("ttlInSeconds")
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
        {
            None => None,
            Some(text) => {
                let seconds: i64 = text
                    .parse()
                    .map_err(|_| Error::invalid(format!("ttlInSeconds is not a number: {text}")))?;
                if seconds < 1 {
                    return Err(Error::invalid(format!(
                        "ttlInSeconds value must be higher than zero: actual is {seconds}"
                    )));
                }
                Some(seconds.saturating_mul(1000))
            }
        };
        let encoded = if metadata.is_empty() {
            None
        } else {
            let text = serde_json::to_string(&metadata)
                .map_err(|error| Error::invalid("the metadata cannot be stored").with_source(error))?;
            Some(text)
        };
        let key = metadata.remove("partitionKey").filter(|key| !key.is_empty());
        Ok(Self {
            data,
            metadata: encoded,
            key,
            ttl_ms,
        })
    }

    fn bytes(&self) -> usize {
        self.data.len() + self.metadata.as_ref().map_or(0, String::len) + ROW_BYTES
    }
}

/// What a publisher learns.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) topic: i64,
    pub(super) doorbells: Vec<String>,
}

/// Stores the messages, all or none.
pub(super) fn store(
    connection: &Connection,
    topic: &str,
    known: Option<i64>,
    messages: &[Message],
    max_bytes: u64,
    now: i64,
) -> Result<Published, Error> {
    let wrap = |error| failed("cannot store the message", error);
    let bytes = i64::try_from(messages.iter().map(Message::bytes).sum::<usize>()).unwrap_or(i64::MAX);
    let limit = i64::try_from(max_bytes).unwrap_or(i64::MAX);
    if total(connection).map_err(wrap)?.saturating_add(bytes) > limit {
        // What every group has finished only waits for groups yet to come: it makes room first.
        retention::purge_settled(connection, i64::MAX, EMERGENCY_PURGE).map_err(wrap)?;
        if total(connection).map_err(wrap)?.saturating_add(bytes) > limit {
            return Err(Error::new(
                ErrorKind::Exhausted,
                "the broker is full: subscribers have to catch up, or maxSizeMiB has to grow",
            ));
        }
    }
    let insert = || {
        let topic = known.map_or_else(|| schema::topic_id(connection, topic), Ok)?;
        let mut statement = connection.prepare_cached(
            "INSERT INTO pubsub_messages (topic, data, metadata, partition_key, published, expires)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for message in messages {
            statement.execute(params![
                topic,
                &message.data[..],
                message.metadata,
                message.key,
                now,
                message.ttl_ms.map(|ttl| now.saturating_add(ttl)),
            ])?;
        }
        add_total(connection, bytes)?;
        Ok(Published {
            topic,
            doorbells: doorbells(connection, topic)?,
        })
    };
    insert().map_err(wrap)
}

pub(super) fn total(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT bytes FROM pubsub_totals")?
        .query_row([], |row| row.get(0))
}

pub(super) fn add_total(connection: &Connection, bytes: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE pubsub_totals SET bytes = max(0, bytes + ?1)")?
        .execute([bytes])?;
    Ok(())
}
