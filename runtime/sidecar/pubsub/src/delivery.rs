//! One message from the broker to the app (A2.3, A2.5; upstream `pkg/runtime/subscription/subscription.go`).

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use outrigger_component::{Error, Metadata};
use outrigger_engine_dispatch::{Envelope, Incoming, field, strip_namespace};
use outrigger_engine_routing::Route;
use outrigger_pubsub::{Delivery, Handler, Verdict};
use outrigger_sidecar_resilience::{ComponentKind, Policy, Retry, Retryable, RunError};
use outrigger_telemetry::metrics::ProcessStatus;

use crate::{
    PubsubOptions,
    batcher::{Batcher, Turn},
    component::Broker,
    gate::Gate,
    postman::Postman,
    publisher::{PublishError, Publisher, Surface},
    service::FreshId,
    subscription::Spec,
};

/// Message metadata that apps get beside what the broker has.
pub(crate) const PUBSUB_NAME: &str = "pubsubName";
pub(crate) const CONTENT_TYPE: &str = "content-type";
/// How long a message may take to its dead letter topic.
const DEAD_LETTER_TIMEOUT: Duration = Duration::from_secs(30);

/// An event on its way to the app.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) event: &'a Envelope<'a>,
    /// The body of an HTTP delivery.
    pub(crate) body: Bytes,
    pub(crate) pubsub: &'a str,
    /// Without namespace.
    pub(crate) topic: &'a str,
    /// The rule's path as it was written.
    pub(crate) path: &'a str,
    /// The rule's path as a request has it.
    pub(crate) uri: &'a PathAndQuery,
    /// The broker's metadata.
    pub(crate) metadata: &'a Metadata,
}

/// Why the app did not take an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// It wants no such event: to the dead letter topic, or nowhere.
    #[error("pubsub message dropped")]
    Dropped,
    /// To be tried again, if the policy agrees.
    #[error("{text}")]
    Failed { text: String, verdict: Retry },
    /// Its health probes fail; the message waits.
    #[error("app is not in a healthy state")]
    Unhealthy,
    /// The stream it listens on is gone.
    #[error("subscription is closed")]
    Closed,
}

impl DeliveryError {
    pub(crate) fn transient(text: impl Into<String>) -> Self {
        Self::Failed {
            text: text.into(),
            verdict: Retry::Transient,
        }
    }
}

impl Retryable for DeliveryError {
    fn verdict(&self) -> Retry {
        match self {
            Self::Failed { verdict, .. } => *verdict,
            Self::Dropped => Retry::Transient,
            Self::Unhealthy | Self::Closed => Retry::Permanent,
        }
    }
}

/// Takes what a broker delivers for one subscription.
#[derive(Debug)]
pub(crate) struct Deliverer {
    pub(crate) spec: Arc<Spec>,
    /// Whether topics come with the namespace before their name.
    is_namespaced: bool,
    pub(crate) options: PubsubOptions,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) postman: Postman,
    batcher: Batcher,
}

impl Handler for Deliverer {
    fn handle(&self, delivery: Delivery) -> BoxFuture<'_, Verdict> {
        Box::pin(async move {
            if let Some(options) = self.spec.bulk {
                return match self.batcher.join(delivery, options, &self.gate).await {
                    Turn::Settled(verdict) => verdict,
                    Turn::Lead(mut batch) => {
                        let deliveries = std::mem::take(&mut batch.deliveries);
                        let verdicts = self.handle_bulk(deliveries).await;
                        batch.settle(verdicts)
                    }
                };
            }
            let Some(_flight) = self.gate.enter().await else {
                return Verdict::Release;
            };
            tokio::select! {
                biased;
                verdict = self.process(&delivery) => verdict,
                () = self.gate.aborted() => Verdict::Release,
            }
        })
    }

    fn handle_bulk(&self, deliveries: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
        Box::pin(async move {
            let release = || deliveries.iter().map(|_| Verdict::Release).collect();
            let Some(_flight) = self.gate.enter().await else {
                return release();
            };
            tokio::select! {
                biased;
                verdicts = self.process_bulk(&deliveries) => verdicts,
                () = self.gate.aborted() => release(),
            }
        })
    }
}

impl Deliverer {
    pub(crate) fn new(
        spec: Arc<Spec>,
        broker: &Broker,
        publisher: &Arc<Publisher>,
        gate: Arc<Gate>,
        postman: Postman,
    ) -> Self {
        Self {
            spec,
            is_namespaced: broker.topic_prefix.is_some(),
            options: publisher.options.clone(),
            publisher: Arc::clone(publisher),
            gate,
            postman,
            batcher: Batcher::default(),
        }
    }

