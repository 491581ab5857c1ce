//! What every message to a broker goes through: scopes, namespace, policy (upstream
//! `pkg/runtime/pubsub/publisher`).

use std::{collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;
use outrigger_component::{Error, ErrorKind, Metadata, Retry};
use outrigger_pubsub::{EntryId, Outgoing, OutgoingEntry};
use outrigger_sidecar_api::{ApiError, errors};
use outrigger_sidecar_resilience::{Code, ComponentKind, Policy, Retry as Judgement, Retryable, RunError};
use outrigger_telemetry::{
    audit::{AuditActor, AuditDecision, AuditRecord},
    trace::SpanContext,
};
use parking_lot::Mutex;

use crate::{
    PubsubOptions,
    component::{Broker, ComponentTable},
};

/// Whose status codes policies match a broker's failure against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface {
    Http,
    /// Also what the sidecar itself publishes: dead letters and the outbox.
    Grpc,
}

/// A broker's failure as policies see it.
#[derive(Debug)]
pub(crate) struct BrokerError {
    error: Error,
    surface: Surface,
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error.chain())
    }
}

impl Retryable for BrokerError {
    fn verdict(&self) -> Judgement {
        match (self.error.kind(), self.error.retry()) {
            (ErrorKind::Status(code @ 0..=16), _) if self.surface == Surface::Http => {
                Judgement::Code(Code::Http(http_status(code)))
            }
            (ErrorKind::Status(code @ 0..=16), _) => Judgement::Code(Code::Grpc(code)),
            (ErrorKind::Status(code), _) => {
                u16::try_from(code).map_or(Judgement::Transient, |code| Judgement::Code(Code::Http(code)))
            }
            (_, Retry::Transient) => Judgement::Transient,
            (_, Retry::Permanent) => Judgement::Permanent,
        }
    }
}

/// The HTTP status of a gRPC code, as gRPC gateways map it.
fn http_status(code: i32) -> u16 {
    match code {
        0 => 200,
        1 => 408,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The component vanished.
    #[error("pubsub '{0}' not found")]
    NotFound(String),
    /// The scopes deny the topic.
    #[error("topic {topic} is not allowed for app id {app_id}")]
    NotAllowed { topic: String, app_id: String },
    /// The broker, or the policy around it.
    #[error("{0}")]
    Failed(String),
}

impl PublishError {
    /// The row of the API's error table.
    pub(crate) fn into_api(self, pubsub: &str, topic: &str, app_id: &str) -> ApiError {
        match &self {
            Self::NotFound(_) => errors::pubsub::vanished(pubsub, topic, &self),
            Self::NotAllowed { .. } => errors::pubsub::publish_forbidden(pubsub, topic, app_id, &self),
            Self::Failed(_) => errors::pubsub::publish_message(pubsub, topic, &self),
        }
    }
}

/// An entry that was not published.
#[derive(Debug)]
pub(crate) struct FailedEntry {
    pub(crate) id: EntryId,
    pub(crate) error: String,
}

/// Publishes to brokers.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) options: PubsubOptions,
    pub(crate) table: Arc<ComponentTable>,
}

impl Publisher {
    pub(crate) fn new(options: PubsubOptions, table: Arc<ComponentTable>) -> Self {
        Self { options, table }
    }

    fn policy(&self, pubsub: &str) -> Policy {
        self.options
            .resilience
            .load()
            .component_outbound(pubsub, ComponentKind::Pubsub)
    }

    fn check(&self, broker: &Broker, topic: &str) -> Result<(), PublishError> {
        if broker.scopes.may_publish(topic) {
            return Ok(());
        }
        if self.options.audit.is_enabled() {
            self.options.audit.record(&AuditRecord {
                actor: AuditActor::App,
                action: "publish",
                target: &format!("{}/{topic}", broker.name()),
                decision: AuditDecision::Denied,
                policy: "publishingScopes",
                trace: &SpanContext::default(),
            });
        }
        Err(PublishError::NotAllowed {
            topic: topic.to_owned(),
            app_id: self.options.app_id.to_string(),
        })
    }

    /// As [`Publisher::publish_to`], by name.
    pub(crate) async fn publish(
        &self,
        pubsub: &str,
        topic: &str,
        data: Bytes,
        content_type: Option<String>,
        metadata: Metadata,
    ) -> Result<(), PublishError> {
        let broker = self
            .table
            .get(pubsub)
            .await
            .map_err(|_| PublishError::NotFound(pubsub.to_owned()))?;
        self.publish_to(&broker, topic, data, content_type, metadata, Surface::Grpc)
            .await
    }

    /// Publishes one message to a topic without namespace.
    pub(crate) async fn publish_to(
        &self,
        broker: &Broker,
        topic: &str,
        data: Bytes,
        content_type: Option<String>,
        metadata: Metadata,
        surface: Surface,
    ) -> Result<(), PublishError> {
        self.check(broker, topic)?;
        let message = Outgoing {
            topic: broker.topic(topic),
            data,
            content_type,
            metadata,
        };
        let policy = self.policy(broker.name());
        if policy.is_none() {
            let answer = broker.instance().publish(message).await;
            return answer.map_err(|error| PublishError::Failed(error.chain()));
        }
        let message = &message;
        policy
            .run(|_| async move {
                broker
                    .instance()
                    .publish(message.clone())
                    .await
                    .map_err(|error| BrokerError { error, surface })
            })
            .await
            .map_err(|error: RunError<BrokerError>| PublishError::Failed(error.to_string()))
    }

    /// Publishes many messages; answers those that failed. A policy's retries send only what failed before.
    pub(crate) async fn publish_bulk_to(
        &self,
        broker: &Broker,
        topic: &str,
        entries: Vec<OutgoingEntry>,
        metadata: &Metadata,
        surface: Surface,
    ) -> Result<Vec<FailedEntry>, PublishError> {
        self.check(broker, topic)?;
        let topic = broker.topic(topic);
        let policy = self.policy(broker.name());
        if policy.is_none() {
            let failures = broker.instance().publish_bulk(&topic, entries, metadata).await;
            return Ok(failures
                .into_iter()
                .map(|failure| FailedEntry {
                    id: failure.id,
                    error: failure.error.chain(),
                })
                .collect());
        }
        // What the next attempt sends, and why it was not published before.
        let open = Mutex::new((entries, HashMap::<EntryId, String>::new()));
        let (topic, open) = (&topic, &open);
        let outcome = policy
            .run(|_| async move {
                let entries = open.lock().0.clone();
                let failures = broker.instance().publish_bulk(topic, entries, metadata).await;
                let mut first = None;
                let mut reasons = HashMap::with_capacity(failures.len());
                for failure in failures {
                    reasons.insert(failure.id, failure.error.chain());
                    first.get_or_insert(failure.error);
                }
                let mut state = open.lock();
                state.0.retain(|entry| reasons.contains_key(&entry.id));
                state.1 = reasons;
                first.map_or(Ok(()), |error| Err(BrokerError { error, surface }))
            })
            .await;
        let Err(error) = outcome else {
            return Ok(Vec::new());
        };
        let (left, mut reasons) = std::mem::take(&mut *open.lock());
        let policy_text = matches!(
            error,
            RunError::Timeout | RunError::BreakerOpen | RunError::TooManyRequests
        )
        .then(|| error.to_string());
        Ok(left
            .into_iter()
            .map(|entry| {
                let reason = reasons.remove(&entry.id);
                let error = policy_text
                    .clone()
                    .or(reason)
                    .unwrap_or_else(|| error.to_string());
                FailedEntry { id: entry.id, error }
            })
            .collect())
    }
}
