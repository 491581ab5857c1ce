//! The SQL of `state.sqlite` and its row format.
//!
//! Times are `YYYY-MM-DD HH:MM:SS` in UTC, written by SQLite itself; a row whose time is not in the future is
//! treated as absent whether or not it was removed. Columns are named everywhere: upstream's first-write insert
//! goes by position.

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use outrigger_component::Error;
use outrigger_state::{
    Etag, Expect, Item, KeyPage, KeyPattern, Like, Operation, Ttl, Value, empty_pattern, etag_mismatch,
};
use outrigger_types::StateKey;
use rusqlite::{Connection, Row, ToSql, types::ValueRef};
use uuid::Uuid;

use crate::connection::failed;

/// Statements with the table name in place; each is prepared once per connection.
#[derive(Debug)]
pub(super) struct Statements {
    get: String,
    upsert: String,
    insert: String,
    update: String,
    delete: String,
    delete_match: String,
    delete_prefix: String,
    keys_all: String,
    keys_page: String,
}

/// What makes a row visible.
const LIVE: &str = "(expiration_time IS NULL OR expiration_time > CURRENT_TIMESTAMP)";

impl Statements {
    pub(super) fn new(table: &str) -> Self {
        // A NULL number of seconds makes the whole expression NULL: for ever.
        let expiration = "DATETIME(CURRENT_TIMESTAMP, '+' || ?5 || ' seconds')";
        let insert = format!(
            "INSERT INTO {table} (key, value, is_binary, etag, expiration_time, update_time)
             VALUES (?1, ?2, ?3, ?4, {expiration}, CURRENT_TIMESTAMP)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, is_binary = excluded.is_binary,
             etag = excluded.etag, expiration_time = excluded.expiration_time, update_time = excluded.update_time"
        );
        Self {
            get: format!(
                "SELECT value, is_binary, etag, unixepoch(expiration_time) FROM {table} WHERE key = ?1 AND {LIVE}"
            ),
            // First write: an expired row that nobody has removed yet does not count.
            insert: format!(
                "{insert} WHERE NOT (expiration_time IS NULL OR expiration_time > CURRENT_TIMESTAMP)"
            ),
            upsert: insert,
            update: format!(
                "UPDATE {table} SET value = ?2, is_binary = ?3, etag = ?4, expiration_time = {expiration},
                 update_time = CURRENT_TIMESTAMP WHERE key = ?1 AND etag = ?6 AND {LIVE}"
            ),
            delete: format!("DELETE FROM {table} WHERE key = ?1"),
            delete_match: format!("DELETE FROM {table} WHERE key = ?1 AND etag = ?2"),
            delete_prefix: format!(
                "DELETE FROM {table} WHERE key >= ?1 AND key < ?2 AND substr(key, 1, length(?1)) = ?1
                 AND instr(substr(key, length(?1) + 1), '||') = 0"
            ),
            // Without pages the matches are found by the index of the keys; with pages the walk goes by row number,
            // so that all pages together read the table once.
            keys_all: format!("SELECT key, rowid FROM {table} WHERE key >= ?1 AND key < ?2 AND {LIVE}"),
            keys_page: format!(
                "SELECT key, rowid FROM {table} NOT INDEXED WHERE rowid > ?1 AND {LIVE} ORDER BY rowid"
            ),
        }
    }

    /// Reads one item.
    pub(super) fn get(&self, connection: &Connection, key: &StateKey) -> Result<Option<Item>, Error> {
        let wrap = |error| failed("failed to read the state", error);
        let mut statement = connection.prepare_cached(&self.get).map_err(wrap)?;
        let mut rows = statement.query([key.as_str()]).map_err(wrap)?;
        rows.next().map_err(wrap)?.map(item).transpose()
    }

    /// Applies one operation; answers the new etag of a write.
    pub(super) fn apply(
        &self,
        connection: &Connection,
        operation: &Operation,
    ) -> Result<Option<Etag>, Error> {
        match operation {
            Operation::Set {
                key,
                value,
                expect,
                ttl,
                ..
            } => {
                let encoded;
                let (text, binary) = match value {
                    Value::Json(json) => {
                        let text = std::str::from_utf8(json).map_err(|error| {
                            Error::invalid("the JSON document is not UTF-8").with_source(error)
                        })?;
                        (text, false)
                    }
                    Value::Binary(bytes) => {
                        encoded = BASE64.encode(bytes);
                        (encoded.as_str(), true)
                    }
                };
                let mut buffer = Uuid::encode_buffer();
                let etag: &str = Uuid::new_v4().hyphenated().encode_lower(&mut buffer);
                let seconds = match ttl {
                    Ttl::Seconds(seconds) if *seconds > 0 => Some(*seconds),
                    Ttl::Seconds(_) | Ttl::Default | Ttl::Never => None,
                };
                let key = key.as_str();
                let (sql, expected) = match expect {
                    Expect::Any => (&self.upsert, None),
                    Expect::Absent => (&self.insert, None),
                    Expect::Match(expected) => (&self.update, Some(expected.as_str())),
                };
                let five: [&dyn ToSql; 5] = [&key, &text, &binary, &etag, &seconds];
                let changed = match &expected {
                    None => execute(connection, sql, &five)?,
                    Some(expected) => execute(
                        connection,
                        sql,
                        &[five[0], five[1], five[2], five[3], five[4], expected],
                    )?,
                };
                if changed == 0 {
                    return Err(etag_mismatch());
                }
                Ok(Some(Etag::new(etag)))
            }
            Operation::Delete { key, expect, .. } => {
                let key = key.as_str();
                match expect {
                    Expect::Match(etag) => {
                        if execute(connection, &self.delete_match, &[&key, &etag.as_str()])? == 0 {
                            return Err(etag_mismatch());
                        }
                    }
                    // First write without an etag says nothing about deletes (upstream ignores it too).
                    Expect::Any | Expect::Absent => {
                        execute(connection, &self.delete, &[&key])?;
                    }
                }
                Ok(None)
            }
        }
    }

