//! One subscription per topic, whatever number of workers read it.
//!
//! All instances of the manager are one consumer group (Dapr: the app id), so each event comes to one of them, and
//! that one gives it to every running worker of the topic. It is acknowledged when all of them are done with it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use outrigger_kit::{Ack, Event};
use outrigger_platform_service::backend::{Backend, Deliveries, Delivery};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::runner::{Runner, Verdict};

/// Events of one topic that are under way at once.
const IN_FLIGHT: usize = 256;
/// Events that were not done with and are remembered, so that the workers that were need not see them again.
const REMEMBERED: usize = 1024;
/// The wait before a refused subscription is asked for again: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long [`Hub::add`] waits for a subscription to stand.
const SUBSCRIBED: Duration = Duration::from_secs(10);

/// The topics that this instance reads.
#[derive(Debug)]
pub struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    backend: Backend,
    max_redeliveries: u32,
    topics: Mutex<BTreeMap<String, Arc<Topic>>>,
    /// Cancelled when no more events are to be taken.
    stop: CancellationToken,
    readers: TaskTracker,
}

#[derive(Debug)]
struct Topic {
    name: String,
    runners: Mutex<BTreeMap<String, Arc<Runner>>>,
    changed: Notify,
    subscribed: watch::Sender<bool>,
    unfinished: Mutex<Unfinished>,
}

/// What is known of events that will come again.
#[derive(Debug, Default)]
struct Unfinished {
    events: HashMap<String, Progress>,
    /// Oldest first.
    order: VecDeque<String>,
}

#[derive(Debug, Default, Clone)]
struct Progress {
    /// Workers that are done with it.
    done: BTreeSet<String>,
    /// How often it came.
    deliveries: u32,
    /// Workers whose output was not taken while others' were, and how often.
    stuck: HashMap<String, u32>,
}

impl Unfinished {
    fn take(&mut self, event: &str) -> Progress {
        let progress = self.events.remove(event).unwrap_or_default();
        if progress.deliveries > 0 {
            self.order.retain(|known| known != event);
        }
        progress
    }

    fn put(&mut self, event: String, progress: Progress) {
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.events.remove(&oldest);
        }
        self.order.push_back(event.clone());
        self.events.insert(event, progress);
    }
}

impl Hub {
    /// Reads nothing yet. An event that found no turn of its group is given up after `max_redeliveries`.
    pub fn new(backend: Backend, max_redeliveries: u32) -> Self {
        Self {
            shared: Arc::new(Shared {
                backend,
                max_redeliveries,
                topics: Mutex::default(),
                stop: CancellationToken::new(),
                readers: TaskTracker::new(),
            }),
        }
    }

    /// Gives a worker the events of its topic. Waits, for a while, until the subscription stands; then it is asked
    /// for in the background, for as long as it takes.
    pub async fn add(&self, runner: Arc<Runner>) {
        let name = runner.subject().topic.clone();
        let topic = {
            let mut topics = self.shared.topics.lock();
            let topic = topics.entry(name.clone()).or_insert_with(|| {
                let topic = Arc::new(Topic {
                    name,
                    runners: Mutex::default(),
                    changed: Notify::new(),
                    subscribed: watch::Sender::new(false),
                    unfinished: Mutex::default(),
                });
                let reader = read(self.shared.clone(), topic.clone());
                self.shared.readers.spawn(reader);
                topic
            });
            // Under the lock of the topics, as a topic without workers is let go under it.
            topic.runners.lock().insert(runner.subject().id.clone(), runner);
            topic.clone()
        };
        topic.changed.notify_one();
        let mut subscribed = topic.subscribed.subscribe();
        if tokio::time::timeout(SUBSCRIBED, subscribed.wait_for(|yes| *yes))
            .await
            .is_err()
        {
            tracing::warn!(
                topic = topic.name,
                "the subscription does not stand yet; it is still asked for"
            );
        }
    }

    /// Gives a worker no further events; those under way go on.
    pub fn remove(&self, topic: &str, worker: &str) -> Option<Arc<Runner>> {
        let topic = self.shared.topics.lock().get(topic)?.clone();
        let removed = topic.runners.lock().remove(worker);
        topic.changed.notify_one();
        removed
    }

    /// Takes no further events, waits for those under way, and ends all subscriptions.
    pub async fn close(&self) {
        self.shared.stop.cancel();
        self.shared.readers.close();
        self.shared.readers.wait().await;
    }
}

