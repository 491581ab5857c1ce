//! Subscriptions that are being opened, for publishers to wait for.
//!
//! A sidecar of Dapr counts a subscription as made when it has sent the topic, and goes on; brokers that keep nothing
//! for a queue that is not there yet would lose what it publishes next.

use std::{collections::HashMap, time::Duration};

use tokio::{sync::watch, time::Instant};

/// The longest that one opening holds publishers up.
const HOLD: Duration = Duration::from_secs(5);

/// The subscriptions of a server that are being opened. As many as there are streams.
#[derive(Debug)]
pub(super) struct Openings {
    all: watch::Sender<All>,
    hold: Duration,
}

#[derive(Debug, Default)]
struct All {
    next: u64,
    open: HashMap<u64, One>,
}

#[derive(Debug)]
struct One {
    instance: String,
    /// `None` until the stream has said it: any.
    topic: Option<String>,
    over: Instant,
}

/// An opening; over when it is dropped.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    openings: &'a Openings,
    id: u64,
}

impl Openings {
    pub(super) fn new() -> Self {
        Self {
            all: watch::Sender::new(All::default()),
            hold: HOLD,
        }
    }

    /// A stream of this instance has come.
    pub(super) fn begin(&self, instance: &str) -> Opening<'_> {
        let mut id = 0;
        self.all.send_modify(|all| {
            id = all.next;
            all.next += 1;
            let one = One {
                instance: instance.to_owned(),
                topic: None,
                over: Instant::now() + self.hold,
            };
            all.open.insert(id, one);
        });
        Opening { openings: self, id }
    }

    /// Returns when the openings of the topic that had begun before the call are over. Cancel-safe.
    pub(super) async fn wait(&self, instance: &str, topic: &str) {
        // Calls of one connection come in turn, but each runs as a task of its own: those that came before get theirs.
        tokio::task::yield_now().await;
        let mut all = self.all.subscribe();
        let (before, over): (Vec<u64>, Vec<Instant>) = all
            .borrow()
            .open
            .iter()
            .filter(|(_, one)| {
                one.instance == instance && one.topic.as_deref().is_none_or(|its| its == topic)
            })
            .map(|(id, one)| (*id, one.over))
            .unzip();
        let Some(over) = over.into_iter().max() else {
            return;
        };
        let is_of_others = |one: &One| one.topic.as_deref().is_some_and(|its| its != topic);
        let all_over = all.wait_for(|all| {
            let mut left = before.iter().filter_map(|id| all.open.get(id));
            left.all(is_of_others)
        });
        // Who cannot subscribe does not keep others from publishing.
        let _ = tokio::time::timeout_at(over, all_over).await;
    }
}

impl Opening<'_> {
    /// The stream has said its topic.
    pub(super) fn of(&self, topic: &str) {
        self.openings.all.send_modify(|all| {
            if let Some(one) = all.open.get_mut(&self.id) {
                one.topic = Some(topic.to_owned());
            }
        });
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.openings.all.send_modify(|all| {
            all.open.remove(&self.id);
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn publishers_wait_for_openings_of_their_topic_and_instance() {
        let openings = Openings::new();
        openings.wait("mine", "orders").await;
        let opening = openings.begin("mine");
        openings.wait("other", "orders").await;
        let mut waiting = Box::pin(openings.wait("mine", "orders"));
        // Twice: the first only yields.
        for _ in 0..2 {
            assert!((&mut waiting).now_or_never().is_none());
        }
        opening.of("orders");
        assert!((&mut waiting).now_or_never().is_none());
        openings.wait("mine", "news").await;
        // Later ones do not prolong it.
        let _later = openings.begin("mine");
        drop(opening);
        waiting.await;
    }

    #[tokio::test]
    async fn a_topic_that_turns_out_another_lets_publishers_go() {
        let openings = Openings::new();
        let opening = openings.begin("mine");
        let mut waiting = Box::pin(openings.wait("mine", "orders"));
        for _ in 0..2 {
            assert!((&mut waiting).now_or_never().is_none());
        }
        opening.of("news");
        waiting.await;
    }

    #[tokio::test]
    async fn an_opening_that_hangs_holds_publishers_only_for_a_while() {
        let hold = Duration::from_millis(50);
        let openings = Openings {
            hold,
            ..Openings::new()
        };
        let begun = Instant::now();
        let opening = openings.begin("mine");
        openings.wait("mine", "orders").await;
        assert!(begun.elapsed() >= hold);
        // Its time is over for the next one too.
        openings.wait("mine", "orders").await;
        drop(opening);
    }
}