    /// Removes `<prefix>||<rest>`; the prefix ends with `||`.
    pub(super) fn delete_prefix(&self, connection: &Connection, prefix: &str) -> Result<u64, Error> {
        let end = after(prefix);
        execute(connection, &self.delete_prefix, &[&prefix, &end]).map(|count| count as u64)
    }

    /// Lists keys. The token is the row number of the last key given, as upstream's.
    pub(super) fn keys(&self, connection: &Connection, pattern: &KeyPattern) -> Result<KeyPage, Error> {
        if pattern.like.is_empty() {
            return Err(empty_pattern());
        }
        let wrap = |error| failed("failed to list keys", error);
        let like = Like::new(&pattern.like);
        let from: i64 = match &pattern.token {
            None => i64::MIN,
            Some(token) => token
                .parse()
                .map_err(|error| Error::invalid("invalid continue token").with_source(error))?,
        };
        let size = pattern
            .page_size
            .filter(|size| *size > 0)
            .map(|size| size as usize);
        let prefix = like.literal_prefix();
        let end = after(&prefix);
        let by_key = size.is_none() && pattern.token.is_none();
        let parameters: &[&dyn ToSql] = if by_key { &[&prefix, &end] } else { &[&from] };
        let mut statement = connection
            .prepare_cached(if by_key { &self.keys_all } else { &self.keys_page })
            .map_err(wrap)?;
        let mut rows = statement.query(parameters).map_err(wrap)?;
        let mut found: Vec<(i64, StateKey)> = Vec::new();
        while let Some(row) = rows.next().map_err(wrap)? {
            let key = row
                .get_ref(0)
                .map_err(wrap)?
                .as_bytes_or_null()
                .ok()
                .flatten()
                .unwrap_or_default();
            let Ok(key) = std::str::from_utf8(key) else {
                continue;
            };
            if !like.matches(key) {
                continue;
            }
            found.push((row.get(1).map_err(wrap)?, StateKey::from(key)));
            if Some(found.len()) == size {
                break;
            }
        }
        if by_key {
            found.sort_unstable_by_key(|(row, _)| *row);
        }
        let token = found
            .last()
            .filter(|_| Some(found.len()) == size)
            .map(|(row, _)| row.to_string());
        Ok(KeyPage {
            keys: found.into_iter().map(|(_, key)| key).collect(),
            token,
        })
    }
}

/// The smallest text greater than all that begin with the prefix, as SQLite compares bytes; a blob is greater than
/// every text and stands for no end.
fn after(prefix: &str) -> rusqlite::types::Value {
    let mut bytes = prefix.as_bytes().to_vec();
    while let Some(last) = bytes.pop() {
        if last < 0x7f {
            bytes.push(last + 1);
            if let Ok(text) = String::from_utf8(bytes) {
                return text.into();
            }
            break;
        }
    }
    Vec::<u8>::new().into()
}

fn execute(connection: &Connection, sql: &str, parameters: &[&dyn ToSql]) -> Result<usize, Error> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute(parameters))
        .map_err(|error| failed("failed to write the state", error))
}

fn item(row: &Row<'_>) -> Result<Item, Error> {
    let wrap = |error| failed("failed to read the state", error);
    let stored = bytes_of(row.get_ref(0).map_err(wrap)?);
    let binary = match row.get_ref(1).map_err(wrap)? {
        ValueRef::Integer(number) => number != 0,
        // Tables made by hand may hold the words.
        other => bytes_of(other).eq_ignore_ascii_case(b"true"),
    };
    let value = if binary {
        let decoded = BASE64
            .decode(stored)
            .map_err(|error| Error::internal("failed to decode binary data").with_source(error))?;
        Value::Binary(decoded.into())
    } else {
        Value::Json(Bytes::copy_from_slice(stored))
    };
    let etag = std::str::from_utf8(bytes_of(row.get_ref(2).map_err(wrap)?)).unwrap_or_default();
    let expires: Option<i64> = row.get(3).map_err(wrap)?;
    Ok(Item {
        value,
        etag: Some(Etag::new(etag)),
        expires: expires.map(|seconds| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
        }),
    })
}

/// Text or blob: SQLite columns hold either.
fn bytes_of(value: ValueRef<'_>) -> &[u8] {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => b"",
    }
}
