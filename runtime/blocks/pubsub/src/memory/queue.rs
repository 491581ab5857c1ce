//! The bounded queue of one subscription.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use outrigger_component::Metadata;
use outrigger_types::Topic;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};

use crate::BulkOptions;

/// Fewer waiting messages than these are a trickle, which a bulk subscription gets one by one.
const TRICKLE: usize = 5;

/// A message in a queue.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) data: Bytes,
    pub(super) metadata: Arc<Metadata>,
    /// The lane in which order is kept, if any.
    pub(super) key: Option<Arc<str>>,
    /// When it was published.
    pub(super) at: Instant,
}

/// How far a subscription has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Running,
    /// Takes nothing new.
    Paused,
    /// Ends when the handlers in flight have answered.
    Closed,
}

/// What a handler left of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Done with.
    Forget,
    /// To be delivered again after this long.
    Again(Duration),
}

#[derive(Debug, Default)]
struct Lane {
    /// In handlers now.
    running: usize,
    /// Waiting for redelivery; later messages of the lane stay behind them.
    waiting: usize,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Item>,
    delayed: VecDeque<(Instant, Item)>,
    lanes: HashMap<Arc<str>, Lane>,
    /// Messages that handlers have.
    taken: usize,
    /// When the last call ended.
    settled: Option<Instant>,
}

/// What [`Queue::take`] found.
#[derive(Debug)]
pub(super) enum Take {
    /// Deliver these now.
    Batch(Vec<Item>),
    /// Nothing yet; look again at this time, or when told.
    Wait(Option<Instant>),
}

#[derive(Debug)]
pub(super) struct Queue {
    topic: Topic,
    depth: usize,
    /// One permit per message that still fits.
    room: Semaphore,
    state: Mutex<State>,
    arrived: Notify,
    phase: watch::Sender<Phase>,
}

impl Queue {
    pub(super) fn new(topic: Topic, depth: usize, leftovers: VecDeque<Item>) -> Self {
        let depth = depth.max(leftovers.len());
        Self {
            topic,
            depth,
            room: Semaphore::new(depth - leftovers.len()),
            state: Mutex::new(State {
                ready: leftovers,
                ..State::default()
            }),
            arrived: Notify::new(),
            phase: watch::Sender::new(Phase::Running),
        }
    }

