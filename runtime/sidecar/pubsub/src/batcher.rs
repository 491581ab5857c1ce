//! Makes batches for brokers that deliver one message at a time (upstream `pkg/runtime/pubsub/default_bulksub.go`).
//!
//! There is no task: the first message of a batch waits for the others and then speaks for all.
//!
//! Upstream's broker in memory hands over a message only after the one before it, so what trickles in comes one by
//! one, each after the longest wait, and applications count on that. The first [`TRICKLE`] messages that wait here
//! hence each begin a batch; what comes on top fills the oldest of them, so that a flood still comes in full batches.

use std::{collections::VecDeque, sync::Arc};

use outrigger_pubsub::{BulkOptions, Delivery, Verdict};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::gate::Gate;

type Waiting = (Delivery, oneshot::Sender<Verdict>);

/// A batch that is being collected; its first message is with its own handler.
#[derive(Default)]
struct Collecting {
    others: Mutex<Vec<Waiting>>,
    full: Notify,
}

/// Batches of one subscription that are collected at a time.
const TRICKLE: usize = 8;

/// Collects messages of one subscription: its batches, the oldest first.
#[derive(Default)]
pub(crate) struct Batcher(Mutex<VecDeque<Arc<Collecting>>>);

impl std::fmt::Debug for Batcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Batcher")
    }
}

/// What to do with a message.
pub(crate) enum Turn {
    /// Hand this batch over; it starts with the message itself.
    Lead(Batch),
    /// The batch it went with has this for it.
    Settled(Verdict),
}

/// A batch that is complete.
pub(crate) struct Batch {
    pub(crate) deliveries: Vec<Delivery>,
    others: Vec<oneshot::Sender<Verdict>>,
}

impl Batch {
    /// Tells the others; answers the first one's verdict.
    pub(crate) fn settle(self, verdicts: Vec<Verdict>) -> Verdict {
        let mut verdicts = verdicts.into_iter();
        let first = verdicts.next().unwrap_or(Verdict::Release);
        for (other, verdict) in self.others.into_iter().zip(verdicts) {
            // A broker that no longer waits has its message back already.
            let _ = other.send(verdict);
        }
        first
    }
}

impl Batcher {
    /// Adds a message; returns when its batch is full, old enough or the subscription ends, or when another
    /// message has spoken for it.
    pub(crate) async fn join(&self, delivery: Delivery, options: BulkOptions, gate: &Gate) -> Turn {
        let collecting = Arc::new(Collecting::default());
        let follow = {
            let mut open = self.0.lock();
            if open.len() < TRICKLE {
                if options.max_messages > 1 {
                    open.push_back(Arc::clone(&collecting));
                }
                None
            } else {
                let (sender, verdict) = oneshot::channel();
                let is_full = {
                    let oldest = &open[0];
                    let mut others = oldest.others.lock();
                    others.push((delivery.clone(), sender));
                    others.len() + 1 >= options.max_messages
                };
                if is_full && let Some(oldest) = open.pop_front() {
                    oldest.full.notify_one();
                }
                Some(verdict)
            }
        };
        if let Some(verdict) = follow {
            // Without a word the first message was given up by its broker, and so are we.
            return Turn::Settled(verdict.await.unwrap_or(Verdict::Release));
        }
        let lead = Lead {
            batcher: self,
            collecting,
        };
        if options.max_messages > 1 {
            tokio::select! {
                () = tokio::time::sleep_until(Instant::now() + options.max_wait) => {}
                () = lead.collecting.full.notified() => {}
                () = gate.closing() => {}
            }
        }
        let others = lead.finish();
        let mut batch = Batch {
            deliveries: vec![delivery],
            others: Vec::with_capacity(others.len()),
        };
        for (delivery, sender) in others {
            batch.deliveries.push(delivery);
            batch.others.push(sender);
        }
        Turn::Lead(batch)
    }
}

/// Lets the next message be the first one, however this one ends.
struct Lead<'a> {
    batcher: &'a Batcher,
    collecting: Arc<Collecting>,
}

impl Lead<'_> {
    fn finish(&self) -> Vec<Waiting> {
        let mut open = self.batcher.0.lock();
        open.retain(|other| !Arc::ptr_eq(other, &self.collecting));
        drop(open);
        std::mem::take(&mut *self.collecting.others.lock())
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        drop(self.finish());
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    fn delivery(text: &'static str) -> Delivery {
        Delivery {
            topic: "t".into(),
            data: text.into(),
            content_type: None,
            metadata: Arc::default(),
            id: None,
        }
    }

    const OPTIONS: BulkOptions = BulkOptions {
        max_messages: 3,
        max_wait: Duration::from_secs(1),
    };

    /// Messages that each begin a batch and wait for others.
    async fn trickle(batcher: &Batcher, gate: &Gate, count: usize) -> Vec<usize> {
        let joined = (0..count).map(|_| async {
            match batcher.join(delivery("t"), OPTIONS, gate).await {
                Turn::Lead(batch) => batch.deliveries.len(),
                Turn::Settled(_) => 0,
            }
        });
        futures::future::join_all(joined).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_comes_one_by_one_after_the_wait() {
        let (batcher, gate) = (Batcher::default(), Gate::new(None));
        let start = Instant::now();
        assert_eq!(trickle(&batcher, &gate, 2).await, [1, 1]);
        assert_eq!(start.elapsed(), OPTIONS.max_wait);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_speaks_for_all() {
        let (batcher, gate) = (Batcher::default(), Gate::new(None));
        let start = Instant::now();
        let lead = async {
            let Turn::Lead(batch) = batcher.join(delivery("a"), OPTIONS, &gate).await else {
                panic!("first")
            };
            assert_eq!(batch.deliveries.len(), 3);
            assert_eq!(start.elapsed(), Duration::ZERO, "a full batch does not wait");
            batch.settle(vec![Verdict::Ack, Verdict::Release, Verdict::Ack])
        };
        let follow = |text| batcher.join(delivery(text), OPTIONS, &gate);
        let (first, others, second, third) = tokio::join!(
            lead,
            trickle(&batcher, &gate, TRICKLE - 1),
            follow("b"),
            follow("c")
        );
        assert!(matches!(first, Verdict::Ack));
        assert!(matches!(second, Turn::Settled(Verdict::Release)));
        assert!(matches!(third, Turn::Settled(Verdict::Ack)));
        assert_eq!(others, [1; TRICKLE - 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_message_that_is_given_up_releases_the_others() {
        let (batcher, gate) = (Batcher::default(), Gate::new(None));
        let lead = tokio::time::timeout(
            Duration::from_millis(10),
            batcher.join(delivery("a"), OPTIONS, &gate),
        );
        let (lead, _, other) = tokio::join!(
            lead,
            trickle(&batcher, &gate, TRICKLE - 1),
            batcher.join(delivery("b"), OPTIONS, &gate)
        );
        assert!(lead.is_err());
        assert!(matches!(other, Turn::Settled(Verdict::Release)));
    }
}
