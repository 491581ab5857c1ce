//! Events over RabbitMQ: confirmed publishing, and a durable queue that is consumed anew after every break.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::resilience::{Failure, Guard};

const NAME: &str = "RabbitMQ";
const PREFETCH: u16 = 32;
/// A message that was not handled comes again no sooner than this.
const HOLD: Duration = Duration::from_millis(100);
/// Waits between attempts to consume.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// What a handler says about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Done; it is not seen again.
    Done,
    /// Bring it again.
    Again,
    /// It will never work.
    Drop,
}

/// A broker and the exchange that is ours.
pub struct Broker {
    url: String,
    exchange: String,
    publishing: Mutex<Option<(Connection, Channel)>>,
    guard: Guard,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL holds a password.
        f.debug_struct("Broker")
            .field("exchange", &self.exchange)
            .finish()
    }
}

impl Broker {
    /// A broker by its `amqp://` URL. It is reached on first use.
    pub fn new(url: &str, exchange: &str) -> Self {
        Self {
            url: url.to_owned(),
            exchange: exchange.to_owned(),
            publishing: Mutex::new(None),
            guard: Guard::new(NAME, Duration::from_secs(5), 3),
        }
    }

    /// Publishes a message; it is kept by the broker when this returns.
    pub async fn publish(&self, body: &str) -> Result<(), Failure> {
        self.guard
            .run(|| async {
                let channel = self.channel().await.map_err(|error| unavailable(&error))?;
                let properties = BasicProperties::default()
                    .with_content_type("application/cloudevents+json".into())
                    .with_delivery_mode(2);
                let options = BasicPublishOptions::default();
                let sent = async {
                    channel
                        .basic_publish(
                            self.exchange.as_str().into(),
                            "".into(),
                            options,
                            body.as_bytes(),
                            properties,
                        )
                        .await?
                        .await
                };
                match sent.await.map_err(|error| unavailable(&error))? {
                    Confirmation::Nack(_) => {
                        Err(Failure::Unavailable(NAME, "it refuses messages".to_owned()))
                    }
                    Confirmation::Ack(_) | Confirmation::NotRequested => Ok(()),
                }
            })
            .await
    }

    /// Whether the broker is connected, or can be.
    pub async fn ping(&self) -> Result<(), Failure> {
        self.guard
            .run(|| async {
                self.channel()
                    .await
                    .map(drop)
                    .map_err(|error| unavailable(&error))
            })
            .await
    }

    /// Hands the messages of a queue to `handler`, one after the other, until `stop`.
    pub async fn consume<F, Fut>(&self, queue: &str, handler: F, stop: &CancellationToken)
    where
        F: Fn(Vec<u8>) -> Fut,
        Fut: Future<Output = Verdict>,
    {
        let mut wait = WAIT.0;
        while !stop.is_cancelled() {
            match self.session(queue, &handler, stop).await {
                Ok(()) => wait = WAIT.0,
                Err(error) => {
                    tracing::warn!(%error, queue, "consuming is interrupted");
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = stop.cancelled() => {}
                    }
                    wait = (wait * 2).min(WAIT.1);
                }
            }
        }
    }

    /// From declaring the queue to `stop` or a break.
    async fn session<F, Fut>(
        &self,
        queue: &str,
        handler: &F,
        stop: &CancellationToken,
    ) -> Result<(), lapin::Error>
    where
        F: Fn(Vec<u8>) -> Fut,
        Fut: Future<Output = Verdict>,
    {
        let (connection, channel) = self.connect().await?;
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(queue.into(), durable, FieldTable::default())
            .await?;
        channel
            .queue_bind(
                queue.into(),
                self.exchange.as_str().into(),
                "".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let mut messages = channel
            .basic_consume(
                queue.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        loop {
            let message = tokio::select! {
                message = messages.next() => message,
                () = stop.cancelled() => break,
            };
            let Some(message) = message.transpose()? else {
                return Ok(());
            };
            match handler(message.data).await {
                Verdict::Done => message.acker.ack(BasicAckOptions::default()).await?,
                verdict => {
                    let requeue = verdict == Verdict::Again;
                    if requeue {
                        tokio::time::sleep(HOLD).await;
                    }
                    let options = BasicNackOptions {
                        requeue,
                        multiple: false,
                    };
                    message.acker.nack(options).await?
                }
            };
        }
        // What was brought and not handled goes back to the queue.
        connection.close(200, "OK".into()).await
    }

    /// The channel for publishing, on a new connection when the old one broke.
    async fn channel(&self) -> Result<Channel, lapin::Error> {
        let mut current = self.publishing.lock().await;
        if let Some((_, channel)) = &*current
            && channel.status().connected()
        {
            return Ok(channel.clone());
        }
        let (connection, channel) = self.connect().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        *current = Some((connection, channel.clone()));
        Ok(channel)
    }

    async fn connect(&self) -> Result<(Connection, Channel), lapin::Error> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(
                self.exchange.as_str().into(),
                ExchangeKind::Fanout,
                durable,
                FieldTable::default(),
            )
            .await?;
        Ok((connection, channel))
    }
}

fn unavailable(error: &lapin::Error) -> Failure {
    Failure::Unavailable(NAME, error.to_string())
}
