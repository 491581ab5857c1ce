//! The operations that are merged: reads of single keys and plain writes of single keys.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use outrigger_component::Error;
use outrigger_state::{Etag, Item, Ttl, Value};
use outrigger_types::StateKey;

use super::format::{Format, Stored};
use crate::{
    database::Database,
    error::{copies, failed, lost_to_another},
    merge::{Job, Waiting},
};

/// Keys of one read at most.
const MOST_READS: usize = 256;
/// Keys of one write at most.
const MOST_WRITES: usize = 128;
/// Bytes of values of one write at most; a single larger one goes alone.
const MOST_BYTES: usize = 1 << 20;
/// How often a write is tried that the server undoes for the sake of another.
pub(super) const ATTEMPTS: usize = 5;

pub(super) const READ: &str = "failed to read the state";
pub(super) const WRITE: &str = "failed to write the state";

/// What both need.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) database: Arc<Database>,
    pub(super) format: Format,
}

/// Reads of single keys.
pub(super) struct Reads(pub(super) Arc<Table>);

impl Job for Reads {
    type Request = StateKey;
    type Answer = Option<Item>;

    fn take(&self, waiting: &mut VecDeque<Waiting<Self>>) -> Vec<Waiting<Self>> {
        let count = waiting.len().min(MOST_READS);
        waiting.drain(..count).collect()
    }

    async fn one(&self, key: StateKey) -> Result<Option<Item>, Error> {
        let Table { database, format } = &*self.0;
        let rows = database
            .read(READ, &format.get, &[crate::statement::Param::Text(key.as_str())])
            .await?;
        rows.first()
            .map(|row| format.item(row).map(|(_, item)| item))
            .transpose()
    }

    async fn several(&self, keys: Vec<StateKey>) -> Vec<Result<Option<Item>, Error>> {
        self.0.get_many(&keys).await
    }
}

impl Table {
    /// Reads several keys with one statement, answers in their order.
    pub(super) async fn get_many(&self, keys: &[StateKey]) -> Vec<Result<Option<Item>, Error>> {
        let names = keys.iter().map(StateKey::as_str).collect();
        let rows = self
            .database
            .read(
                READ,
                &self.format.get_many,
                &[crate::statement::Param::Texts(names)],
            )
            .await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => return copies(&error, keys.len()),
        };
        let mut found: HashMap<&str, Result<Item, Error>> = HashMap::with_capacity(rows.len());
        for row in &rows {
            match self.format.item(row) {
                Ok((key, item)) => {
                    found.insert(key, Ok(item));
                }
                Err(error) => {
                    if let Ok(key) = row.required_text(0) {
                        found.insert(key, Err(error));
                    }
                }
            }
        }
        keys.iter()
            .map(|key| match found.get(key.as_str()) {
                None => Ok(None),
                Some(Ok(item)) => Ok(Some(item.clone())),
                Some(Err(error)) => Err(crate::error::copy(error)),
            })
            .collect()
    }
}

/// A write without conditions.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) key: StateKey,
    pub(super) value: Value,
    pub(super) ttl: Ttl,
}

/// Writes of single keys.
pub(super) struct Writes(pub(super) Arc<Table>);

impl Job for Writes {
    type Request = Write;
    /// No etag where another write of the same statement replaced the value at once: what it would name is gone.
    type Answer = Option<Etag>;

    /// A key comes twice only where the earlier value is one that no server refuses: the statement writes the later
    /// one alone, and the earlier is answered as if it had been there for no time at all. Under load writers of one
    /// key thus share statements instead of waiting for each other's lock of its row.
    fn take(&self, waiting: &mut VecDeque<Waiting<Self>>) -> Vec<Waiting<Self>> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        // Whether a later write of the key may be taken too.
        let mut keys: HashMap<StateKey, bool> = HashMap::new();
        let mut left = VecDeque::new();
        while let Some(next) = waiting.pop_front() {
            let Write { key, value, .. } = &next.request;
            let size = value.bytes().len();
            let fits = keys.get(key).copied().unwrap_or(true)
                && taken.len() < MOST_WRITES
                && (taken.is_empty() || bytes + size <= MOST_BYTES);
            // Behind a write that was left the key's others wait too: they keep their order.
            keys.insert(key.clone(), fits && self.0.format.surely_takes(value));
            if fits {
                bytes += size;
                taken.push(next);
            } else {
                left.push_back(next);
            }
            if taken.len() == MOST_WRITES || bytes >= MOST_BYTES {
                break;
            }
        }
        left.append(waiting);
        *waiting = left;
        taken
    }

    async fn one(&self, write: Write) -> Result<Option<Etag>, Error> {
        let Table { database, format } = &*self.0;
        let stored = Stored::new(format.version, write.key.as_str(), &write.value, write.ttl)?;
        let rows = database.write(WRITE, &format.upsert, &stored.params()).await?;
        let row = rows
            .first()
            .ok_or_else(|| Error::internal("no item was updated"))?;
        Ok(Some(Etag::new(row.required_text(1)?)))
    }

    async fn several(&self, writes: Vec<Write>) -> Vec<Result<Option<Etag>, Error>> {
        match self.together(&writes).await {
            Ok(Some(etags)) => etags,
            // One of them is to blame; each gets its own answer.
            Ok(None) => {
                let mut answers = Vec::with_capacity(writes.len());
                for write in writes {
                    answers.push(self.one(write).await);
                }
                answers
            }
            Err(error) => copies(&error, writes.len()),
        }
    }
}

impl Writes {
    /// Writes all with one statement; `None` when the server refused it.
    async fn together(&self, writes: &[Write]) -> Result<Option<Vec<Result<Option<Etag>, Error>>>, Error> {
        let Table { database, format } = &*self.0;
        // Of each key the last.
        let standing: HashMap<&str, usize> = writes
            .iter()
            .enumerate()
            .map(|(at, write)| (write.key.as_str(), at))
            .collect();
        let stands = |at: usize, write: &Write| standing.get(write.key.as_str()) == Some(&at);
        let stored: Result<Vec<_>, _> = writes
            .iter()
            .enumerate()
            .filter(|(at, write)| stands(*at, write))
            .map(|(_, write)| Stored::new(format.version, write.key.as_str(), &write.value, write.ttl))
            .collect();
        let Ok(mut stored) = stored else {
            return Ok(None);
        };
        // Rows are locked in the order of the array: who locks in the same order does not lock each other out.
        stored.sort_unstable_by(|left, right| left.key().cmp(right.key()));
        let params = Stored::arrays(&stored);
        let mut attempt = 1;
        let rows = loop {
            let mut session = database.session(WRITE).await?;
            match session.try_run(&format.upsert_many, &params).await? {
                Ok(rows) => break rows,
                Err(error) if lost_to_another(&error) && attempt < ATTEMPTS => attempt += 1,
                // What costs the connection is nobody's value.
                Err(error) if crate::error::spoils_connection(&error) => return Err(failed(WRITE, &error)),
                Err(_) => return Ok(None),
            }
        };
        let mut etags = HashMap::with_capacity(rows.len());
        for row in &rows {
            etags.insert(row.required_text(0)?, row.required_text(1)?);
        }
        let answers = writes.iter().enumerate().map(|(at, write)| {
            let etag = etags
                .get(write.key.as_str())
                .ok_or_else(|| Error::internal("no item was updated"))?;
            Ok(stands(at, write).then(|| Etag::new(*etag)))
        });
        Ok(Some(answers.collect()))
    }
}
