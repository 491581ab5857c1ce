//! Topics in memory: every subscribing app gets each event, its instances compete, refused events come again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;

/// The wait before another delivery.
const REDELIVERY: Duration = Duration::from_millis(50);
/// Events that wait for one app on one topic.
const BACKLOG: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Broker {
    topics: Mutex<BTreeMap<String, Topic>>,
    down: AtomicBool,
    /// Topics that take nothing, and what is answered.
    refused: Mutex<BTreeMap<String, StatusCode>>,
}

#[derive(Debug, Default)]
struct Topic {
    published: Vec<Value>,
    groups: BTreeMap<String, Group>,
}

#[derive(Debug)]
struct Group {
    sender: mpsc::Sender<Value>,
    /// Shared by the instances, which take turns.
    receiver: std::sync::Arc<tokio::sync::Mutex<mpsc::Receiver<Value>>>,
}

impl Broker {
    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    pub(super) fn set_refused(&self, topic: &str, answer: Option<StatusCode>) {
        let mut refused = self.refused.lock();
        match answer {
            Some(status) => refused.insert(topic.to_owned(), status),
            None => refused.remove(topic),
        };
    }

    pub(super) fn published(&self, topic: &str) -> Vec<Value> {
        self.topics
            .lock()
            .get(topic)
            .map(|topic| topic.published.clone())
            .unwrap_or_default()
    }

    pub(super) fn published_count(&self, topic: &str) -> usize {
        self.topics
            .lock()
            .get(topic)
            .map_or(0, |topic| topic.published.len())
    }

    /// Keeps an event for every group.
    ///
    /// # Errors
    /// What the sidecar answers: the topic's refusal, or 500 if the broker is down or a backlog is full.
    pub(super) fn publish(&self, topic: &str, event: &Value) -> Result<(), StatusCode> {
        const FAILED: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
        if self.down.load(Ordering::Relaxed) {
            return Err(FAILED);
        }
        if let Some(status) = self.refused.lock().get(topic) {
            return Err(*status);
        }
        let mut topics = self.topics.lock();
        let topic = topics.entry(topic.to_owned()).or_default();
        topic.published.push(event.clone());
        let kept = topic
            .groups
            .values()
            .all(|group| group.sender.try_send(event.clone()).is_ok());
        kept.then_some(()).ok_or(FAILED)
    }

    /// Delivers to one instance of a group until it is dropped. `deliver` says whether the event is done with.
    pub(super) async fn subscribe<F, Fut>(&self, topic: &str, group: &str, deliver: F)
    where
        F: Fn(Value) -> Fut,
        Fut: Future<Output = bool>,
    {
        let receiver = {
            let mut topics = self.topics.lock();
            let topic = topics.entry(topic.to_owned()).or_default();
            let Topic { published, groups } = topic;
            let group = groups.entry(group.to_owned()).or_insert_with(|| {
                let (sender, receiver) = mpsc::channel(BACKLOG);
                // A new group also gets what was published before it came, so that tests need not wait for it.
                for event in published.iter() {
                    let _ = sender.try_send(event.clone());
                }
                Group {
                    sender,
                    receiver: std::sync::Arc::new(tokio::sync::Mutex::new(receiver)),
                }
            });
            group.receiver.clone()
        };
        loop {
            let mut turn = receiver.lock().await;
            let Some(event) = turn.recv().await else { return };
            let mut waiting = Unacknowledged {
                event: Some(event),
                broker: self,
                topic,
                group,
            };
            drop(turn);
            while let Some(event) = &waiting.event {
                if deliver(event.clone()).await {
                    waiting.event = None;
                } else {
                    tokio::time::sleep(REDELIVERY).await;
                }
            }
        }
    }
}

/// Gives an event back if the instance goes away before it is done with.
struct Unacknowledged<'a> {
    event: Option<Value>,
    broker: &'a Broker,
    topic: &'a str,
    group: &'a str,
}

impl Drop for Unacknowledged<'_> {
    fn drop(&mut self) {
        let Some(event) = self.event.take() else { return };
        let topics = self.broker.topics.lock();
        if let Some(group) = topics
            .get(self.topic)
            .and_then(|topic| topic.groups.get(self.group))
        {
            let _ = group.sender.try_send(event);
        }
    }
}
