//! What this process knows of its own outbox transactions. Only a short cut: whatever is not here is decided by the
//! markers in the store, so entries may be forgotten at any time.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// The most transactions kept.
const MAX_TICKETS: usize = 100_000;
/// How long a transaction is kept: its events may go to another instance of the app and never come back here.
const KEEP: Duration = Duration::from_secs(60);

/// What is known of the transaction that carries a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing: another process, or an earlier life of this one.
    Nothing,
    /// It is on its way.
    Pending,
    /// It is in the store.
    Committed,
    /// The store reported a failure at this moment; it may still have taken it.
    Failed(Instant),
    /// It was never given to the store.
    Cancelled,
    /// Its event has been published; only the marker is left.
    Published,
}

#[derive(Default)]
struct State {
    markers: HashMap<String, Known>,
    /// Oldest first.
    tickets: VecDeque<(u64, Instant, Vec<String>)>,
    next: u64,
}

/// The ledger.
#[derive(Default)]
pub(super) struct Ledger {
    state: Mutex<State>,
    changed: Notify,
}

impl Ledger {
    /// Notes a transaction with its markers; answers its ticket.
    pub(super) fn open(&self, markers: Vec<String>) -> u64 {
        let now = Instant::now();
        let mut state = self.state.lock();
        while let Some((_, since, _)) = state.tickets.front()
            && (state.tickets.len() >= MAX_TICKETS || now.duration_since(*since) > KEEP)
        {
            if let Some((_, _, markers)) = state.tickets.pop_front() {
                for marker in markers {
                    state.markers.remove(&marker);
                }
            }
        }
        let ticket = state.next;
        state.next += 1;
        for marker in &markers {
            state.markers.insert(marker.clone(), Known::Pending);
        }
        state.tickets.push_back((ticket, now, markers));
        ticket
    }

    /// Notes how a transaction ended.
    pub(super) fn close(&self, ticket: u64, outcome: Known) {
        let mut state = self.state.lock();
        let State { markers, tickets, .. } = &mut *state;
        // Tickets are in order, so their numbers are too.
        if let Ok(at) = tickets.binary_search_by_key(&ticket, |(number, ..)| *number) {
            for marker in &tickets[at].2 {
                if let Some(known) = markers.get_mut(marker) {
                    *known = outcome;
                }
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// What is known of a marker's transaction; waits for one that is pending, at most `patience`.
    pub(super) async fn outcome(&self, marker: &str, patience: Duration) -> Known {
        let deadline = Instant::now() + patience;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no notice is missed.
            changed.as_mut().enable();
            let known = self
                .state
                .lock()
                .markers
                .get(marker)
                .copied()
                .unwrap_or(Known::Nothing);
            if known != Known::Pending {
                return known;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Known::Pending;
            }
        }
    }

    /// Notes that only the marker is left.
    pub(super) fn published(&self, marker: &str) {
        let mut state = self.state.lock();
        if state.markers.len() < MAX_TICKETS * 4 {
            state.markers.insert(marker.to_owned(), Known::Published);
        }
    }

    /// Forgets a marker: everything is done.
    pub(super) fn forget(&self, marker: &str) {
        self.state.lock().markers.remove(marker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_pending_transactions_only() {
        let ledger = Ledger::default();
        assert_eq!(ledger.outcome("x", KEEP).await, Known::Nothing);
        let ticket = ledger.open(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(ledger.outcome("a", Duration::from_secs(1)).await, Known::Pending);
        let (known, ()) = tokio::join!(ledger.outcome("b", KEEP), async {
            tokio::task::yield_now().await;
            ledger.close(ticket, Known::Committed);
        });
        assert_eq!(known, Known::Committed);
        ledger.published("a");
        assert_eq!(ledger.outcome("a", KEEP).await, Known::Published);
        ledger.forget("a");
        assert_eq!(ledger.outcome("a", KEEP).await, Known::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn forgets_what_is_old() {
        let ledger = Ledger::default();
        let ticket = ledger.open(vec!["a".to_owned()]);
        tokio::time::advance(KEEP * 2).await;
        ledger.open(vec!["b".to_owned()]);
        assert_eq!(ledger.outcome("a", KEEP).await, Known::Nothing);
        ledger.close(ticket, Known::Committed);
        assert_eq!(ledger.outcome("a", KEEP).await, Known::Nothing);
    }
}
