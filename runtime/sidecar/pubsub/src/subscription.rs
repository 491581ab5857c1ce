//! What a subscription asks for, wherever it was declared, and one that runs.

use std::{sync::Arc, time::Duration};

use http::uri::PathAndQuery;
use outrigger_component::{Error, Metadata};
use outrigger_engine_dispatch::{MetadataError, is_raw_payload};
use outrigger_engine_routing::{RuleError, Rules};
use outrigger_pubsub::{BulkOptions, SubscribeRequest, Subscription};
use outrigger_resources::kinds::Subscription as Resource;
use tokio::time::Instant;

use crate::{
    component::Broker,
    delivery::Deliverer,
    gate::{DRAIN, Gate},
    manager::SubscriptionKind,
};

/// Upstream's bounds of a batch where the subscription names none.
const BATCH: usize = 100;
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// The largest batch that a subscription may ask for.
const MAX_BATCH: usize = 10_000;
/// How long a broker may take to pause (upstream) or to let go of a subscription.
const PAUSE: Duration = Duration::from_secs(5);
/// Subscription metadata: the most deliveries at once (ours; upstream has only components' own settings).
const MAX_CONCURRENCY: &str = "maxConcurrency";

/// What a subscription asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) kind: SubscriptionKind,
    pub(crate) pubsub: String,
    pub(crate) topic: String,
    pub(crate) metadata: Metadata,
    pub(crate) rules: Rules,
    /// Request paths of the rules, in their order.
    pub(crate) paths: Vec<PathAndQuery>,
    pub(crate) dead_letter: Option<String>,
    pub(crate) bulk: Option<BulkOptions>,
    pub(crate) is_raw: Result<bool, MetadataError>,
}

/// A subscription as it was written down.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) pubsub: String,
    pub(crate) topic: String,
    pub(crate) metadata: Metadata,
    /// Pairs of condition and path.
    pub(crate) rules: Vec<(String, String)>,
    pub(crate) dead_letter: String,
    pub(crate) bulk_enabled: bool,
    pub(crate) max_messages: i32,
    pub(crate) max_wait_ms: i32,
}

impl Spec {
    /// Compiles the rules.
    pub(crate) fn new(kind: SubscriptionKind, draft: Draft) -> Result<Self, RuleError> {
        let rules = Rules::compile(
            draft
                .rules
                .iter()
                .map(|(condition, path)| (condition.as_str(), path.as_str())),
        )?;
        let paths = rules.iter().map(|(_, path)| request_path(path)).collect();
        let bulk = draft.bulk_enabled.then(|| BulkOptions {
            max_messages: positive(draft.max_messages).map_or(BATCH, |count| (count as usize).min(MAX_BATCH)),
            max_wait: positive(draft.max_wait_ms)
                .map_or(BATCH_WAIT, |wait| Duration::from_millis(u64::from(wait))),
        });
        Ok(Self {
            kind,
            is_raw: is_raw_payload(&draft.metadata),
            pubsub: draft.pubsub,
            topic: draft.topic,
            metadata: draft.metadata,
            rules,
            paths,
            dead_letter: (!draft.dead_letter.is_empty()).then_some(draft.dead_letter),
            bulk,
        })
    }

    /// From a resource.
    pub(crate) fn declarative(resource: &Resource) -> Result<Self, RuleError> {
        let spec = &resource.spec;
        let mut rules: Vec<_> = spec
            .routes
            .rules
            .iter()
            .map(|rule| (rule.r#match.clone(), rule.path.clone()))
            .collect();
        if !spec.routes.default.is_empty() {
            rules.push((String::new(), spec.routes.default.clone()));
        }
        Self::new(
            SubscriptionKind::Declarative,
            Draft {
                pubsub: spec.pubsub_name.clone(),
                topic: spec.topic.clone(),
                metadata: spec.metadata.clone(),
                rules,
                dead_letter: spec.dead_letter_topic.clone(),
                bulk_enabled: spec.bulk_subscribe.enabled,
                max_messages: spec.bulk_subscribe.max_messages_count,
                max_wait_ms: spec.bulk_subscribe.max_await_duration_ms,
            },
        )
    }

    fn max_concurrency(&self) -> Option<usize> {
        self.metadata
            .get(MAX_CONCURRENCY)?
            .parse()
            .ok()
            .filter(|limit| *limit > 0)
    }
}

fn positive(number: i32) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| *number > 0)
}

