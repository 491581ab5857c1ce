//! `pubsub.rabbitmq`.
//!
//! The topic is an exchange; a group's messages wait in the queue `{consumerID}-{topic}` (or `queueName`). At least
//! once: a publisher hears back after the broker's confirm, a message is acknowledged after the handler's word. What a
//! closing subscription holds and the app did not see goes back to the queue, not to the dead letters.
//!
//! Where it differs from upstream (components-contrib 1.18 `pubsub/rabbitmq`):
//! - Publishers wait for the broker's confirm unless `publisherConfirm` is set to false; upstream does not unless it is
//!   set to true, and takes a negative confirm for a positive one.
//! - Publishing and consuming have a connection each, because RabbitMQ stops reading from publishers when it is short
//!   of memory, and each subscription has a channel: an error in one does not end the others.
//! - `prefetchCount` 0 means 256, not without bound; `autoAck` acknowledges on arrival, for the same reason.
//! - `concurrency`, as documented, counts as well as `concurrencyMode`, which alone upstream reads.
//! - `maxLen` and `maxLenBytes` of a subscription work; upstream sends them in a type that its client refuses.
//! - A queue or exchange that exists otherwise fails the subscription at once, not after a minute.

mod broker;
mod config;
mod properties;
mod publisher;
mod subscription;
mod topology;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_pubsub::DynPubSub;

/// `pubsub.rabbitmq`. Metadata, all upstream's:
///
/// | name | default | meaning |
/// | --- | --- | --- |
/// | `connectionString` (`host`) | | `amqp://` or `amqps://` URI |
/// | `protocol`, `hostname`, `username`, `password` | amqp, localhost, guest | the same in parts |
/// | `caCert`, `clientCert`, `clientKey` | system's roots | PEM |
/// | `saslExternal` | false | the client certificate is the user |
/// | `clientName`, `heartBeat`, `reconnectWaitSeconds` | none, 10s, 3s | the connection's name and times |
/// | `exchangeKind` | fanout | or topic, direct, headers |
/// | `durable`, `deletedWhenUnused` | true, true | of exchange and queue |
/// | `enableDeadLetter` | false | `dlx-{queue}` and `dlq-{queue}` take what was refused |
/// | `maxLen`, `maxLenBytes` | none | bounds of the queue and of its dead letter queue |
/// | `ttlInSeconds` | none | of messages published without `ttl` |
/// | `deliveryMode` | 0 | 2 is persistent |
/// | `autoAck`, `requeueInFailure` | false, false | what becomes of messages, refused ones |
/// | `prefetchCount`, `concurrency` | 256, parallel | unacknowledged messages; `single` handles one at a time |
/// | `publisherConfirm` | true | wait for the broker's word |
/// | `publishMessagePropertiesToMetadata` | false | properties and headers become delivery metadata |
///
/// Of a publish request: `routingKey`, `ttlInSeconds`, `priority`, `contentType`, `messageID`, `correlationID`, `type`. Of
/// a subscription: `queueName`, `routingKey` (several with commas), `queueType` (classic or quorum), `maxPriority`,
/// `singleActiveConsumer`, `maxLen`, `maxLenBytes`.
pub const RABBITMQ: Registration<dyn DynPubSub> = Registration {
    type_names: &["pubsub.rabbitmq"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn DynPubSub>, Error> {
    let config = config::Config::parse(&spec.properties)?;
    Ok(open_with(move |_host| async move {
        Ok(Arc::new(broker::RabbitPubSub::open(config).await?) as Arc<dyn DynPubSub>)
    }))
}

#[cfg(test)]
mod tests;
