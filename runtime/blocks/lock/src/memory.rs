//! `lock.in-memory`: locks inside one process (ours; D4), for tests and for trying things out.

use std::{collections::HashMap, sync::Arc, time::Duration};

use outrigger_component::{Error, ErrorKind, Open, Registration, Spec, open_with};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{DynLockStore, LockStore, UnlockStatus};

/// More locks than a test takes. Those whose time is over make room for new ones.
const MAX_LOCKS: usize = 100_000;

/// `lock.in-memory`. It has no metadata. Every sidecar has locks of its own: owners on one sidecar exclude each other.
#[must_use]
pub fn registration() -> Registration<dyn DynLockStore> {
    Registration {
        type_names: &["lock.in-memory"],
        versions: &["v1"],
        validate,
    }
}

fn validate(_spec: &Spec) -> Result<Open<dyn DynLockStore>, Error> {
    Ok(open_with(async |_host| {
        Ok(Arc::new(MemoryLockStore::default()) as Arc<dyn DynLockStore>)
    }))
}

/// Locks in memory; clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryLockStore(Arc<Mutex<HashMap<String, Held>>>);

#[derive(Debug)]
struct Held {
    owner: String,
    until: Instant,
}

impl LockStore for MemoryLockStore {
    async fn try_lock(&self, resource: &str, owner: &str, expiry: Duration) -> Result<bool, Error> {
        let now = Instant::now();
        // A time beyond what the clock can tell is as good as a year.
        let until = now
            .checked_add(expiry)
            .unwrap_or(now + Duration::from_hours(24 * 365));
        let mut locks = self.0.lock();
        if locks.get(resource).is_some_and(|held| held.until > now) {
            return Ok(false);
        }
        if locks.len() >= MAX_LOCKS {
            locks.retain(|_, held| held.until > now);
        }
        if locks.len() >= MAX_LOCKS {
            return Err(Error::new(
                ErrorKind::Exhausted,
                format!("there are {MAX_LOCKS} locks already"),
            ));
        }
        let owner = owner.to_owned();
        locks.insert(resource.to_owned(), Held { owner, until });
        Ok(true)
    }

    async fn unlock(&self, resource: &str, owner: &str) -> Result<UnlockStatus, Error> {
        let mut locks = self.0.lock();
        match locks.get(resource) {
            Some(held) if held.until > Instant::now() => {
                if held.owner != owner {
                    return Ok(UnlockStatus::LockBelongsToOthers);
                }
                locks.remove(resource);
                Ok(UnlockStatus::Success)
            }
            _ => Ok(UnlockStatus::LockDoesNotExist),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outrigger_component::ErrorKind;

    use super::{MAX_LOCKS, MemoryLockStore};
    use crate::{LockStore as _, UnlockStatus};

    const LONG: Duration = Duration::from_secs(100);

    #[tokio::test(start_paused = true)]
    async fn one_owner_at_a_time_until_the_time_is_over() {
        let store = MemoryLockStore::default();
        let other = store.clone();
        assert_eq!(
            store.unlock("r", "a").await.unwrap(),
            UnlockStatus::LockDoesNotExist
        );
        assert!(store.try_lock("r", "a", LONG).await.unwrap());
        assert!(!store.try_lock("r", "a", LONG).await.unwrap(), "not reentrant");
        assert!(!other.try_lock("r", "b", LONG).await.unwrap());
        assert!(other.try_lock("s", "b", Duration::MAX).await.unwrap());
        assert_eq!(
            other.unlock("r", "b").await.unwrap(),
            UnlockStatus::LockBelongsToOthers
        );
        assert_eq!(other.unlock("r", "a").await.unwrap(), UnlockStatus::Success);
        assert!(other.try_lock("r", "b", LONG).await.unwrap());

        tokio::time::advance(LONG).await;
        assert_eq!(
            store.unlock("r", "b").await.unwrap(),
            UnlockStatus::LockDoesNotExist,
            "its time is over"
        );
        assert!(store.try_lock("r", "a", LONG).await.unwrap());
        assert!(!store.try_lock("s", "a", LONG).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn locks_are_bounded() {
        let store = MemoryLockStore::default();
        for number in 0..MAX_LOCKS {
            assert!(store.try_lock(&number.to_string(), "o", LONG).await.unwrap());
        }
        let error = store.try_lock("more", "o", LONG).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        tokio::time::advance(LONG).await;
        assert!(store.try_lock("more", "o", LONG).await.unwrap());
        assert_eq!(store.0.lock().len(), 1);
    }
}
