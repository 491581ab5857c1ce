//! The component: two connections, a publisher, subscriptions.

use std::sync::Arc;

use outrigger_component::{Error, Metadata};
use outrigger_pubsub::{
    BulkFailure, Capabilities, Handler, Outgoing, OutgoingEntry, PubSub, SubscribeRequest, Subscription,
};
use outrigger_types::Topic;

use super::{
    config::Config,
    publisher::{Message, Publisher},
    subscription,
};
use crate::connection::{Link, closed};

/// A broker's topics.
#[derive(Debug, Clone)]
pub(super) struct RabbitPubSub {
    config: Arc<Config>,
    publisher: Arc<Publisher>,
    publishing: Arc<Link>,
    /// Made with the first subscription.
    consuming: Arc<Link>,
}

impl RabbitPubSub {
    /// Connects.
    ///
    /// # Errors
    /// As [`Link::connection`]; the opening may be tried again.
    pub(super) async fn open(config: Config) -> Result<Self, Error> {
        let config = Arc::new(config);
        let publishing = Arc::new(Link::new(config.connection.clone()));
        publishing.connection().await?;
        Ok(Self {
            publisher: Arc::new(Publisher::new(publishing.clone(), config.clone())),
            consuming: Arc::new(Link::new(config.connection.clone())),
            publishing,
            config,
        })
    }
}

impl PubSub for RabbitPubSub {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            message_ttl: true,
            ..Capabilities::default()
        }
    }

    async fn publish(&self, message: Outgoing) -> Result<(), Error> {
        if self.publishing.is_closed() {
            return Err(closed());
        }
        let sent = [Message::new(&self.config, message.data, &message.metadata)?];
        match self.publisher.publish(&message.topic, &sent).await.pop() {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    async fn publish_bulk(
        &self,
        topic: &Topic,
        entries: Vec<OutgoingEntry>,
        _metadata: &Metadata,
    ) -> Vec<BulkFailure> {
        let mut failures = Vec::new();
        let (mut ids, mut messages) = (Vec::new(), Vec::new());
        for entry in entries {
            let message = if self.publishing.is_closed() {
                Err(closed())
            } else {
                Message::new(&self.config, entry.data, &entry.metadata)
            };
            match message {
                Ok(message) => {
                    ids.push(entry.id);
                    messages.push(message);
                }
                Err(error) => failures.push(BulkFailure { id: entry.id, error }),
            }
        }
        let refused = self.publisher.publish(topic, &messages).await;
        failures.extend(refused.into_iter().map(|(at, error)| BulkFailure {
            id: ids[at].clone(),
            error,
        }));
        failures
    }

    async fn subscribe(
        &self,
        request: SubscribeRequest,
        handler: Arc<dyn Handler>,
    ) -> Result<Subscription, Error> {
        if self.consuming.is_closed() {
            return Err(closed());
        }
        let control = subscription::start(&self.consuming, &self.config, request, handler).await?;
        Ok(Subscription::new(control))
    }

    async fn ping(&self) -> Result<(), Error> {
        self.publishing.connection().await.map(drop)
    }

    async fn close(&self) -> Result<(), Error> {
        tokio::join!(self.publishing.close(), self.consuming.close());
        Ok(())
    }
}
