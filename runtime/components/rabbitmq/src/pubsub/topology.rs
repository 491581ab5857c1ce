//! Exchanges and queues, exactly as upstream declares them: two sidecars that declare one thing differently are refused
//! by the broker (`prepareSubscription` in components-contrib `pubsub/rabbitmq/rabbitmq.go`).

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use outrigger_component::{Error, ErrorKind, Metadata};
use outrigger_pubsub::SubscribeRequest;
use outrigger_types::is_truthy;

use super::config::{Config, find};
use crate::error::failed;

/// What a subscription needs at the broker.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) exchange: ShortString,
    pub(super) queue: ShortString,
    arguments: FieldTable,
    dead_letter: Option<DeadLetter>,
    routing_keys: Vec<ShortString>,
}

#[derive(Debug, Clone)]
struct DeadLetter {
    exchange: ShortString,
    queue: ShortString,
    arguments: FieldTable,
}

impl Plan {
    /// What this request asks for; no I/O.
    ///
    /// # Errors
    /// When there is no name for the queue, a name is too long, or a value of the metadata is malformed.
    pub(super) fn of(config: &Config, request: &SubscribeRequest) -> Result<Self, Error> {
        let metadata = &request.metadata;
        let queue = match value(metadata, "queueName") {
            Some(name) => name.to_owned(),
            None if request.group.is_empty() => {
                return Err(Error::invalid(
                    "consumerID is required for subscriptions that don't specify a queue name",
                ));
            }
            None => format!("{}-{}", request.group, request.topic),
        };
        let mut arguments = lengths(config);
        let dead_letter = if config.dead_letter {
            let exchange = name(format!("dlx-{queue}"))?;
            arguments.insert("x-dead-letter-exchange".into(), text(exchange.as_str()));
            let mut dead = lengths(config);
            // Dead letters stay on the disk.
            dead.insert("x-queue-mode".into(), text("lazy"));
            Some(DeadLetter {
                exchange,
                queue: name(format!("dlq-{queue}"))?,
                arguments: dead,
            })
        } else {
            None
        };
        if let Some(priority) = number(metadata, "maxPriority")? {
            let priority = u8::try_from(priority).unwrap_or(u8::MAX);
            arguments.insert("x-max-priority".into(), AMQPValue::ShortShortUInt(priority));
        }
        let kind = value(metadata, "queueType").unwrap_or("classic");
        if !matches!(kind, "classic" | "quorum") {
            return Err(Error::invalid(format!(
                "invalid queue type {kind}. Valid types are classic and quorum"
            )));
        }
        arguments.insert("x-queue-type".into(), text(kind));
        if value(metadata, "singleActiveConsumer").is_some_and(is_truthy) {
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        }
        for (key, argument) in [("maxLenBytes", "x-max-length-bytes"), ("maxLen", "x-max-length")] {
            if let Some(number) = number(metadata, key)? {
                let number = i64::try_from(number).unwrap_or(i64::MAX);
                arguments.insert(argument.into(), AMQPValue::LongLongInt(number));
            }
        }
        Ok(Self {
            exchange: name(request.topic.as_str())?,
            queue: name(queue)?,
            arguments,
            dead_letter,
            routing_keys: value(metadata, "routingKey")
                .unwrap_or_default()
                .split(',')
                .map(name)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Declares and binds all of it; what exists already in the same form stays.
    pub(super) async fn declare(&self, channel: &Channel, config: &Config) -> Result<(), Error> {
        declare_exchange(channel, self.exchange.clone(), config).await?;
        if let Some(dead) = &self.dead_letter {
            // The dead letter exchange and queue are always durable.
            exchange(
                channel,
                dead.exchange.clone(),
                ExchangeKind::Fanout,
                true,
                config.delete_when_unused,
            )
            .await?;
            let arguments = dead.arguments.clone();
            queue(
                channel,
                dead.queue.clone(),
                true,
                config.delete_when_unused,
                arguments,
            )
            .await?;
            bind(channel, &dead.queue, &dead.exchange, &ShortString::default()).await?;
        }
        let arguments = self.arguments.clone();
        queue(
            channel,
            self.queue.clone(),
            config.durable,
            config.delete_when_unused,
            arguments,
        )
        .await?;
        for key in &self.routing_keys {
            bind(channel, &self.queue, &self.exchange, key).await?;
        }
        Ok(())
    }
}

/// Declares the exchange of a topic.
pub(super) async fn declare_exchange(
    channel: &Channel,
    name: ShortString,
    config: &Config,
) -> Result<(), Error> {
    let kind = config.exchange_kind.clone();
    exchange(channel, name, kind, config.durable, config.delete_when_unused).await
}

async fn exchange(
    channel: &Channel,
    name: ShortString,
    kind: ExchangeKind,
    durable: bool,
    auto_delete: bool,
) -> Result<(), Error> {
    let options = ExchangeDeclareOptions {
        durable,
        auto_delete,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(name, kind, options, FieldTable::default())
        .await
        .map_err(|error| failed("cannot declare the exchange", error))
}

async fn queue(
    channel: &Channel,
    name: ShortString,
    durable: bool,
    auto_delete: bool,
    arguments: FieldTable,
) -> Result<(), Error> {
    let options = QueueDeclareOptions {
        durable,
        auto_delete,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(name, options, arguments)
        .await
        .map(drop)
        .map_err(|error| failed("cannot declare the queue", error))
}

async fn bind(
    channel: &Channel,
    queue: &ShortString,
    exchange: &ShortString,
    key: &ShortString,
) -> Result<(), Error> {
    channel
        .queue_bind(
            queue.clone(),
            exchange.clone(),
            key.clone(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(|error| failed("cannot bind the queue", error))
}

/// A name as AMQP carries it: at most 255 bytes.
pub(super) fn name(text: impl Into<String>) -> Result<ShortString, Error> {
    ShortString::try_new(text).map_err(|error| {
        Error::new(
            ErrorKind::InvalidRequest,
            "a name or property is longer than 255 bytes",
        )
        .with_source(error)
    })
}

fn lengths(config: &Config) -> FieldTable {
    let mut arguments = FieldTable::default();
    if let Some(bound) = config.max_len {
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(bound));
    }
    if let Some(bound) = config.max_len_bytes {
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(bound));
    }
    arguments
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn value<'a>(metadata: &'a Metadata, name: &str) -> Option<&'a str> {
    find(metadata, name)
}

fn number(metadata: &Metadata, name: &str) -> Result<Option<u64>, Error> {
    value(metadata, name)
        .map(|text| {
            text.parse().map_err(|_| {
                Error::invalid(format!(
                    "can't parse {name} {text} value on subscription metadata"
                ))
            })
        })
        .transpose()
}
