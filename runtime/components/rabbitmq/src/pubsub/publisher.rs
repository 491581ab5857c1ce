//! Publishing: exchanges declared on first use, confirms awaited side by side, a broken channel replaced.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use outrigger_component::{Error, ErrorKind, Metadata};
use outrigger_types::Topic;
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};

use super::{
    config::{Config, find, message_ttl},
    topology::{declare_exchange, name},
};
use crate::{
    connection::{Link, closed},
    error::failed,
};

/// Attempts at a message. The second comes at once: it mends a channel that broke long ago, or an exchange that was
/// deleted for want of queues. The others wait as long as upstream waits to reconnect.
const ATTEMPTS: usize = 4;

/// Messages without their confirm, over all callers.
const IN_FLIGHT: usize = 2048;

/// Messages of one bulk request sent before their confirms are awaited.
const WINDOW: usize = 256;

/// A broker that is short of memory confirms nothing; the caller is told after this.
const CONFIRM: Duration = Duration::from_secs(60);

/// Exchanges remembered as declared; topics come from apps.
const DECLARED: usize = 4096;

/// A message on its way.
pub(super) struct Message {
    pub(super) data: Bytes,
    properties: BasicProperties,
    routing_key: ShortString,
}

impl Message {
    /// Properties as upstream sets them from a request's metadata.
    pub(super) fn new(config: &Config, data: Bytes, metadata: &Metadata) -> Result<Self, Error> {
        let mut properties = BasicProperties::default()
            .with_content_type(name(find(metadata, "contentType").unwrap_or("text/plain"))?);
        if config.delivery_mode > 0 {
            properties = properties.with_delivery_mode(config.delivery_mode);
        }
        let asked = message_ttl(metadata).unwrap_or_else(|error| {
            tracing::warn!(%error, "failed to parse the time to live, it is ignored");
            None
        });
        if let Some(ttl) = asked.or(config.ttl) {
            properties = properties.with_expiration(name(ttl.as_millis().to_string())?);
        }
        if let Some(text) = metadata.get("priority").filter(|text| !text.is_empty()) {
            match text.parse::<i64>() {
                Ok(number) => {
                    let priority = u8::try_from(number.clamp(0, 255)).unwrap_or(u8::MAX);
                    properties = properties.with_priority(priority);
                }
                Err(error) => tracing::warn!(%error, "failed to parse priority, it is ignored"),
            }
        }
        if let Some(id) = find(metadata, "messageID") {
            properties = properties.with_message_id(name(id)?);
        }
        if let Some(id) = find(metadata, "correlationID") {
            properties = properties.with_correlation_id(name(id)?);
        }
        if let Some(kind) = find(metadata, "type") {
            properties = properties.with_type(name(kind)?);
        }
        Ok(Self {
            data,
            properties,
            routing_key: name(metadata.get("routingKey").map(String::as_str).unwrap_or_default())?,
        })
    }
}

/// The publishing half of a component.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Arc<Link>,
    config: Arc<Config>,
    lane: Mutex<Option<Lane>>,
    in_flight: Arc<Semaphore>,
}

/// The channel in use and what was declared on it.
#[derive(Debug)]
struct Lane {
    channel: Channel,
    declared: HashSet<ShortString>,
}

impl Publisher {
    pub(super) fn new(link: Arc<Link>, config: Arc<Config>) -> Self {
        Self {
            link,
            config,
            lane: Mutex::new(None),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
        }
    }

    /// Publishes messages of one topic; answers the failures by position.
    pub(super) async fn publish(&self, topic: &Topic, messages: &[Message]) -> Vec<(usize, Error)> {
        let mut failures: Vec<(usize, Error)> = Vec::new();
        let mut pending: Vec<usize> = (0..messages.len()).collect();
        for attempt in 1..=ATTEMPTS {
            if attempt > 2 {
                tokio::time::sleep(self.link.reconnect_wait()).await;
            }
            let mut refused = Vec::new();
            for window in pending.chunks(WINDOW) {
                refused.extend(self.send(topic, messages, window).await);
            }
            let last = attempt == ATTEMPTS || self.link.is_closed();
            let (again, done): (Vec<_>, Vec<_>) =
                refused.into_iter().partition(|(_, error)| !last && mends(error));
            failures.extend(done);
            if let Some((_, error)) = again.first() {
                tracing::warn!(%topic, attempt, error = error.chain(), "publishing failed, another attempt follows");
            }
            pending = again.into_iter().map(|(at, _)| at).collect();
            if pending.is_empty() {
                break;
            }
        }
        failures
    }

