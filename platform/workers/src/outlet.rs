//! What the manager publishes: workers' outputs, dead letters, and its own events (H7, F8).

use std::sync::Arc;

use outrigger_kit::{Event, RetryPolicy};
use outrigger_platform_service::backend::{Backend, BackendError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::lock::Output;
use crate::names::{GROUP_LOCK_TOPIC, HEARTBEAT_TOPIC, LIFECYCLE_TOPIC, SOURCE, Transition};
use crate::record::WorkerRecord;

/// Publishes. Clones are the same outlet.
#[derive(Debug, Clone)]
pub struct Outlet {
    backend: Backend,
    instance: Arc<str>,
    retries: RetryPolicy,
}

/// Who an event of the manager is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The worker.
    pub id: String,
    /// Its group.
    pub group: Option<String>,
    /// What it reads.
    pub topic: String,
}

impl From<&WorkerRecord> for Subject {
    fn from(worker: &WorkerRecord) -> Self {
        Self {
            id: worker.id.clone(),
            group: worker.group.clone(),
            topic: worker.topic.clone(),
        }
    }
}

/// What became of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reception {
    /// The broker has it.
    Taken,
    /// Neither this nor anything else is taken for now. It may have been taken all the same.
    Away,
    /// It is not taken, for now or for ever, while others are: the broker's word.
    Stuck(String),
    /// It is never taken: the topic is not the manager's to write, the event is not what it should be.
    Refused(String),
}

/// Whether a worker reads what is told of workers.
fn watches(subject: &Subject) -> bool {
    subject.topic == LIFECYCLE_TOPIC
}

impl Outlet {
    /// The outlet of an instance. `retries` are for what a broker refuses for the moment.
    pub fn new(backend: Backend, instance: &str, retries: RetryPolicy) -> Self {
        Self {
            backend,
            instance: instance.into(),
            retries,
        }
    }

    /// Publishes an output.
    pub async fn publish(&self, output: &Output) -> Reception {
        let published = match output.read() {
            Ok(event) => self.insist(&output.topic, &event).await,
            Err(error) => Err(error),
        };
        match published {
            Ok(()) => Reception::Taken,
            Err(error) if error.is_transient() => self.look_around(output, error.to_string()).await,
            Err(error) => Reception::Refused(error.to_string()),
        }
    }

    /// Publishes a dead letter. There is nothing to be published in its place, so it is never
    /// [`Refused`](Reception::Refused).
    pub async fn publish_letter(&self, letter: &Output) -> Reception {
        match self.publish(letter).await {
            Reception::Refused(why) => self.look_around(letter, why).await,
            reception => reception,
        }
    }

    /// Whether other events are taken while this one is not. A broker that is away says the same words as one that does
    /// not want this event, so the one that tells of it goes out to see.
    async fn look_around(&self, output: &Output, why: String) -> Reception {
        tracing::warn!(
            worker = output.subject.id,
            topic = output.topic,
            why,
            "an event was not published; it is tried again"
        );
        let (topic, event) = if watches(&output.subject) {
            (HEARTBEAT_TOPIC, self.alive(&output.subject))
        } else {
            let facts = json!({
                "error_type": "not-published",
                "error_message": format!("topic {:?}: {why}", output.topic),
            });
            (
                LIFECYCLE_TOPIC,
                self.about(Transition::Failed, &output.subject, facts),
            )
        };
        match self.backend.publish(topic, &event).await {
            Ok(()) => Reception::Stuck(why),
            Err(_) => Reception::Away,
        }
    }

    /// Logs and tells that an output was not taken, and will not be tried again.
    pub async fn not_taken(&self, subject: &Subject, error_type: &str, why: &str) {
        tracing::error!(
            worker = subject.id,
            topic = subject.topic,
            why,
            "an output is given up: {error_type}"
        );
        self.failed(subject, error_type, why).await;
    }

    async fn insist(&self, topic: &str, event: &Event<Value>) -> Result<(), BackendError> {
        let mut attempt = 0;
        loop {
            let outcome = self.backend.publish(topic, event).await;
            match (outcome, self.retries.delay(attempt)) {
                (Err(error), Some(delay)) if error.is_transient() => {
                    tracing::warn!(topic, %error, "an event cannot be published; trying again");
                    tokio::time::sleep(delay).await;
                    attempt += 1;
                }
                (outcome, _) => return outcome,
            }
        }
    }

    /// Tells what happened to a worker (H7). A broker that is away holds nobody up: it is logged.
    pub async fn lifecycle(&self, transition: Transition, subject: &Subject) {
        self.tell(transition, subject, json!({})).await;
    }

    /// Tells that an event of a worker was given up, or that this instance cannot run it. Of a worker that reads these
    /// very events that is only logged, by the caller: else each of its failures would bring it the next one.
    pub async fn failed(&self, subject: &Subject, error_type: &str, error_message: &str) {
        if watches(subject) {
            return;
        }
        let facts = json!({"error_type": error_type, "error_message": error_message});
        self.tell(Transition::Failed, subject, facts).await;
    }

    async fn tell(&self, transition: Transition, subject: &Subject, data: Value) {
        self.own(LIFECYCLE_TOPIC, &self.about(transition, subject, data))
            .await;
    }

    fn about(&self, transition: Transition, subject: &Subject, mut data: Value) -> Event<Value> {
        data["worker_id"] = Value::from(subject.id.as_str());
        data["group"] = Value::from(subject.group.as_deref());
        data["topic"] = Value::from(subject.topic.as_str());
        data["instance_id"] = Value::from(&*self.instance);
        Event::new(transition.event_type(), SOURCE, data).about(format!("worker/{}", subject.id))
    }

    /// Tells that a worker runs.
    pub async fn heartbeat(&self, subject: &Subject) {
        self.own(HEARTBEAT_TOPIC, &self.alive(subject)).await;
    }

    fn alive(&self, subject: &Subject) -> Event<Value> {
        let data = json!({"worker_id": subject.id, "instance_id": &*self.instance});
        Event::new(format!("com.virtufin.{HEARTBEAT_TOPIC}"), SOURCE, data)
            .about(format!("worker/{}", subject.id))
    }

    /// Tells of a turn that was taken from a silent holder, or of an output that came too late.
    pub async fn group_lock(&self, group: &str, what: &str, token: u64, holder: &str) {
        let data = json!({
            "group": group,
            "event": what,
            "fencing_token": token,
            "holder": holder,
            "instance_id": &*self.instance,
        });
        let event = Event::new(format!("com.virtufin.{GROUP_LOCK_TOPIC}"), SOURCE, data)
            .about(format!("group/{group}"));
        self.own(GROUP_LOCK_TOPIC, &event).await;
    }

    async fn own(&self, topic: &str, event: &Event<Value>) {
        if let Err(error) = self.insist(topic, event).await {
            tracing::warn!(topic, kind = event.kind, %error, "an event of the manager was not published");
        }
    }
}
