//! The trait of brokers and its erased twin.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use outrigger_component::{Error, Metadata};
use outrigger_types::Topic;

use crate::{BulkFailure, Delivery, Outgoing, OutgoingEntry, Verdict};

/// What a broker can do, as data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Publishes many messages in one go (`BULK_PUBSUB`).
    pub bulk_publish: bool,
    /// Expires messages itself (`MESSAGE_TTL`); otherwise the envelope carries the expiry.
    pub message_ttl: bool,
    /// Understands wildcards in subscribed topics (`SUBSCRIBE_WILDCARDS`).
    pub wildcards: bool,
}

impl Capabilities {
    /// Dapr's feature names.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        [
            (self.message_ttl, "MESSAGE_TTL"),
            (self.wildcards, "SUBSCRIBE_WILDCARDS"),
            (self.bulk_publish, "BULK_PUBSUB"),
        ]
        .into_iter()
        .filter_map(|(has, name)| has.then_some(name))
        .collect()
    }
}

/// How a bulk subscription wants its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkOptions {
    /// At most this many messages in a batch.
    pub max_messages: usize,
    /// At most this long from the first message of a batch to its delivery.
    pub max_wait: Duration,
}

/// What to subscribe to.
#[derive(Debug, Clone)]
pub struct SubscribeRequest {
    /// The topic, or a pattern where the broker has wildcards.
    pub topic: Topic,
    /// Who shares the messages: instances of one group compete, groups each get all (the app id by default).
    pub group: String,
    /// Subscription metadata.
    pub metadata: Metadata,
    /// Deliver in batches.
    pub bulk: Option<BulkOptions>,
}

/// Takes deliveries. Called concurrently; the broker bounds how often.
pub trait Handler: Send + Sync + 'static {
    /// Takes one message.
    fn handle(&self, delivery: Delivery) -> BoxFuture<'_, Verdict>;

    /// Takes a batch, answers in order. Only called when the request asked for batches.
    fn handle_bulk(&self, deliveries: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
        Box::pin(async move {
            let mut verdicts = Vec::with_capacity(deliveries.len());
            for delivery in deliveries {
                verdicts.push(self.handle(delivery).await);
            }
            verdicts
        })
    }
}

/// How a running subscription is steered.
pub trait SubscriptionControl: Send + Sync + 'static {
    /// Stops fetching; deliveries in flight go on. Idempotent.
    fn pause(&self) -> BoxFuture<'_, ()>;
    /// Stops fetching, waits for deliveries in flight and ends the subscription. What the handler did not see is
    /// kept by the broker, not refused. Idempotent.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A running subscription. Dropping it ends it without waiting.
pub struct Subscription(Arc<dyn SubscriptionControl>);

impl Subscription {
    /// Wraps a control whose `Drop` stops the subscription.
    pub fn new(control: impl SubscriptionControl) -> Self {
        Self(Arc::new(control))
    }

    /// See [`SubscriptionControl::pause`].
    pub async fn pause(&self) {
        self.0.pause().await;
    }

    /// See [`SubscriptionControl::close`].
    pub async fn close(&self) {
        self.0.close().await;
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}

/// A broker. At-least-once: an acknowledged publish reaches every subscribed group, also across restarts where the
/// broker is durable; a message is forgotten only after [`Verdict::Ack`].
pub trait PubSub: fmt::Debug + Send + Sync + 'static {
    /// What this broker can do.
    fn capabilities(&self) -> Capabilities;

    /// Feature names as the metadata API lists them. A broker that is told its features by another process repeats
    /// them, also those that mean nothing to us.
    fn features(&self) -> Vec<String> {
        self.capabilities()
            .names()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// Publishes one message; returns when the broker has it safe.
    fn publish(&self, message: Outgoing) -> impl Future<Output = Result<(), Error>> + Send;

    /// Publishes many messages of one topic, answers the failures. The default publishes one after the other.
    fn publish_bulk(
        &self,
        topic: &Topic,
        entries: Vec<OutgoingEntry>,
        _metadata: &Metadata,
    ) -> impl Future<Output = Vec<BulkFailure>> + Send {
        let topic = topic.clone();
        async move {
            let mut failures = Vec::new();
            for OutgoingEntry {
                id,
                data,
                content_type,
                metadata,
            } in entries
            {
                let message = Outgoing {
                    topic: topic.clone(),
                    data,
                    content_type,
                    metadata,
                };
                if let Err(error) = self.publish(message).await {
                    failures.push(BulkFailure { id, error });
                }
            }
            failures
        }
    }

    /// Subscribes; returns when the subscription is in force.
    fn subscribe(
        &self,
        request: SubscribeRequest,
        handler: Arc<dyn Handler>,
    ) -> impl Future<Output = Result<Subscription, Error>> + Send;

    /// Whether the broker answers.
    fn ping(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// Lets go of connections and files. Subscriptions have been closed before.
    fn close(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
}

/// The erased twin of [`PubSub`].
pub trait DynPubSub: fmt::Debug + Send + Sync + 'static {
    /// See [`PubSub::capabilities`].
    fn capabilities(&self) -> Capabilities;
    /// See [`PubSub::features`].
    fn features(&self) -> Vec<String>;
    /// See [`PubSub::publish`].
    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<(), Error>>;
    /// See [`PubSub::publish_bulk`].
    fn publish_bulk<'a>(
        &'a self,
        topic: &'a Topic,
        entries: Vec<OutgoingEntry>,
        metadata: &'a Metadata,
    ) -> BoxFuture<'a, Vec<BulkFailure>>;
    /// See [`PubSub::subscribe`].
    fn subscribe(
        &self,
        request: SubscribeRequest,
        handler: Arc<dyn Handler>,
    ) -> BoxFuture<'_, Result<Subscription, Error>>;
    /// See [`PubSub::ping`].
    fn ping(&self) -> BoxFuture<'_, Result<(), Error>>;
    /// See [`PubSub::close`].
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// A shared broker.
pub type SharedPubSub = Arc<dyn DynPubSub>;

impl<P: PubSub> DynPubSub for P {
    fn capabilities(&self) -> Capabilities {
        PubSub::capabilities(self)
    }
    fn features(&self) -> Vec<String> {
        PubSub::features(self)
    }
    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(PubSub::publish(self, message))
    }
    fn publish_bulk<'a>(
        &'a self,
        topic: &'a Topic,
        entries: Vec<OutgoingEntry>,
        metadata: &'a Metadata,
    ) -> BoxFuture<'a, Vec<BulkFailure>> {
        Box::pin(PubSub::publish_bulk(self, topic, entries, metadata))
    }
    fn subscribe(
        &self,
        request: SubscribeRequest,
        handler: Arc<dyn Handler>,
    ) -> BoxFuture<'_, Result<Subscription, Error>> {
        Box::pin(PubSub::subscribe(self, request, handler))
    }
    fn ping(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(PubSub::ping(self))
    }
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(PubSub::close(self))
    }
}