/// Reads a topic as long as it has workers.
async fn read(shared: Arc<Shared>, topic: Arc<Topic>) {
    let limit = Arc::new(Semaphore::new(IN_FLIGHT));
    let under_way = TaskTracker::new();
    let mut deliveries: Option<Deliveries> = None;
    let mut pause = PAUSE.0;
    loop {
        if shared.stop.is_cancelled() || topic.runners.lock().is_empty() {
            // What is under way is settled on the subscription it came by, so that one goes last.
            let all = limit.acquire_many(IN_FLIGHT as u32).await;
            drop(all);
            let mut topics = shared.topics.lock();
            // A worker may have come meanwhile; then the subscription is as good as new.
            if shared.stop.is_cancelled() || topic.runners.lock().is_empty() {
                topics.remove(&topic.name);
                return;
            }
            continue;
        }
        let Some(open) = &mut deliveries else {
            let opened = tokio::select! {
                opened = shared.backend.subscribe(&topic.name) => opened,
                () = shared.stop.cancelled() => continue,
            };
            match opened {
                Ok(open) => {
                    deliveries = Some(open);
                    pause = PAUSE.0;
                    topic.subscribed.send_replace(true);
                }
                Err(error) => {
                    tracing::warn!(topic = topic.name, %error, "the topic cannot be read; trying again");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = shared.stop.cancelled() => {}
                        () = topic.changed.notified() => {}
                    }
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
            continue;
        };
        let permit = tokio::select! {
            permit = limit.clone().acquire_owned() => permit,
            () = shared.stop.cancelled() => continue,
        };
        let delivery = tokio::select! {
            delivery = open.next() => delivery,
            () = shared.stop.cancelled() => continue,
            () = topic.changed.notified() => continue,
        };
        let Some(delivery) = delivery else {
            deliveries = None;
            continue;
        };
        let (shared, topic) = (shared.clone(), topic.clone());
        under_way.spawn(async move {
            deliver(&shared, &topic, delivery).await;
            drop(permit);
        });
    }
}

async fn deliver(shared: &Shared, topic: &Topic, delivery: Delivery) {
    loop {
        let done = settle(shared, topic, &delivery.event).await;
        if done {
            delivery.settle(Ack::Success);
            return;
        }
        if delivery.comes_again() {
            delivery.settle(Ack::Retry);
            return;
        }
        if topic.runners.lock().is_empty() {
            tracing::warn!(
                topic = topic.name,
                event = delivery.event.id,
                "the last worker of the topic was stopped before the event began; it is lost"
            );
            return;
        }
        // Who delivers knows no verdicts: the event is held here until it is done with.
        tokio::select! {
            () = tokio::time::sleep(PAUSE.1 / 10) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

/// Gives an event to all workers that are not done with it; whether it needs not come again.
async fn settle(shared: &Shared, topic: &Topic, event: &Event<Value>) -> bool {
    let name = format!("{}\n{}", event.source, event.id);
    let mut progress = topic.unfinished.lock().take(&name);
    progress.deliveries += 1;
    let runners: Vec<_> = topic
        .runners
        .lock()
        .values()
        .filter(|runner| !progress.done.contains(&runner.subject().id))
        .cloned()
        .collect();
    if runners.is_empty() && progress.done.is_empty() {
        // All were stopped a moment ago, here; elsewhere they may still run.
        return false;
    }
    let known = &progress;
    let verdicts = join_all(
        runners
            .iter()
            .map(|runner| see_through(runner, event, known, shared.max_redeliveries)),
    )
    .await;
    for (runner, verdict) in runners.iter().zip(&verdicts) {
        let worker = runner.subject().id.clone();
        match verdict {
            Verdict::Done => drop(progress.done.insert(worker)),
            Verdict::Stuck(_) => *progress.stuck.entry(worker).or_default() += 1,
            Verdict::Contended | Verdict::Again => {}
        }
    }
    let done = verdicts.iter().all(|verdict| *verdict == Verdict::Done);
    if !done {
        topic.unfinished.lock().put(name, progress);
    }
    done
}

/// Gives an event to one worker, and up where the redeliveries are spent (H4.3): as a dead letter, and where that is not
/// taken in as many deliveries again, without one.
async fn see_through(
    runner: &Runner,
    event: &Event<Value>,
    progress: &Progress,
    max_redeliveries: u32,
) -> Verdict {
    let before = progress.stuck.get(&runner.subject().id).copied().unwrap_or(0);
    let stuck = before.saturating_add(1);
    let enough = max_redeliveries.saturating_add(1);
    let verdict = match runner.process(event).await {
        Verdict::Contended if progress.deliveries > max_redeliveries => {
            let reason = "the group had no turn for it";
            runner
                .give_up(event, "redeliveries-spent", reason, progress.deliveries)
                .await
        }
        Verdict::Stuck(why) if stuck >= enough => {
            let reason = format!("its output was not published: {why}");
            runner.give_up(event, "redeliveries-spent", &reason, stuck).await
        }
        verdict => verdict,
    };
    match verdict {
        Verdict::Stuck(why) if stuck >= enough.saturating_mul(2) => {
            runner.abandon(event, &why).await;
            Verdict::Done
        }
        verdict => verdict,
    }
}
