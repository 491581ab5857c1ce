//! What the manager publishes: workers' outputs, dead letters, and its own events (H7, F8).

use std::sync::Arc;

use outrigger_kit::{Event, RetryPolicy};
use outrigger_platform_service::backend::{Backend, BackendError};
use serde_json::{Value, json};

use crate::lock::Output;
use crate::names::{
    GROUP_LOCK_TOPIC, HEARTBEAT_TOPIC, LIFECYCLE_TOPIC, SOURCE, Transition, dead_letter_topic,
};
use crate::record::WorkerRecord;

/// Publishes. Clones are the same outlet.
#[derive(Debug, Clone)]
pub struct Outlet {
    backend: Backend,
    instance: Arc<str>,
    retries: RetryPolicy,
}

/// Who an event of the manager is about.
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl Outlet {
    /// The outlet of an instance. `retries` are for what a broker refuses for the moment.
    pub fn new(backend: Backend, instance: &str, retries: RetryPolicy) -> Self {
        Self {
            backend,
            instance: instance.into(),
            retries,
        }
    }

    /// Publishes an output. One that the broker will not take for its topic goes to that topic's dead letters.
    ///
    /// # Errors
    /// What the broker said last; the output may have been published all the same.
    pub async fn publish(&self, output: &Output) -> Result<(), BackendError> {
        let event = output.read()?;
        match self.insist(&output.topic, &event).await {
            Err(BackendError::Refused(why)) => {
                let dead = dead_letter_topic(&output.topic);
                tracing::error!(
                    topic = output.topic,
                    why,
                    "an output is refused; it becomes a dead letter"
                );
                self.insist(&dead, &event).await
            }
            outcome => outcome,
        }
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

    /// Tells that an event of a worker was given up, or that this instance cannot run it.
    pub async fn failed(&self, subject: &Subject, error_type: &str, error_message: &str) {
        let facts = json!({"error_type": error_type, "error_message": error_message});
        self.tell(Transition::Failed, subject, facts).await;
    }

    async fn tell(&self, transition: Transition, subject: &Subject, mut data: Value) {
        data["worker_id"] = Value::from(subject.id.as_str());
        data["group"] = Value::from(subject.group.as_deref());
        data["topic"] = Value::from(subject.topic.as_str());
        data["instance_id"] = Value::from(&*self.instance);
        let event = Event::new(transition.event_type(), SOURCE, data).about(format!("worker/{}", subject.id));
        self.own(LIFECYCLE_TOPIC, &event).await;
    }

    /// Tells that a worker runs.
    pub async fn heartbeat(&self, subject: &Subject) {
        let data = json!({"worker_id": subject.id, "instance_id": &*self.instance});
        let event = Event::new(format!("com.virtufin.{HEARTBEAT_TOPIC}"), SOURCE, data)
            .about(format!("worker/{}", subject.id));
        self.own(HEARTBEAT_TOPIC, &event).await;
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