    pub(super) fn topic(&self) -> &Topic {
        &self.topic
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on to this phase, never back. Waiting publishers are let go: the subscription takes nothing more.
    pub(super) fn stop(&self, phase: Phase) {
        self.room.close();
        self.phase.send_if_modified(|current| {
            let later = phase > *current;
            if later {
                *current = phase;
            }
            later
        });
    }

    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Adds the items if they all fit at once. A queue that takes nothing more has nothing to wait for.
    pub(super) fn try_push(&self, items: &[Item]) -> bool {
        let Ok(count) = u32::try_from(items.len()) else {
            return false;
        };
        match self.room.try_acquire_many(count) {
            Ok(permits) => {
                permits.forget();
                self.append(items);
                true
            }
            Err(tokio::sync::TryAcquireError::Closed) => true,
            Err(tokio::sync::TryAcquireError::NoPermits) => false,
        }
    }

    /// Adds the items, waiting for room. Cancelled, it has added whole chunks or nothing.
    pub(super) async fn push(&self, items: &[Item]) {
        for chunk in items.chunks(self.depth.min(1024)) {
            let count = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            let Ok(permits) = self.room.acquire_many(count).await else {
                return;
            };
            permits.forget();
            self.append(chunk);
        }
    }

    fn append(&self, items: &[Item]) {
        self.state().ready.extend(items.iter().cloned());
        self.arrived.notify_one();
    }

    /// Waits for new items.
    pub(super) async fn arrival(&self) {
        self.arrived.notified().await;
    }

    /// Takes what may be delivered now: one message, or a batch that is full or has waited long enough.
    ///
    /// A trickle goes one by one, each after the longest wait, counted from the end of the call before: Dapr's broker in
    /// memory, which never has two messages of a subscription under way, does so at any rate. From [`TRICKLE`] waiting
    /// messages on, batches fill, so that here a message waits a few times the longest wait at most.
    pub(super) fn take(&self, bulk: Option<BulkOptions>, now: Instant) -> Take {
        let mut state = self.state();
        let limit = bulk.map_or(1, |bulk| bulk.max_messages.max(1));
        let mut batch = Vec::new();
        state.take_delayed(now, limit, &mut batch);
        if batch.is_empty() {
            if let Some(bulk) = bulk
                && let Some(first) = state.ready.front()
                && state.ready.len() < limit
                && let Some(due) = state.due_later(first.at, bulk.max_wait, now)
            {
                return Take::Wait(due.into_iter().chain(state.next_delayed(now)).min());
            }
            let limit = if state.ready.len() < limit.min(TRICKLE) {
                1
            } else {
                limit
            };
            state.take_ready(limit, &mut batch);
        }
        if batch.is_empty() {
            Take::Wait(state.next_delayed(now))
        } else {
            state.taken += batch.len();
            Take::Batch(batch)
        }
    }

    /// Books the fates of a batch.
    pub(super) fn settle(&self, batch: Vec<(Item, Fate)>, now: Instant) {
        let mut freed = 0;
        let mut state = self.state();
        state.taken = state.taken.saturating_sub(batch.len());
        state.settled = Some(now);
        for (item, fate) in batch {
            let again = matches!(fate, Fate::Again(_));
            if let Some(key) = &item.key
                && let Some(lane) = state.lanes.get_mut(key)
            {
                lane.running = lane.running.saturating_sub(1);
                lane.waiting += usize::from(again);
                if lane.running == 0 && lane.waiting == 0 {
                    state.lanes.remove(key);
                }
            }
            match fate {
                Fate::Forget => freed += 1,
                Fate::Again(delay) => {
                    let due = now + delay;
                    let place = state.delayed.partition_point(|(at, _)| *at <= due);
                    state.delayed.insert(place, (due, item));
                }
            }
        }
        drop(state);
        self.room.add_permits(freed);
    }

    /// What nobody has taken, oldest first.
    pub(super) fn drain(&self) -> VecDeque<Item> {
        let mut state = self.state();
        let mut left: VecDeque<_> = std::mem::take(&mut state.delayed)
            .into_iter()
            .map(|(_, item)| item)
            .collect();
        left.append(&mut state.ready);
        left.make_contiguous().sort_by_key(|item| item.at);
        left
    }
}

impl State {
    /// Whether a batch that is not full, its first message published then, must wait, and until when; `Some(None)` is
    /// until the call under way has ended.
    fn due_later(&self, published: Instant, max_wait: Duration, now: Instant) -> Option<Option<Instant>> {
        let from = if self.ready.len() >= TRICKLE {
            published
        } else if self.taken > 0 {
            return Some(None);
        } else {
            self.settled.map_or(published, |settled| settled.max(published))
        };
        let due = from + max_wait;
        (due > now).then_some(Some(due))
    }

    /// When the next redelivery is due. One that is due already and still here waits for its lane, not for a time.
    fn next_delayed(&self, now: Instant) -> Option<Instant> {
        self.delayed.iter().map(|(at, _)| *at).find(|at| *at > now)
    }

    fn take_delayed(&mut self, now: Instant, limit: usize, batch: &mut Vec<Item>) {
        let mut at = 0;
        while batch.len() < limit && self.delayed.get(at).is_some_and(|(due, _)| *due <= now) {
            let key = self.delayed[at].1.key.clone();
            let lane = key.as_ref().and_then(|key| self.lanes.get_mut(key));
            if lane.as_ref().is_some_and(|lane| lane.running > 0) {
                at += 1;
                continue;
            }
            if let Some(lane) = lane {
                lane.waiting = lane.waiting.saturating_sub(1);
                lane.running += 1;
            }
            batch.extend(self.delayed.remove(at).map(|(_, item)| item));
        }
    }

    fn take_ready(&mut self, limit: usize, batch: &mut Vec<Item>) {
        if self.ready.iter().take(limit).all(|item| item.key.is_none()) {
            batch.extend(self.ready.drain(..limit.min(self.ready.len())));
            return;
        }
        let mut own: Vec<Arc<str>> = Vec::new();
        let mut at = 0;
        while batch.len() < limit && at < self.ready.len() {
            if let Some(key) = &self.ready[at].key {
                let mine = own.contains(key);
                if !mine && self.lanes.contains_key(key) {
                    at += 1;
                    continue;
                }
                self.lanes.entry(key.clone()).or_default().running += 1;
                if !mine {
                    own.push(key.clone());
                }
            }
            batch.extend(self.ready.remove(at));
        }
    }
}
