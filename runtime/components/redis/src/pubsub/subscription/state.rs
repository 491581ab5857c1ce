//! What a subscription has at hand.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use futures::{future::BoxFuture, stream::FuturesUnordered};
use outrigger_component::Error;
use outrigger_pubsub::{BulkOptions, Verdict};
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit},
    time::Instant,
};

use super::ids;
use crate::pubsub::{
    consumer::Settlement,
    entry::{Entry, EntryId},
    stream::Reader,
};

/// What the handler said of an entry; no verdict when its time ran out.
pub(super) struct Outcome {
    pub(super) id: EntryId,
    pub(super) key: Option<Arc<str>>,
    pub(super) verdict: Option<Verdict>,
}

/// An exchange and what came of it.
pub(super) type Settled = (Settlement, Result<(), Error>);

/// Everything between the server and the handler.
pub(super) struct State {
    /// Read, not begun, with the time of arrival.
    pub(super) ready: VecDeque<(Instant, Entry)>,
    /// Calls of the handler.
    pub(super) running: FuturesUnordered<BoxFuture<'static, Vec<Outcome>>>,
    /// Entries in these calls.
    begun: HashSet<EntryId>,
    /// Partition keys in these calls.
    busy: HashSet<Arc<str>>,
    /// What the next exchange says.
    pub(super) next: Settlement,
    pub(super) settling: Option<BoxFuture<'static, Settled>>,
    /// Not before this, after a failure.
    pub(super) settle_at: Option<Instant>,
    pub(super) failing_since: Option<Instant>,
    /// The reader, while it does not read.
    pub(super) reader: Option<Reader>,
    pub(super) reading: Option<BoxFuture<'static, (Reader, Vec<Entry>)>>,
    pub(super) claiming: Option<BoxFuture<'static, Result<Vec<Entry>, Error>>>,
    pub(super) next_claim: Instant,
    pub(super) next_renewal: Instant,
    /// Waits for a call of another subscription to end.
    pub(super) waiting: Option<BoxFuture<'static, Result<OwnedSemaphorePermit, AcquireError>>>,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl State {
    pub(super) fn new(reader: Reader) -> Self {
        Self {
            ready: VecDeque::new(),
            running: FuturesUnordered::new(),
            begun: HashSet::new(),
            busy: HashSet::new(),
            next: Settlement::default(),
            settling: None,
            settle_at: None,
            failing_since: None,
            reader: Some(reader),
            reading: None,
            claiming: None,
            next_claim: Instant::now(),
            next_renewal: Instant::now(),
            waiting: None,
            permit: None,
        }
    }

    pub(super) fn arrived(&mut self, entries: impl IntoIterator<Item = Entry>) {
        let now = Instant::now();
        self.ready.extend(entries.into_iter().map(|entry| (now, entry)));
    }

    /// Which of the ready entries go into the next call, by place; none when they have to wait.
    pub(super) fn next_batch(&self, bulk: Option<BulkOptions>) -> Vec<usize> {
        let limit = match bulk {
            None => 1,
            Some(bulk) => {
                let limit = bulk.max_messages.max(1);
                match self.ready.front() {
                    Some((since, _))
                        if self.ready.len() >= limit || *since + bulk.max_wait <= Instant::now() =>
                    {
                        limit
                    }
                    _ => return Vec::new(),
                }
            }
        };
        let mut batch = Vec::with_capacity(limit.min(self.ready.len()));
        for (at, (_, entry)) in self.ready.iter().enumerate() {
            // Those of one key follow one another; within a batch they already do.
            if entry.key.as_ref().is_none_or(|key| !self.busy.contains(key)) {
                batch.push(at);
                if batch.len() == limit {
                    break;
                }
            }
        }
        batch
    }

    /// Takes the entries at these places, in order.
    pub(super) fn take(&mut self, batch: &[usize]) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(batch.len());
        for (taken, at) in batch.iter().enumerate() {
            let Some((_, entry)) = self.ready.remove(at - taken) else {
                continue;
            };
            self.begun.insert(entry.id);
            if let Some(key) = &entry.key {
                self.busy.insert(key.clone());
            }
            entries.push(entry);
        }
        entries
    }

    /// An entry's call has ended.
    pub(super) fn finished(&mut self, id: EntryId, key: Option<Arc<str>>) {
        self.begun.remove(&id);
        if let Some(key) = key {
            self.busy.remove(&key);
        }
    }

    /// What has not begun goes back.
    pub(super) fn give_back_ready(&mut self) {
        self.next.back.extend(ids(&self.ready));
        self.ready.clear();
        self.permit = None;
        self.waiting = None;
    }

    pub(super) fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.begun.is_empty()
    }

    /// Read and not finished.
    pub(super) fn in_work(&self) -> Vec<EntryId> {
        ids(&self.ready).chain(self.begun.iter().copied()).collect()
    }

    /// All that the ledger has of this subscription.
    pub(super) fn all_held(&self) -> Vec<EntryId> {
        let mut all = self.in_work();
        all.extend(&self.next.done);
        all.extend(&self.next.back);
        all
    }

    /// Nothing on its way and nothing left to say.
    pub(super) fn is_finished(&self) -> bool {
        self.running.is_empty()
            && self.ready.is_empty()
            && self.reading.is_none()
            && self.claiming.is_none()
            && self.settling.is_none()
            && self.next.is_empty()
    }
}
