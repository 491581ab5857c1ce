//! Who wants to be reminded next, and when: an index over all lists, so that a tick reads a few documents only (N4).
//!
//! The index changes in the transaction of the list that it is about. Users are spread over a fixed number of
//! documents by name, so that writers seldom meet.

use std::collections::BTreeMap;

use outrigger_kit::Error;
use outrigger_kit::client::{Operation, StateStore};

/// All instances must agree on it.
pub(super) const SHARDS: usize = 16;

/// When the next reminder of each user is due.
type Index = BTreeMap<String, i64>;

fn key(shard: usize) -> String {
    format!("todo/reminders/{shard}")
}

fn shard(user: &str) -> usize {
    user.bytes().fold(0, |sum: usize, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    }) % SHARDS
}

/// The write that brings the index up to date with a list, to go into its transaction.
pub(super) async fn write(state: &StateStore, user: &str, next: Option<i64>) -> Result<Operation, Error> {
    let key = key(shard(user));
    let stored = state.get::<Index>(&key).await?;
    let (mut index, etag) = stored.map_or_else(Default::default, |item| (item.value, item.etag));
    match next {
        Some(at) => index.insert(user.to_owned(), at),
        None => index.remove(user),
    };
    Ok(Operation::upsert(key, &index)?.if_match(etag.as_deref()))
}

/// The users of a document whose reminders are due.
pub(super) async fn due(state: &StateStore, shard: usize, now: i64) -> Result<Vec<String>, Error> {
    let stored = state.get::<Index>(&key(shard)).await?;
    let index = stored.map(|item| item.value).unwrap_or_default();
    Ok(index
        .into_iter()
        .filter(|(_, at)| *at <= now)
        .map(|(user, _)| user)
        .collect())
}
