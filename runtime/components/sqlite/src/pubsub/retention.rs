//! What is forgotten, and when.

use outrigger_component::Error;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    claims,
    config::Options,
    publish::{ROW_BYTES, add_total, total},
};
use crate::connection::failed;

/// Messages removed in one transaction: some milliseconds, so that publishers hardly notice.
pub(super) const CHUNK: usize = 200;

/// Whether [`sweep`] would find anything; only reads.
pub(super) fn needed(connection: &Connection, options: &Options, now: i64) -> Result<bool, Error> {
    let look = || {
        let oldest: Option<(i64, i64)> = connection
            .prepare_cached("SELECT id, published FROM pubsub_messages ORDER BY id LIMIT 1")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((_, published)) = oldest else {
            return Ok(false);
        };
        if published < now - millis(options.retention) {
            return Ok(true);
        }
        let limit = settled_limit(connection, options, now)?;
        Ok(!settled(connection, limit, 1)?.is_empty())
    };
    look().map_err(|error| failed("cannot look for old messages", error))
}

/// Removes one chunk of what is due: finished messages after `settledRetention` (or sooner when they take too much
/// room), unfinished ones after `messageRetention`. Answers whether there may be more.
pub(super) fn sweep(connection: &Connection, options: &Options, now: i64) -> Result<bool, Error> {
    let run = || {
        let limit = settled_limit(connection, options, now)?;
        let settled = purge_settled(connection, limit, CHUNK)?;
        let expired = purge_expired(connection, now - millis(options.retention))?;
        Ok(settled == CHUNK || expired == CHUNK)
    };
    run().map_err(|error| failed("cannot remove old messages", error))
}

/// Marks the groups of running subscriptions as seen and forgets groups nobody has asked for within their life, or
/// since before the oldest message kept: those have missed everything there was, so starting anew costs them nothing.
pub(super) fn groups(
    connection: &Connection,
    live: &[i64],
    options: &Options,
    now: i64,
) -> Result<(), Error> {
    let run = || {
        for group in live {
            connection
                .prepare_cached("UPDATE pubsub_groups SET seen = ?2 WHERE id = ?1")?
                .execute([*group, now])?;
        }
        let horizon = now - millis(options.retention);
        let lost: Vec<i64> = connection
            .prepare_cached("SELECT id FROM pubsub_groups WHERE seen < max(?1, ?2 - ifnull(life, ?2))")?
            .query_map([horizon, now], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for group in lost {
            for forget in [
                "DELETE FROM pubsub_claims WHERE group_id = ?1",
                "DELETE FROM pubsub_consumers WHERE group_id = ?1",
                "DELETE FROM pubsub_groups WHERE id = ?1",
            ] {
                connection.prepare_cached(forget)?.execute([group])?;
            }
        }
        Ok::<_, rusqlite::Error>(())
    };
    run().map_err(|error| failed("cannot tidy the groups", error))
}

/// Removes up to `count` messages with ids below `limit` that all groups of their topic have finished.
pub(super) fn purge_settled(connection: &Connection, limit: i64, count: usize) -> rusqlite::Result<usize> {
    let found = settled(connection, limit, count)?;
    remove(connection, &found)
}

/// Ids below which finished messages may go now.
fn settled_limit(connection: &Connection, options: &Options, now: i64) -> rusqlite::Result<i64> {
    let cap = i64::try_from(options.settled_max_bytes).unwrap_or(i64::MAX);
    if total(connection)? > cap {
        return Ok(i64::MAX);
    }
    first_since(connection, now - millis(options.settled_retention))
}

/// The first id published at or after a time. Ids and times rise together, so a binary search by id does without
/// an index on the time; a clock set back makes it approximate.
fn first_since(connection: &Connection, time: i64) -> rusqlite::Result<i64> {
    let bounds: (Option<i64>, Option<i64>) = connection
        .prepare_cached(
            "SELECT (SELECT min(id) FROM pubsub_messages), (SELECT max(id) FROM pubsub_messages)",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(mut low), Some(high)) = bounds else {
        return Ok(0);
    };
    let mut high = high.saturating_add(1);
    let mut probe = connection
        .prepare_cached("SELECT id, published FROM pubsub_messages WHERE id >= ?1 ORDER BY id LIMIT 1")?;
    while low < high {
        let middle = low + (high - low) / 2;
        let (id, published): (i64, i64) = probe.query_row([middle], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if published < time {
            low = id + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn settled(connection: &Connection, limit: i64, count: usize) -> rusqlite::Result<Vec<(i64, i64)>> {
    let mut found = Vec::new();
    let topics: Vec<(i64, i64)> = connection
        .prepare_cached("SELECT topic, min(cursor) FROM pubsub_groups GROUP BY topic")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    // One upper bound: of two SQLite would use one for the index and test the other row by row.
    let mut statement = connection.prepare_cached(
        "SELECT m.id, length(m.data) + ifnull(length(CAST(m.metadata AS BLOB)), 0) FROM pubsub_messages AS m
         WHERE m.topic = ?1 AND m.id <= ?2
           AND NOT EXISTS (SELECT 1 FROM pubsub_groups AS g, pubsub_claims AS c
                           WHERE g.topic = ?1 AND c.group_id = g.id AND c.message = m.id)
         ORDER BY m.id LIMIT ?3",
    )?;
    for (topic, cursor) in topics {
        let room = count.saturating_sub(found.len());
        if room == 0 {
            break;
        }
        let rows = statement.query_map(
            params![
                topic,
                cursor.min(limit - 1),
                i64::try_from(room).unwrap_or(i64::MAX)
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        for row in rows {
            found.push(row?);
        }
    }
    Ok(found)
}

fn purge_expired(connection: &Connection, before: i64) -> rusqlite::Result<usize> {
    let found: Vec<(i64, i64)> = connection
        .prepare_cached(
            "SELECT id, bytes FROM (SELECT id, published,
                 length(data) + ifnull(length(CAST(metadata AS BLOB)), 0) AS bytes
             FROM pubsub_messages ORDER BY id LIMIT ?2) WHERE published < ?1",
        )?
        .query_map([before, i64::try_from(CHUNK).unwrap_or(i64::MAX)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (id, _) in &found {
        let claims: Vec<(i64, Option<String>)> = connection
            .prepare_cached(
                "SELECT c.group_id, c.partition_key FROM pubsub_groups AS g, pubsub_claims AS c
                 WHERE c.group_id = g.id AND c.message = ?1",
            )?
            .query_map([*id], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (group, key) in claims {
            connection
                .prepare_cached("DELETE FROM pubsub_claims WHERE group_id = ?1 AND message = ?2")?
                .execute([group, *id])?;
            if let Some(key) = key {
                claims::promote(connection, group, &key)?;
            }
        }
    }
    if !found.is_empty() {
        tracing::warn!(
            count = found.len(),
            "dropped messages older than messageRetention"
        );
    }
    remove(connection, &found)
}

fn remove(connection: &Connection, found: &[(i64, i64)]) -> rusqlite::Result<usize> {
    if found.is_empty() {
        return Ok(0);
    }
    let mut statement = connection.prepare_cached("DELETE FROM pubsub_messages WHERE id = ?1")?;
    let mut freed = 0;
    for (id, bytes) in found {
        statement.execute([*id])?;
        freed += bytes + i64::try_from(ROW_BYTES).unwrap_or(0);
    }
    add_total(connection, -freed)?;
    Ok(found.len())
}

pub(super) fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}
