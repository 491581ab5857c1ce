//! Claims: what a group's consumers hold, give back and finish. All functions run inside a write transaction.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use outrigger_component::Metadata;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    config::GroupOptions,
    retention::millis,
    schema::{self, BEHIND, FREE, doorbells},
};

/// At most this many messages of a group may wait behind others of their key: then new ones are left unclaimed.
const MAX_BEHIND: i64 = 1024;
/// Messages looked at in one go, so that a long run of expired or waiting ones does not hold the transaction.
const MAX_SCAN: i64 = 512;

/// Who claims.
#[derive(Debug, Clone, Copy)]
pub(super) struct Consumer {
    pub(super) topic: i64,
    pub(super) group: i64,
    pub(super) id: i64,
}

/// A message claimed for a handler.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    pub(super) id: i64,
    pub(super) epoch: i64,
    pub(super) attempts: i64,
    pub(super) data: Bytes,
    pub(super) metadata: Arc<Metadata>,
    pub(super) key: Option<Arc<str>>,
}

/// What became of a claim.
#[derive(Debug, Clone)]
pub(super) struct Settlement {
    pub(super) id: i64,
    pub(super) epoch: i64,
    pub(super) key: Option<Arc<str>>,
    pub(super) outcome: Outcome,
}

/// How a claim ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The group is done with the message.
    Done,
    /// Refused: to be delivered again at this time.
    Refused { due: i64 },
    /// Given back unseen, without counting an attempt.
    Released,
}

/// One round of a consumer with the database.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) consumer: Consumer,
    pub(super) now: i64,
    /// The lease to write, if it is time to.
    pub(super) lease: Option<i64>,
    pub(super) settlements: Arc<Vec<Settlement>>,
    /// How many messages to claim.
    pub(super) want: usize,
    /// After a round whose fate is unknown: claims that are really held; others are given back.
    pub(super) held: Option<Arc<BTreeSet<i64>>>,
}

/// What a round brought.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) claimed: Vec<Claimed>,
    /// There may be more to claim at once.
    pub(super) more: bool,
    /// When to look again even if nobody rings.
    pub(super) wake_at: Option<i64>,
    /// Settlements that came too late: somebody else has taken the claim over.
    pub(super) fenced: usize,
    /// Bells of the topic: to be rung when something was given back, to be probed while others hold claims.
    pub(super) doorbells: Vec<String>,
    /// Something was given back that others may take.
    pub(super) ring: bool,
    /// Others hold claims of this group: should they die, this consumer takes over.
    pub(super) foreign: bool,
    /// The consumer or its group is no longer registered: what it held is not its own any more.
    pub(super) gone: bool,
}

/// Registers a consumer, and its group on the first time: a new group starts at the oldest message kept, as
/// components-contrib `pubsub/redis` creates its groups, so that what was published at start-up is not lost, unless it
/// is told to start at the end.
pub(super) fn register(
    connection: &Connection,
    topic: &str,
    group: &str,
    options: GroupOptions,
    doorbell: Option<&str>,
    now: i64,
) -> rusqlite::Result<Consumer> {
    let topic = schema::topic_id(connection, topic)?;
    let group: i64 = connection
        .prepare_cached(
            "INSERT INTO pubsub_groups (topic, name, cursor, seen, life)
             VALUES (?1, ?2, iif(?3, (SELECT ifnull(max(id), 0) FROM pubsub_messages), 0), ?4, ?5)
             ON CONFLICT (topic, name) DO UPDATE SET seen = excluded.seen, life = excluded.life RETURNING id",
        )?
        .query_row(
            params![topic, group, options.at_end, now, options.life.map(millis)],
            |row| row.get(0),
        )?;
    let id = connection
        .prepare_cached(
            "INSERT INTO pubsub_consumers (group_id, topic, doorbell, lease) VALUES (?1, ?2, ?3, 0) RETURNING id",
        )?
        .query_row(params![group, topic, doorbell], |row| row.get(0))?;
    Ok(Consumer { topic, group, id })
}

/// Ends a consumer: everything it still holds is free for others at once.
pub(super) fn leave(connection: &Connection, consumer: Consumer, now: i64) -> rusqlite::Result<Vec<String>> {
    give_up(connection, consumer.group, consumer.id, now)?;
    connection
        .prepare_cached("DELETE FROM pubsub_consumers WHERE id = ?1")?
        .execute([consumer.id])?;
    doorbells(connection, consumer.topic)
}

