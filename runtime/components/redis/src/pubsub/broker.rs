//! The broker: publishing, and what its subscriptions share.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use outrigger_component::{Error, Metadata, Retry};
use outrigger_pubsub::{
    BulkFailure, Capabilities, Handler, Outgoing, OutgoingEntry, PubSub, SubscribeRequest, Subscription,
};
use outrigger_types::Topic;
use redis::pipe;
use tokio::sync::Semaphore;

use super::{
    config::{Config, Options},
    consumer::Consumer,
    entry,
    ledger::Ledger,
    subscription,
};
use crate::{
    failure::{closed, failed},
    link::{Link, Safety},
};

/// Messages of a bulk publish sent in one write.
const CHUNK: usize = 256;

/// `pubsub.redis`.
#[derive(Debug, Clone)]
pub struct RedisPubSub {
    link: Link,
    options: Options,
    /// Handlers of all subscriptions at once, as upstream counts them.
    permits: Arc<Semaphore>,
    ledger: Arc<Ledger>,
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or_default()
}

fn not_published(error: Error) -> Error {
    if error.kind() == outrigger_component::ErrorKind::Closed {
        return error;
    }
    Error::new(error.kind(), "redis streams: error from publish")
        .with_source(error)
        .with_retry(Retry::Transient)
}

impl RedisPubSub {
    pub(super) async fn open(config: Config) -> Result<Self, Error> {
        let host = config.settings.host();
        let unreachable = |error: Error| {
            Error::new(
                error.kind(),
                format!("redis streams: error connecting to redis at {host}"),
            )
            .with_source(error)
        };
        let link = Link::open(config.settings).await.map_err(unreachable)?;
        link.ping().await.map_err(unreachable)?;
        Ok(Self {
            link,
            options: config.options,
            permits: Arc::new(Semaphore::new(config.options.concurrency)),
            ledger: Arc::default(),
        })
    }
}

impl PubSub for RedisPubSub {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// At least once: an event whose fate is unknown after a lost connection is sent again.
    async fn publish(&self, message: Outgoing) -> Result<(), Error> {
        let command = entry::add(
            message.topic.as_str(),
            &message.data,
            &message.metadata,
            &self.options,
            now(),
        )?;
        self.link
            .command(&command, Safety::Repeatable)
            .await
            .map(drop)
            .map_err(not_published)
    }

    async fn publish_bulk(
        &self,
        topic: &Topic,
        entries: Vec<OutgoingEntry>,
        _metadata: &Metadata,
    ) -> Vec<BulkFailure> {
        let mut failures = Vec::new();
        for chunk in entries.chunks(CHUNK) {
            let mut commands = pipe();
            let mut sent = Vec::with_capacity(chunk.len());
            for OutgoingEntry {
                id, data, metadata, ..
            } in chunk
            {
                match entry::add(topic.as_str(), data, metadata, &self.options, now()) {
                    Ok(command) => {
                        commands.add_command(command);
                        sent.push(id);
                    }
                    Err(error) => failures.push(BulkFailure {
                        id: id.clone(),
                        error,
                    }),
                }
            }
            if sent.is_empty() {
                continue;
            }
            match self.link.pipeline(&commands, Safety::Repeatable).await {
                Ok(answers) => {
                    for (id, answer) in sent.into_iter().zip(answers) {
                        if let Err(error) = answer.extract_error() {
                            let error = not_published(failed(&error));
                            failures.push(BulkFailure {
                                id: id.clone(),
                                error,
                            });
                        }
                    }
                }
                Err(error) => failures.extend(sent.into_iter().map(|id| BulkFailure {
                    id: id.clone(),
                    error: not_published(Error::new(error.kind(), error.message().to_owned())),
                })),
            }
        }
        failures
    }

    async fn subscribe(
        &self,
        request: SubscribeRequest,
        handler: Arc<dyn Handler>,
    ) -> Result<Subscription, Error> {
        if self.link.is_closed() {
            return Err(closed());
        }
        let consumer = Consumer {
            link: self.link.clone(),
            stream: request.topic.as_str().into(),
            group: request.group.as_str().into(),
            timeout: self.options.processing_timeout,
        };
        let is_single = Options::is_single(&request.metadata)?;
        consumer.create_group().await?;
        let held = self.ledger.of(request.topic.as_str(), &request.group);
        Ok(subscription::start(subscription::Start {
            topic: request.topic,
            bulk: request.bulk,
            options: self.options,
            permits: self.permits.clone(),
            is_single,
            consumer,
            held,
            handler,
        }))
    }

    async fn ping(&self) -> Result<(), Error> {
        let host = self.link.settings().host();
        self.link.ping().await.map_err(|error| {
            Error::new(
                error.kind(),
                format!("redis pubsub: error connecting to redis at {host}"),
            )
            .with_source(error)
        })
    }

    async fn close(&self) -> Result<(), Error> {
        self.link.close();
        Ok(())
    }
}
