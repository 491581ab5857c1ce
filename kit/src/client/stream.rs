//! Streaming subscriptions: topics that a service begins to read while it runs (A2.9).
//!
//! The sidecar sends events on a gRPC stream and waits for a verdict on each. A stream that breaks is opened anew;
//! events without a verdict come again then, so an event may be seen twice, and never not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use outrigger_wire::dapr::proto::runtime::v1::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as Ask;
use outrigger_wire::dapr::proto::runtime::v1::subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as Told;
use outrigger_wire::dapr::proto::runtime::v1::topic_event_response::TopicEventResponseStatus;
use outrigger_wire::dapr::proto::runtime::v1::{
    SubscribeTopicEventsRequestAlpha1, SubscribeTopicEventsRequestInitialAlpha1,
    SubscribeTopicEventsRequestProcessedAlpha1, SubscribeTopicEventsResponseAlpha1, TopicEventRequest,
    TopicEventResponse,
};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, Streaming};

use super::{Client, GrpcClient};
use crate::event::grpc::{Parts, event};
use crate::{Ack, Error, Event, EventError};

/// Events that wait here to be taken; further ones wait in the sidecar.
const WAITING: usize = 256;
/// The wait before a broken stream is opened anew: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How a topic is read.
#[derive(Debug, Clone, Default)]
pub struct StreamOptions {
    /// Where events go that were refused too often; needs a resiliency policy or a component that counts.
    pub dead_letter_topic: Option<String>,
    /// Metadata of the subscription, such as `rawPayload`.
    pub metadata: BTreeMap<String, String>,
}

/// The events of a topic. Dropping it ends the subscription: events that have no verdict by then come again.
#[derive(Debug)]
pub struct Deliveries {
    receiver: mpsc::Receiver<Delivery>,
    _reader: AbortOnDropHandle<()>,
}

impl Deliveries {
    /// The next event. Waits while the sidecar is away.
    ///
    /// Cancel-safe: an event is not lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.receiver.recv().await
    }
}

/// One event that waits for its verdict. Dropped without one, it asks to be delivered again.
#[derive(Debug)]
pub struct Delivery {
    /// The event.
    pub event: Event<Value>,
    /// Its data as the bytes that the sidecar sent, of whatever content type.
    pub data: Bytes,
    /// The topic that it was read from.
    pub topic: String,
    /// What has to be told the sidecar.
    pub verdict: Verdict,
}

impl Delivery {
    /// Tells the sidecar what became of the event.
    pub fn settle(self, ack: Ack) {
        self.verdict.settle(ack);
    }
}

/// The word on one event that the sidecar waits for. Dropped, it asks for another delivery.
#[derive(Debug)]
pub struct Verdict {
    id: String,
    /// To the stream that the event came by. Weak, as an event that is held must not keep a stream open that is over;
    /// a verdict on such a stream is lost, and the event comes again.
    stream: mpsc::WeakUnboundedSender<SubscribeTopicEventsRequestAlpha1>,
    settled: bool,
}

/// The way of verdicts. It holds at most as many as events were sent without one, and the sidecar bounds those.
type Verdicts = mpsc::UnboundedSender<SubscribeTopicEventsRequestAlpha1>;

impl Verdict {
    /// Tells it.
    pub fn settle(mut self, ack: Ack) {
        self.settled = true;
        self.tell(ack);
    }

    fn tell(&self, ack: Ack) {
        if let Some(stream) = self.stream.upgrade() {
            tell(&stream, &self.id, ack);
        }
    }
}

impl Drop for Verdict {
    fn drop(&mut self) {
        if !self.settled {
            self.tell(Ack::Retry);
        }
    }
}

fn tell(verdicts: &Verdicts, id: &str, ack: Ack) {
    let status = match ack {
        Ack::Success => TopicEventResponseStatus::Success,
        Ack::Retry => TopicEventResponseStatus::Retry,
        Ack::Drop => TopicEventResponseStatus::Drop,
    };
    // A stream that is gone has no use for it.
    let _ = verdicts.send(request(Ask::EventProcessed(
        SubscribeTopicEventsRequestProcessedAlpha1 {
            id: id.to_owned(),
            status: Some(TopicEventResponse {
                status: status.into(),
            }),
        },
    )));
}

fn request(ask: Ask) -> SubscribeTopicEventsRequestAlpha1 {
    SubscribeTopicEventsRequestAlpha1 {
        subscribe_topic_events_request_type: Some(ask),
    }
}