/// Ends the consumers of a process that is known to be gone; answers the topics that have claims to take over.
pub(super) fn bury(connection: &Connection, doorbell: &str, now: i64) -> rusqlite::Result<Vec<i64>> {
    let dead: Vec<Consumer> = connection
        .prepare_cached("SELECT topic, group_id, id FROM pubsub_consumers WHERE doorbell = ?1")?
        .query_map([doorbell], |row| {
            Ok(Consumer {
                topic: row.get(0)?,
                group: row.get(1)?,
                id: row.get(2)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut topics = BTreeSet::new();
    for consumer in dead {
        leave(connection, consumer, now)?;
        topics.insert(consumer.topic);
    }
    Ok(topics.into_iter().collect())
}

/// Settles, takes over what lapsed and claims anew, in this order.
pub(super) fn exchange(connection: &Connection, request: &Request) -> rusqlite::Result<Round> {
    let Request { consumer, now, .. } = *request;
    let mut round = Round::default();
    if let Some(held) = &request.held {
        round.ring |= give_back_unknown(connection, consumer, held, now)?;
    }
    if let Some(lease) = request.lease {
        let renewed = connection
            .prepare_cached("UPDATE pubsub_consumers SET lease = ?2 WHERE id = ?1")?
            .execute([consumer.id, lease])?;
        if renewed == 0 {
            return Ok(Round { gone: true, ..round });
        }
    }
    settle(connection, consumer, &request.settlements, now, &mut round)?;
    if request.want > 0 {
        take_over_lapsed(connection, consumer, now)?;
        claim_again(connection, request, &mut round)?;
        claim_new(connection, request, &mut round)?;
        round.more |= round.claimed.len() == request.want;
        if !round.more {
            look_ahead(connection, consumer, &mut round)?;
        }
    }
    if round.ring || round.foreign {
        round.doorbells = doorbells(connection, consumer.topic)?;
    }
    Ok(round)
}

/// Whether a consumer that has nothing to do would find something, and what [`exchange`] says when it would not.
/// Only reads.
pub(super) fn peek(connection: &Connection, consumer: Consumer, now: i64) -> rusqlite::Result<Option<Round>> {
    let something: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM pubsub_messages WHERE topic = ?1
                            AND id > (SELECT cursor FROM pubsub_groups WHERE id = ?2))
                 OR EXISTS (SELECT 1 FROM pubsub_claims WHERE group_id = ?2 AND owner = 0 AND due <= ?3)
                 OR EXISTS (SELECT 1 FROM pubsub_consumers AS c WHERE c.group_id = ?2 AND c.id <> ?4
                            AND c.lease < ?3 AND EXISTS (SELECT 1 FROM pubsub_claims AS m
                                WHERE m.group_id = ?2 AND m.owner = c.id))",
        )?
        .query_row([consumer.topic, consumer.group, now, consumer.id], |row| {
            row.get(0)
        })?;
    if something {
        return Ok(None);
    }
    let mut round = Round::default();
    look_ahead(connection, consumer, &mut round)?;
    if round.foreign {
        round.doorbells = doorbells(connection, consumer.topic)?;
    }
    Ok(Some(round))
}

/// Finds out when there will be something to do without anybody ringing: a redelivery is due, or the lease of
/// another consumer that holds claims runs out.
fn look_ahead(connection: &Connection, consumer: Consumer, round: &mut Round) -> rusqlite::Result<()> {
    let due: Option<i64> = connection
        .prepare_cached("SELECT min(due) FROM pubsub_claims WHERE group_id = ?1 AND owner = 0")?
        .query_row([consumer.group], |row| row.get(0))?;
    let lease: Option<i64> = connection
        .prepare_cached(
            "SELECT min(lease) FROM pubsub_consumers AS c WHERE topic = ?1 AND group_id = ?2 AND id <> ?3
             AND EXISTS (SELECT 1 FROM pubsub_claims AS m WHERE m.group_id = ?2 AND m.owner = c.id)",
        )?
        .query_row([consumer.topic, consumer.group, consumer.id], |row| row.get(0))?;
    round.foreign = lease.is_some();
    round.wake_at = [due, lease.map(|lease| lease + 1)].into_iter().flatten().min();
    Ok(())
}

fn settle(
    connection: &Connection,
    consumer: Consumer,
    settlements: &[Settlement],
    now: i64,
    round: &mut Round,
) -> rusqlite::Result<()> {
    let mut keys = BTreeSet::new();
    {
        let mut done = connection.prepare_cached(
            "DELETE FROM pubsub_claims WHERE group_id = ?1 AND message = ?2 AND owner = ?3 AND epoch = ?4",
        )?;
        for settled in settlements
            .iter()
            .filter(|settled| settled.outcome == Outcome::Done)
        {
            match done.execute([consumer.group, settled.id, consumer.id, settled.epoch])? {
                0 => round.fenced += 1,
                _ => keys.extend(settled.key.clone()),
            }
        }
    }
    for settled in settlements {
        let (due, counts) = match settled.outcome {
            Outcome::Done => continue,
            Outcome::Refused { due } => (due, 1),
            Outcome::Released => (now, 0),
        };
        // A keyed message goes back to the line; `promote` frees the first of it with the time set here.
        let owner = if settled.key.is_some() { BEHIND } else { FREE };
        let changed = connection
            .prepare_cached(
                "UPDATE pubsub_claims SET owner = ?5, due = ?6, attempts = attempts + ?7
                 WHERE group_id = ?1 AND message = ?2 AND owner = ?3 AND epoch = ?4",
            )?
            .execute([
                consumer.group,
                settled.id,
                consumer.id,
                settled.epoch,
                owner,
                due,
                counts,
            ])?;
        if changed == 0 {
            round.fenced += 1;
            continue;
        }
        round.ring |= settled.outcome == Outcome::Released;
        if let Some(key) = &settled.key {
            // Later ones of the key must not overtake it.
            connection
                .prepare_cached(
                    "UPDATE pubsub_claims SET owner = -1
                     WHERE group_id = ?1 AND partition_key = ?2 AND message > ?3 AND owner = ?4",
                )?
                .execute(params![consumer.group, key, settled.id, consumer.id])?;
            keys.insert(key.clone());
        }
    }
    for key in keys {
        round.ring |= promote(connection, consumer.group, &key)?;
    }
    Ok(())
}

/// Frees the first of a key's line when nobody holds one of them. Answers whether it did.
pub(super) fn promote(connection: &Connection, group: i64, key: &str) -> rusqlite::Result<bool> {
    let first: Option<(i64, i64)> = connection
        .prepare_cached(
            "SELECT message, owner FROM pubsub_claims WHERE group_id = ?1 AND partition_key = ?2
             ORDER BY message LIMIT 1",
        )?
        .query_row(params![group, key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((message, BEHIND)) = first else {
        return Ok(false);
    };
    connection
        .prepare_cached("UPDATE pubsub_claims SET owner = 0 WHERE group_id = ?1 AND message = ?2")?
        .execute([group, message])?;
    Ok(true)
}

/// Frees everything an owner holds.
fn give_up(connection: &Connection, group: i64, owner: i64, now: i64) -> rusqlite::Result<()> {
    let keys: Vec<String> = connection
        .prepare_cached(
            "SELECT DISTINCT partition_key FROM pubsub_claims
             WHERE group_id = ?1 AND owner = ?2 AND partition_key IS NOT NULL",
        )?
        .query_map([group, owner], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    connection
        .prepare_cached(
            "UPDATE pubsub_claims SET owner = CASE WHEN partition_key IS NULL THEN 0 ELSE -1 END, due = ?3
             WHERE group_id = ?1 AND owner = ?2",
        )?
        .execute([group, owner, now])?;
    for key in keys {
        promote(connection, group, &key)?;
    }
    Ok(())
}

fn give_back_unknown(
    connection: &Connection,
    consumer: Consumer,
    held: &BTreeSet<i64>,
    now: i64,
) -> rusqlite::Result<bool> {
    let owned: Vec<(i64, Option<String>)> = connection
        .prepare_cached(
            "SELECT message, partition_key FROM pubsub_claims WHERE group_id = ?1 AND owner = ?2",
        )?
        .query_map([consumer.group, consumer.id], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut any = false;
    for (message, key) in owned.into_iter().filter(|(message, _)| !held.contains(message)) {
        any = true;
        let owner = if key.is_some() { BEHIND } else { FREE };
        connection
            .prepare_cached(
                "UPDATE pubsub_claims SET owner = ?3, due = ?4 WHERE group_id = ?1 AND message = ?2",
            )?
            .execute([consumer.group, message, owner, now])?;
        if let Some(key) = key {
            promote(connection, consumer.group, &key)?;
        }
    }
    Ok(any)
}

fn take_over_lapsed(connection: &Connection, consumer: Consumer, now: i64) -> rusqlite::Result<()> {
    let lapsed: Vec<i64> = connection
        .prepare_cached(
            "SELECT id FROM pubsub_consumers AS c WHERE topic = ?1 AND group_id = ?2 AND id <> ?3 AND lease < ?4
             AND EXISTS (SELECT 1 FROM pubsub_claims AS m WHERE m.group_id = ?2 AND m.owner = c.id)",
        )?
        .query_map([consumer.topic, consumer.group, consumer.id, now], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for owner in lapsed {
        tracing::info!(
            consumer = owner,
            "taking over the messages of a consumer whose lease has run out"
        );
        give_up(connection, consumer.group, owner, now)?;
    }
    Ok(())
}

/// Claims free messages: refused, released or taken over.
fn claim_again(connection: &Connection, request: &Request, round: &mut Round) -> rusqlite::Result<()> {
    let Request {
        consumer, now, want, ..
    } = *request;
    let due: Vec<Found> = connection
        .prepare_cached(
            "SELECT c.message, c.epoch, c.attempts, c.partition_key, m.data, m.metadata, m.expires
             FROM pubsub_claims AS c LEFT JOIN pubsub_messages AS m ON m.id = c.message
             WHERE c.group_id = ?1 AND c.owner = 0 AND c.due <= ?2 ORDER BY c.due, c.message LIMIT ?3",
        )?
        .query_map(params![consumer.group, now, limit(want)], Found::read)?
        .collect::<rusqlite::Result<_>>()?;
    round.more |= due.len() == want;
    for found in due {
        let key = found.key.clone();
        let head = found.id;
        if !claim_found(connection, request, found, round)? {
            if let Some(key) = key {
                // The next of the line is free now; the round after this one takes it.
                round.more |= promote(connection, consumer.group, &key)?;
            }
            continue;
        }
        let room = want.saturating_sub(round.claimed.len());
        if let (Some(key), 1..) = (key, room) {
            // The rest of the line comes along: the handler gets them one after the other.
            let line: Vec<Found> = connection
                .prepare_cached(
                    "SELECT c.message, c.epoch, c.attempts, c.partition_key, m.data, m.metadata, m.expires
                     FROM pubsub_claims AS c LEFT JOIN pubsub_messages AS m ON m.id = c.message
                     WHERE c.group_id = ?1 AND c.partition_key = ?2 AND c.message > ?3 ORDER BY c.message LIMIT ?4",
                )?
                .query_map(params![consumer.group, key, head, limit(room)], Found::read)?
                .collect::<rusqlite::Result<_>>()?;
            for found in line {
                claim_found(connection, request, found, round)?;
            }
        }
        if round.claimed.len() >= want {
            break;
        }
    }
    Ok(())
}

/// Claims one that has a claim row already, or removes the row of a message that is gone. Answers which.
fn claim_found(
    connection: &Connection,
    request: &Request,
    found: Found,
    round: &mut Round,
) -> rusqlite::Result<bool> {
    let consumer = request.consumer;
    let Some(data) = found
        .data
        .filter(|_| found.expires.is_none_or(|at| at > request.now))
    else {
        connection
            .prepare_cached("DELETE FROM pubsub_claims WHERE group_id = ?1 AND message = ?2")?
            .execute([consumer.group, found.id])?;
        return Ok(false);
    };
    connection
        .prepare_cached(
            "UPDATE pubsub_claims SET owner = ?3, epoch = epoch + 1, due = 0 WHERE group_id = ?1 AND message = ?2",
        )?
        .execute([consumer.group, found.id, consumer.id])?;
    round.claimed.push(Claimed {
        id: found.id,
        epoch: found.epoch + 1,
        attempts: found.attempts,
        data: data.into(),
        metadata: decode(found.metadata.as_deref()),
        key: found.key.map(Arc::from),
    });
    Ok(true)
}

/// Claims messages after the group's cursor.
fn claim_new(connection: &Connection, request: &Request, round: &mut Round) -> rusqlite::Result<()> {
    let Request {
        consumer, now, want, ..
    } = *request;
    let room = want.saturating_sub(round.claimed.len());
    if room == 0 {
        return Ok(());
    }
    let cursor: Option<i64> = connection
        .prepare_cached("SELECT cursor FROM pubsub_groups WHERE id = ?1")?
        .query_row([consumer.group], |row| row.get(0))
        .optional()?;
    // Groups are removed when nobody has been seen for as long as messages are kept.
    let Some(before) = cursor else {
        round.gone = true;
        return Ok(());
    };
    let mut cursor = before;
    let mut claim = connection.prepare_cached(
        "INSERT INTO pubsub_claims (group_id, message, owner, epoch, attempts, due, partition_key)
         VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6)",
    )?;
    let mut messages = connection.prepare_cached(
        "SELECT id, data, metadata, partition_key, expires FROM pubsub_messages
         WHERE topic = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    )?;
    let mut rows = messages.query(params![consumer.topic, cursor, MAX_SCAN])?;
    let mut scanned: i64 = 0;
    while round.claimed.len() < want {
        let Some(row) = rows.next()? else { break };
        scanned += 1;
        let id: i64 = row.get(0)?;
        let expired = row.get::<_, Option<i64>>(4)?.is_some_and(|at| at <= now);
        if !expired {
            let key: Option<String> = row.get(3)?;
            if let Some(key) = &key
                && !lane_is_open(connection, consumer, key)?
            {
                if behind(connection, consumer.group)? >= MAX_BEHIND {
                    break;
                }
                claim.execute(params![consumer.group, id, BEHIND, 0, now, key])?;
            } else {
                claim.execute(params![consumer.group, id, consumer.id, 1, 0, key])?;
                let metadata = row.get::<_, Option<String>>(2)?;
                round.claimed.push(Claimed {
                    id,
                    epoch: 1,
                    attempts: 0,
                    data: Bytes::copy_from_slice(row.get_ref(1)?.as_bytes()?),
                    metadata: decode(metadata.as_deref()),
                    key: key.map(Arc::from),
                });
            }
        }
        cursor = id;
    }
    round.more |= scanned == MAX_SCAN;
    if cursor != before {
        connection
            .prepare_cached("UPDATE pubsub_groups SET cursor = ?2, seen = ?3 WHERE id = ?1")?
            .execute([consumer.group, cursor, now])?;
    }
    Ok(())
}

/// Whether a new message of this key may be claimed: the last one before it is finished or held by the same
/// consumer, who keeps the order.
fn lane_is_open(connection: &Connection, consumer: Consumer, key: &str) -> rusqlite::Result<bool> {
    let last: Option<i64> = connection
        .prepare_cached(
            "SELECT owner FROM pubsub_claims WHERE group_id = ?1 AND partition_key = ?2
             ORDER BY message DESC LIMIT 1",
        )?
        .query_row(params![consumer.group, key], |row| row.get(0))
        .optional()?;
    Ok(last.is_none_or(|owner| owner == consumer.id))
}

fn behind(connection: &Connection, group: i64) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT count(*) FROM pubsub_claims WHERE group_id = ?1 AND owner = -1")?
        .query_row([group], |row| row.get(0))
}

/// A `LIMIT`.
fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A claim row with its message.
struct Found {
    id: i64,
    epoch: i64,
    attempts: i64,
    key: Option<String>,
    data: Option<Vec<u8>>,
    metadata: Option<String>,
    expires: Option<i64>,
}

impl Found {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            epoch: row.get(1)?,
            attempts: row.get(2)?,
            key: row.get(3)?,
            data: row.get(4)?,
            metadata: row.get(5)?,
            expires: row.get(6)?,
        })
    }
}

fn decode(metadata: Option<&str>) -> Arc<Metadata> {
    // Written by us; a row somebody has edited by hand still delivers its data.
    Arc::new(
        metadata
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default(),
    )
}