    /// One attempt at some messages: all are sent, then all confirms awaited.
    async fn send(&self, topic: &Topic, messages: &[Message], window: &[usize]) -> Vec<(usize, Error)> {
        let (exchange, channel) = match self.lane(topic).await {
            Ok(found) => found,
            Err(error) => return window.iter().map(|at| (*at, repeated(&error))).collect(),
        };
        let mut failures = Vec::new();
        let mut waiting = Vec::with_capacity(window.len());
        for at in window {
            match self.hand_over(&channel, &exchange, &messages[*at]).await {
                Ok(confirm) => waiting.push((*at, confirm)),
                Err(error) => failures.push((*at, error)),
            }
        }
        for (at, confirm) in waiting {
            let confirmed = confirm.await.unwrap_or_else(|error| {
                Err(Error::internal("the wait for the confirm broke off").with_source(error))
            });
            if let Err(error) = confirmed {
                failures.push((at, error));
            }
        }
        failures
    }

    /// Gives a message to the client. The confirm is awaited in a task of its own: one that nobody awaits would stay in
    /// the client's memory.
    async fn hand_over(
        &self,
        channel: &Channel,
        exchange: &ShortString,
        message: &Message,
    ) -> Result<JoinHandle<Result<(), Error>>, Error> {
        let permit: OwnedSemaphorePermit = self
            .in_flight
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| closed())?;
        let confirm = channel
            .basic_publish(
                exchange.clone(),
                message.routing_key.clone(),
                BasicPublishOptions::default(),
                &message.data,
                message.properties.clone(),
            )
            .await
            .map_err(|error| failed("cannot publish", error))?;
        Ok(tokio::spawn(async move {
            let _permit = permit;
            match tokio::time::timeout(CONFIRM, confirm).await {
                Ok(Ok(Confirmation::Ack(_) | Confirmation::NotRequested)) => Ok(()),
                // Upstream's words; the broker says no when a bounded queue is full, for example.
                Ok(Ok(Confirmation::Nack(_))) => Err(Error::new(
                    ErrorKind::Exhausted,
                    "did not receive confirmation of publishing",
                )),
                Ok(Err(error)) => Err(failed("cannot publish", error)),
                Err(_) => Err(Error::new(
                    ErrorKind::Timeout,
                    "did not receive confirmation of publishing",
                )),
            }
        }))
    }

    /// The channel to publish on, with the topic's exchange declared.
    async fn lane(&self, topic: &Topic) -> Result<(ShortString, Channel), Error> {
        let exchange = name(topic.as_str())?;
        let mut lane = self.lane.lock().await;
        if lane.as_ref().is_some_and(|old| !old.channel.status().connected()) {
            *lane = None;
        }
        let current = match lane.as_mut() {
            Some(current) => current,
            None => {
                let channel = self.link.channel().await?;
                if self.config.confirm {
                    channel
                        .confirm_select(ConfirmSelectOptions::default())
                        .await
                        .map_err(|error| failed("cannot ask for confirms", error))?;
                }
                lane.insert(Lane {
                    channel,
                    declared: HashSet::new(),
                })
            }
        };
        if !current.declared.contains(&exchange) {
            declare_exchange(&current.channel, exchange.clone(), &self.config).await?;
            if current.declared.len() >= DECLARED {
                current.declared.clear();
            }
            current.declared.insert(exchange.clone());
        }
        Ok((exchange, current.channel.clone()))
    }
}

/// Whether another attempt over another channel may succeed.
fn mends(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable
}

/// The same error for another message.
fn repeated(error: &Error) -> Error {
    Error::new(error.kind(), error.chain())
}