impl Client {
    /// Reads a topic from now on. Returns once the sidecar has taken the subscription; from then on it is kept up,
    /// through restarts of the sidecar, until it is dropped.
    ///
    /// # Errors
    /// Those of the sidecar, such as [`Error::NotFound`] for a component that is not there. What is transient is
    /// retried under the client's policy first.
    pub async fn subscribe(
        &self,
        pubsub: &str,
        topic: &str,
        options: StreamOptions,
    ) -> Result<Deliveries, Error> {
        let mut reader = Reader {
            client: self.grpc()?,
            endpoint: self.0.grpc_endpoint.as_str().to_owned(),
            pubsub: pubsub.to_owned(),
            topic: topic.to_owned(),
            options,
        };
        let mut attempt = 0;
        let stream = loop {
            match reader.open().await {
                Ok(stream) => break stream,
                Err(error) => match self.0.retry.delay(attempt) {
                    Some(delay) if error.is_retryable() => tokio::time::sleep(delay).await,
                    _ => return Err(error),
                },
            }
            attempt += 1;
        };
        let (sender, receiver) = mpsc::channel(WAITING);
        let task = tokio::spawn(async move { reader.run(stream, sender).await });
        Ok(Deliveries {
            receiver,
            _reader: AbortOnDropHandle::new(task),
        })
    }
}

/// An open stream: events in, verdicts out.
struct Open {
    events: Streaming<SubscribeTopicEventsResponseAlpha1>,
    verdicts: Verdicts,
}

struct Reader {
    client: GrpcClient,
    endpoint: String,
    pubsub: String,
    topic: String,
    options: StreamOptions,
}

impl Reader {
    /// Opens a stream and waits for the sidecar's word that the subscription stands.
    async fn open(&mut self) -> Result<Open, Error> {
        let (verdicts, asks) = mpsc::unbounded_channel();
        let _ = verdicts.send(request(Ask::InitialRequest(
            SubscribeTopicEventsRequestInitialAlpha1 {
                pubsub_name: self.pubsub.clone(),
                topic: self.topic.clone(),
                metadata: self.options.metadata.clone().into_iter().collect(),
                dead_letter_topic: self.options.dead_letter_topic.clone(),
            },
        )));
        let asks = UnboundedReceiverStream::new(asks);
        let failed = |status| failure(&self.endpoint, status);
        let answer = self
            .client
            .subscribe_topic_events_alpha1(asks)
            .await
            .map_err(failed)?;
        let mut events = answer.into_inner();
        let failed = |status| failure(&self.endpoint, status);
        match events.message().await.map_err(failed)? {
            Some(SubscribeTopicEventsResponseAlpha1 {
                subscribe_topic_events_response_type: Some(Told::InitialResponse(_)),
            }) => Ok(Open { events, verdicts }),
            _ => Err(failed(Status::unavailable(
                "the stream ended before the subscription stood",
            ))),
        }
    }

    /// Passes events on until nobody takes them.
    async fn run(&mut self, mut stream: Open, sender: mpsc::Sender<Delivery>) {
        let mut pause = PAUSE.0;
        loop {
            let ended = tokio::select! {
                ended = pass(&mut stream, &self.topic, &sender) => ended,
                () = sender.closed() => return,
            };
            tracing::debug!(topic = %self.topic, reason = %ended, "a subscription's stream ended; opening it anew");
            stream = loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = sender.closed() => return,
                }
                match self.open().await {
                    Ok(stream) => break stream,
                    Err(error) => {
                        tracing::warn!(topic = %self.topic, %error, "a subscription cannot be opened; trying again");
                        pause = (pause * 2).min(PAUSE.1);
                    }
                }
            };
            pause = PAUSE.0;
        }
    }
}

/// Passes the events of one stream on; answers why it ended.
async fn pass(stream: &mut Open, topic: &str, sender: &mpsc::Sender<Delivery>) -> String {
    loop {
        let message = match stream.events.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return "the sidecar ended it".to_owned(),
            Err(status) => return status.message().to_owned(),
        };
        let Some(Told::EventMessage(message)) = message.subscribe_topic_events_response_type else {
            continue;
        };
        let (id, data) = (message.id.clone(), message.data.clone());
        match read(message) {
            Ok(event) => {
                let delivery = Delivery {
                    event,
                    data,
                    topic: topic.to_owned(),
                    verdict: Verdict {
                        id,
                        stream: stream.verdicts.downgrade(),
                        settled: false,
                    },
                };
                if sender.send(delivery).await.is_err() {
                    return "nobody reads it any more".to_owned();
                }
            }
            Err(error) => {
                // It will not be better the next time (E1.3).
                tracing::warn!(topic, %error, "an event is no CloudEvent; dropping it");
                tell(&stream.verdicts, &id, Ack::Drop);
            }
        }
    }
}

fn read(message: TopicEventRequest) -> Result<Event<Value>, EventError> {
    let parts = Parts {
        id: message.id,
        source: message.source,
        kind: message.r#type,
        content_type: message.data_content_type,
        data: message.data,
        extensions: message.extensions,
    };
    Event::from_map(event(parts, &message.pubsub_name, &message.topic))
}

fn failure(endpoint: &str, status: Status) -> Error {
    let message = status.message().to_owned();
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted | Code::Unknown => {
            Error::SidecarUnavailable {
                endpoint: endpoint.to_owned(),
                reached: true,
                source: Box::new(status),
            }
        }
        Code::NotFound => Error::NotFound {
            code: String::new(),
            message,
        },
        _ => Error::Invalid(message),
    }
}
