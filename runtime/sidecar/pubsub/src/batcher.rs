//! Makes batches for brokers that deliver one message at a time (upstream `pkg/runtime/pubsub/default_bulksub.go`).
//!
//! There is no task: the first message of a batch waits for the others and then speaks for all.

use std::sync::Arc;

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

/// Collects messages of one subscription.
#[derive(Default)]
pub(crate) struct Batcher(Mutex<Option<Arc<Collecting>>>);

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
        let follow = {
            let mut current = self.0.lock();
            current.clone().map(|collecting| {
                let (sender, verdict) = oneshot::channel();
                let mut others = collecting.others.lock();
                others.push((delivery.clone(), sender));
                if others.len() + 1 >= options.max_messages {
                    *current = None;
                    collecting.full.notify_one();
                }
                verdict
            })
        };
        if let Some(verdict) = follow {
            // Without a word the first message was given up by its broker, and so are we.
            return Turn::Settled(verdict.await.unwrap_or(Verdict::Release));
        }
        let collecting = Arc::new(Collecting::default());
        if options.max_messages > 1 {
            // Two first messages at a time are two batches.
            *self.0.lock() = Some(Arc::clone(&collecting));
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
        let mut current = self.batcher.0.lock();
        if current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, &self.collecting))
        {
            *current = None;
        }
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

    #[tokio::test(start_paused = true)]
    async fn the_first_speaks_for_all() {
        let (batcher, gate) = (Batcher::default(), Gate::new(None));
        let start = Instant::now();
        let lead = async {
            let Turn::Lead(batch) = batcher.join(delivery("a"), OPTIONS, &gate).await else {
                panic!("first")
            };
            assert_eq!(batch.deliveries.len(), 3);
            batch.settle(vec![Verdict::Ack, Verdict::Release, Verdict::Ack])
        };
        let follow = |text| batcher.join(delivery(text), OPTIONS, &gate);
        let (first, second, third) = tokio::join!(lead, follow("b"), follow("c"));
        assert!(matches!(first, Verdict::Ack));
        assert!(matches!(second, Turn::Settled(Verdict::Release)));
        assert!(matches!(third, Turn::Settled(Verdict::Ack)));
        assert_eq!(start.elapsed(), Duration::ZERO, "a full batch does not wait");
        let Turn::Lead(batch) = batcher.join(delivery("d"), OPTIONS, &gate).await else {
            panic!("first")
        };
        assert_eq!(
            (batch.deliveries.len(), start.elapsed()),
            (1, Duration::from_secs(1))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_message_that_is_given_up_releases_the_others() {
        let (batcher, gate) = (Batcher::default(), Gate::new(None));
        let lead = tokio::time::timeout(
            Duration::from_millis(10),
            batcher.join(delivery("a"), OPTIONS, &gate),
        );
        let (lead, other) = tokio::join!(lead, batcher.join(delivery("b"), OPTIONS, &gate));
        assert!(lead.is_err());
        assert!(matches!(other, Turn::Settled(Verdict::Release)));
    }
}
