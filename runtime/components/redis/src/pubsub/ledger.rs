//! What this process holds of a group.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::entry::EntryId;

/// The ids of the entries that subscriptions of one stream and group hold: read, and neither acknowledged nor given
/// back. All of them are one consumer to the server, so only this tells an entry that is in work from one that was
/// left behind.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashSet<EntryId>>);

impl Held {
    /// Takes an entry; `false` when it is held already.
    pub(super) fn take(&self, id: EntryId) -> bool {
        self.0.lock().insert(id)
    }

    pub(super) fn has(&self, id: EntryId) -> bool {
        self.0.lock().contains(&id)
    }

    /// Lets go of entries.
    pub(super) fn release(&self, ids: &[EntryId]) {
        let mut held = self.0.lock();
        for id in ids {
            held.remove(id);
        }
    }
}

/// What is held, by stream and group.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<HashMap<(String, String), Weak<Held>>>);

impl Ledger {
    /// What is held of this group; shared by its subscriptions.
    pub(super) fn of(&self, stream: &str, group: &str) -> Arc<Held> {
        let mut groups = self.0.lock();
        groups.retain(|_, held| held.strong_count() > 0);
        let place = groups.entry((stream.to_owned(), group.to_owned())).or_default();
        place.upgrade().unwrap_or_else(|| {
            let held = Arc::default();
            *place = Arc::downgrade(&held);
            held
        })
    }
}
