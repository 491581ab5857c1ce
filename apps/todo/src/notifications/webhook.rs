//! What is told to the outside: a webhook hears of tasks that were done and of reminders (N4).
//!
//! The outside may be slow or away, and must not hold up anybody's feed: what it is to hear becomes an event of
//! its own topic, which is offered again until the output binding has taken it. Without a binding of this name
//! nothing is told.

use std::collections::BTreeMap;

use outrigger_kit::client::Publication;
use outrigger_kit::{Ack, Error, Event};
use serde_json::json;

use crate::OUTSIDE_TOPIC;
use crate::instance::Instance;
use crate::model::{Happening, TaskChange};

/// The output binding.
pub(super) const BINDING: &str = "webhook";

/// Whether the sidecar has the binding.
pub(super) async fn is_there(instance: &Instance) -> Result<bool, Error> {
    let metadata = instance.client.metadata().await?;
    Ok(metadata
        .components
        .iter()
        .any(|component| component.name == BINDING && component.kind.starts_with("bindings.")))
}

/// Passes an event on to the topic of the outside, under the same id, if it is one that the outside hears of.
pub(super) async fn pass_on(
    instance: &Instance,
    event: &Event<TaskChange>,
    kind: Happening,
) -> Result<(), Error> {
    if !matches!(kind, Happening::Completed | Happening::Reminded) {
        return Ok(());
    }
    let mut told = Event::new(kind.name(), instance.app, json!(event.data)).about(event.data.user.clone());
    told.id.clone_from(&event.id);
    instance
        .client
        .publish(&instance.pubsub, OUTSIDE_TOPIC, Publication::event(&told))
        .await
}

/// Calls the webhook. Whoever listens tells a repeat by the event's id.
pub(super) async fn call(instance: &Instance, event: Event<TaskChange>) -> Ack {
    let told = json!({
        "id": event.id,
        "type": event.kind,
        "user": event.data.user,
        "task": event.data.task,
        "at": event.data.at,
    });
    let metadata = BTreeMap::from([("Content-Type".to_owned(), "application/json".to_owned())]);
    instance
        .client
        .invoke_binding(BINDING, "post", &told, &metadata)
        .await
        .map(drop)
        .into()
}
