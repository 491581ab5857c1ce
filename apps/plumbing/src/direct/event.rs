//! Events as CloudEvents, with the trace that they belong to.

use outrigger_todo::model::{Happening, TaskChange};
use serde::{Deserialize, Serialize};

use super::telemetry;

/// A task event on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    specversion: String,
    /// By which a repeat is told.
    pub id: String,
    source: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: Happening,
    subject: String,
    datacontenttype: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// To which task.
    pub data: TaskChange,
}

impl Event {
    /// A new event of the trace under way.
    pub fn new(kind: Happening, data: TaskChange) -> Self {
        Self {
            specversion: "1.0".to_owned(),
            id: uuid::Uuid::new_v4().to_string(),
            source: crate::app_id::TASKS.to_owned(),
            kind,
            subject: data.user.clone(),
            datacontenttype: "application/json".to_owned(),
            traceparent: telemetry::traceparent(),
            data,
        }
    }

    /// A span for handling it, of the trace that it was made in.
    pub fn span(&self) -> tracing::Span {
        let span = tracing::info_span!("event", otel.kind = "consumer", id = self.id);
        telemetry::follow(&span, self.traceparent.as_deref());
        span
    }
}