/// The path of a rule as a request has it: absolute, without `.` and `..`, what no URI may hold escaped.
fn request_path(path: &str) -> PathAndQuery {
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(path, query)| (path, Some(query)));
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut text = String::with_capacity(path.len() + 1);
    for segment in segments {
        text.push('/');
        escape(segment, &mut text);
    }
    if text.is_empty() {
        text.push('/');
    }
    if let Some(query) = query {
        text.push('?');
        escape(query, &mut text);
    }
    text.parse().unwrap_or_else(|_| PathAndQuery::from_static("/"))
}

fn escape(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_graphic()
            && !matches!(
                byte,
                b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#'
            )
        {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// A subscription that runs. Dropping it ends it without waiting.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) spec: Arc<Spec>,
    pub(crate) broker: Arc<Broker>,
    gate: Arc<Gate>,
    control: Subscription,
}

/// Why a subscription did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Trying again cannot help.
    #[error("subscription to topic '{topic}' on pubsub '{pubsub}' is not allowed")]
    NotAllowed { topic: String, pubsub: String },
    /// The broker refused.
    #[error("failed to subscribe to topic {topic}: {}", .error.chain())]
    Broker { topic: String, error: Error },
}

impl Running {
    /// Subscribes; the handler is made for the new gate.
    pub(crate) async fn start(
        spec: Arc<Spec>,
        broker: Arc<Broker>,
        deliverer: impl FnOnce(&Broker, Arc<Gate>) -> Deliverer,
    ) -> Result<Self, StartError> {
        if !broker.scopes.may_subscribe(&spec.topic) {
            return Err(StartError::NotAllowed {
                topic: spec.topic.clone(),
                pubsub: spec.pubsub.clone(),
            });
        }
        let gate = Arc::new(Gate::new(spec.max_concurrency()));
        let request = SubscribeRequest {
            topic: broker.topic(&spec.topic),
            group: broker.group.clone(),
            metadata: spec.metadata.clone(),
            bulk: spec.bulk,
        };
        let handler = Arc::new(deliverer(&broker, Arc::clone(&gate)));
        let control = broker
            .instance()
            .subscribe(request, handler)
            .await
            .map_err(|error| StartError::Broker {
                topic: spec.topic.clone(),
                error,
            })?;
        Ok(Self {
            spec,
            broker,
            gate,
            control,
        })
    }

    /// Pauses, drains, closes. What the app did not see or did not finish is released (P1).
    pub(crate) async fn stop(self) {
        let topic = &self.spec.topic;
        let deadline = Instant::now() + DRAIN;
        self.gate.begin_closing();
        if tokio::time::timeout(PAUSE, self.control.pause()).await.is_err() {
            tracing::warn!(target: "dapr.runtime.processor.subscription", "failed to pause subscription on topic {topic}: timed out");
        }
        if !self.gate.drain(deadline).await {
            tracing::warn!(target: "dapr.runtime.processor.subscription", "drain exceeded {DRAIN:?}; giving up deliveries in flight on topic {topic}");
        }
        if tokio::time::timeout(PAUSE, self.control.close()).await.is_err() {
            tracing::warn!(target: "dapr.runtime.processor.subscription", "subscription on topic {topic} did not close in time");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.gate.slam();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_fit_for_requests() {
        for (path, expected) in [
            ("", "/"),
            ("a", "/a"),
            ("/a//b/", "/a/b"),
            ("/a/../../b?x=1 2", "/b?x=1%202"),
            ("/é{x}", "/%C3%A9%7Bx%7D"),
        ] {
            assert_eq!(request_path(path).as_str(), expected, "{path}");
        }
    }

    #[test]
    fn batches_have_defaults_and_bounds() {
        let bulk = |max_messages, max_wait_ms| {
            let draft = Draft {
                bulk_enabled: true,
                max_messages,
                max_wait_ms,
                ..Draft::default()
            };
            Spec::new(SubscriptionKind::Declarative, draft)
                .unwrap()
                .bulk
                .unwrap()
        };
        assert_eq!(
            bulk(0, 0),
            BulkOptions {
                max_messages: 100,
                max_wait: Duration::from_secs(1)
            }
        );
        assert_eq!(
            bulk(-1, 40),
            BulkOptions {
                max_messages: 100,
                max_wait: Duration::from_millis(40)
            }
        );
        assert_eq!(bulk(i32::MAX, 1).max_messages, MAX_BATCH);
    }
}