    pub(crate) fn policy(&self) -> Policy {
        self.options
            .resilience
            .load()
            .component_inbound(&self.spec.pubsub, ComponentKind::Pubsub)
    }

    /// The topic as the app knows it.
    fn topic<'a>(&self, delivery: &'a Delivery) -> Cow<'a, str> {
        strip_namespace(&delivery.topic, self.options.namespace(), self.is_namespaced)
    }

    fn count(&self, status: ProcessStatus, topic: &str) {
        self.options
            .metrics
            .pubsub_ingress(&self.spec.pubsub, status, "", topic, Duration::ZERO);
    }

    async fn process(&self, delivery: &Delivery) -> Verdict {
        let topic = self.topic(delivery);
        let pubsub = self.spec.pubsub.as_str();
        let is_raw = match &self.spec.is_raw {
            Ok(is_raw) => *is_raw,
            Err(error) => {
                tracing::error!(target: "dapr.runtime.processor.subscription", "error deserializing pubsub metadata: {error}");
                return self.give_up(delivery, &topic, error.to_string()).await;
            }
        };
        let fresh = is_raw.then(FreshId::new);
        let incoming = Incoming {
            data: &delivery.data,
            content_type: content_type(delivery),
            metadata: &delivery.metadata,
            topic: &topic,
            pubsub,
            raw: is_raw,
            id: fresh.as_ref().map_or("", FreshId::as_str),
        };
        let read = match incoming.read() {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(target: "dapr.runtime.processor.subscription", "error deserializing cloud event in pubsub {pubsub} and topic {topic}: {error}");
                return self.give_up(delivery, &topic, error.to_string()).await;
            }
        };
        let event = &read.event;
        if event.contains(field::EXPIRATION) && event.has_expired((self.options.clock)()) {
            let expiration = event.text(field::EXPIRATION).unwrap_or_default();
            tracing::warn!(target: "dapr.runtime.processor.subscription", "dropping expired pub/sub event {} as of {expiration}", event.id());
            self.count(ProcessStatus::Drop, &topic);
            let _ = self.dead_letter(delivery).await;
            return Verdict::Ack;
        }
        let index = match self.route(event) {
            Ok(Some(index)) => index,
            Ok(None) => {
                tracing::debug!(target: "dapr.runtime.processor.subscription", "no matching route for event {} in pubsub {pubsub} and topic {topic}; skipping", event.id());
                let metrics = &self.options.metrics;
                metrics.pubsub_ingress(pubsub, ProcessStatus::Drop, "success", &topic, Duration::ZERO);
                let _ = self.dead_letter(delivery).await;
                return Verdict::Ack;
            }
            Err(error) => {
                tracing::error!(target: "dapr.runtime.processor.subscription", "error finding matching route for event {} in pubsub {pubsub} and topic {topic}: {error}", event.id());
                return self.give_up(delivery, &topic, error).await;
            }
        };
        let message = Message {
            event,
            body: match read.body {
                Cow::Borrowed(_) => delivery.data.clone(),
                Cow::Owned(body) => Bytes::from(body),
            },
            pubsub,
            topic: &topic,
            path: self.path(index),
            uri: &self.spec.paths[index],
            metadata: &delivery.metadata,
        };
        self.hand_over(&message, delivery).await
    }

    /// The rule that takes an event; `None` for no rule.
    pub(crate) fn route(&self, event: &Envelope<'_>) -> Result<Option<usize>, String> {
        let rules = &self.spec.rules;
        let route = match rules.constant() {
            Some(route) => route,
            None => {
                let event = event.to_value().map_err(|error| error.to_string())?;
                rules.route(&event).map_err(|error| error.to_string())?
            }
        };
        Ok(index(route))
    }

    pub(crate) fn path(&self, index: usize) -> &str {
        self.spec.rules.iter().nth(index).map_or("", |(_, path)| path)
    }

    async fn hand_over(&self, message: &Message<'_>, delivery: &Delivery) -> Verdict {
        loop {
            if !self.app_ready().await {
                return Verdict::Release;
            }
            let policy = self.policy();
            let Err(error) = policy.run(|_| self.attempt(message, delivery)).await else {
                return Verdict::Ack;
            };
            match error {
                _ if self.gate.is_closing() => return Verdict::Release,
                RunError::Op(DeliveryError::Closed) => return Verdict::Release,
                // It turned unhealthy meanwhile: that says nothing about the message.
                RunError::Op(DeliveryError::Unhealthy) => {}
                error => return self.give_up(delivery, message.topic, error.to_string()).await,
            }
        }
    }

    async fn attempt(&self, message: &Message<'_>, delivery: &Delivery) -> Result<(), DeliveryError> {
        let topic = message.topic;
        let outcome = self.postman.deliver(&self.options, message).await;
        match &outcome {
            Err(DeliveryError::Dropped) => {
                return match self.dead_letter(delivery).await {
                    None | Some(Ok(())) => Ok(()),
                    Some(Err(error)) => {
                        tracing::warn!(target: "dapr.runtime.processor.subscription", "failed to send dropped message to dead letter queue for topic {topic}: {error}");
                        outcome
                    }
                };
            }
            Err(error @ DeliveryError::Failed { .. }) => {
                tracing::warn!(target: "dapr.runtime.processor.subscription", "encountered a retriable error while publishing a subscribed message to topic {topic}, err: {error}");
            }
            Ok(()) | Err(DeliveryError::Unhealthy | DeliveryError::Closed) => {}
        }
        outcome
    }

    /// Waits until the app is healthy; `false` when the subscription ends first. Streams are their own proof.
    pub(crate) async fn app_ready(&self) -> bool {
        if matches!(self.postman, Postman::Stream(_)) {
            return true;
        }
        let Some(app) = self.options.app.load_full() else {
            return true;
        };
        if app.health().is_healthy() {
            return true;
        }
        let mut health = app.watch_health();
        tokio::select! {
            // An error means that nobody probes any more: the app decides.
            _ = health.wait_for(|health| health.is_healthy()) => true,
            () = self.gate.closing() => false,
        }
    }

    /// What cannot be delivered: to the dead letter topic, or back to the broker.
    async fn give_up(&self, delivery: &Delivery, topic: &str, error: String) -> Verdict {
        if let Some(Ok(())) = self.dead_letter(delivery).await {
            self.count(ProcessStatus::Drop, topic);
            return Verdict::Ack;
        }
        self.count(ProcessStatus::Retry, topic);
        Verdict::Retry(Error::internal(error))
    }

    /// Publishes the message as it came to the dead letter topic; `None` where there is none.
    pub(crate) async fn dead_letter(&self, delivery: &Delivery) -> Option<Result<(), PublishError>> {
        let topic = self.spec.dead_letter.as_deref()?;
        let publish = async {
            let gone = || PublishError::NotFound(self.spec.pubsub.clone());
            let broker = self
                .publisher
                .table
                .get(&self.spec.pubsub)
                .await
                .map_err(|_| gone())?;
            let metadata = self.outgoing_metadata(delivery);
            let content_type = delivery.content_type.clone();
            self.publisher
                .publish_to(
                    &broker,
                    topic,
                    delivery.data.clone(),
                    content_type,
                    metadata,
                    Surface::Grpc,
                )
                .await
        };
        let outcome = tokio::time::timeout(DEAD_LETTER_TIMEOUT, publish)
            .await
            .unwrap_or_else(|_| Err(PublishError::Failed("context deadline exceeded".to_owned())));
        if let Err(error) = &outcome {
            tracing::error!(target: "dapr.runtime.processor.subscription", "error sending message to dead letter, origin topic: {} dead letter topic {topic} err: {error}", delivery.topic);
        }
        Some(outcome)
    }

    /// The broker's metadata as dead letters carry it.
    pub(crate) fn outgoing_metadata(&self, delivery: &Delivery) -> Metadata {
        let mut metadata = Metadata::clone(&delivery.metadata);
        if let Some(content_type) = &delivery.content_type {
            metadata.insert(CONTENT_TYPE.to_owned(), content_type.clone());
        }
        metadata.insert(PUBSUB_NAME.to_owned(), self.spec.pubsub.clone());
        metadata
    }
}

/// The content type, from the message or its metadata.
pub(crate) fn content_type(delivery: &Delivery) -> Option<&str> {
    delivery
        .content_type
        .as_deref()
        .or_else(|| delivery.metadata.get(CONTENT_TYPE).map(String::as_str))
}

pub(crate) fn index(route: Route<'_>) -> Option<usize> {
    match route {
        Route::Path { index, .. } => Some(index),
        Route::NoMatch => None,
    }
}
