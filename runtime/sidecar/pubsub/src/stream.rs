//! `SubscribeTopicEventsAlpha1`: a subscription that lives as long as its stream (A2.2, P3; upstream
//! `pkg/api/grpc/subscribe.go`, `pkg/runtime/pubsub/streamer`).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use futures::{Stream, StreamExt as _};
use outrigger_engine_dispatch::answer;
use outrigger_sidecar_api::errors;
use outrigger_wire::dapr::proto::runtime::v1::{
    SubscribeTopicEventsRequestAlpha1 as Request, SubscribeTopicEventsRequestInitialAlpha1 as Initial,
    SubscribeTopicEventsResponseAlpha1 as Response, SubscribeTopicEventsResponseInitialAlpha1,
    subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as Incoming,
    subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as Outgoing,
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    PubsubOptions, PubsubService,
    delivery::{DeliveryError, Message},
    manager::{StreamStartError, SubscriptionKind},
    postman::{self, Reply},
    subscription::{Draft, Spec},
};

/// Events that may wait for the transport; the broker waits beyond that.
const QUEUE: usize = 16;

/// What the gRPC server sends on.
pub type TopicEventStream = ReceiverStream<Result<Response, Status>>;

/// One open stream.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: mpsc::Sender<Result<Response, Status>>,
    /// Who waits for the app's word on an event, by event id; the first to send is the first to be answered.
    waiting: Mutex<HashMap<String, VecDeque<oneshot::Sender<i32>>>>,
    /// Events wait until the client knows that it is subscribed.
    greeted: CancellationToken,
    gone: CancellationToken,
}

impl Connection {
    fn new(sender: mpsc::Sender<Result<Response, Status>>) -> Self {
        Self {
            sender,
            waiting: Mutex::default(),
            greeted: CancellationToken::new(),
            gone: CancellationToken::new(),
        }
    }

    /// Ends the stream; who waits on it learns that the app did not answer.
    pub(crate) fn hang_up(&self) {
        self.gone.cancel();
    }

    /// Sends an event and waits for the app's word on it.
    pub(crate) async fn deliver(
        &self,
        options: &PubsubOptions,
        message: &Message<'_>,
    ) -> Result<Reply, DeliveryError> {
        tokio::select! {
            () = self.greeted.cancelled() => {}
            () = self.gone.cancelled() => return Err(DeliveryError::Closed),
        }
        let event = postman::topic_event(message)?;
        let id = event.id.clone();
        let mut span = postman::span(options, message.topic, message.event);
        if let Some(recording) = span
            .as_mut()
            .and_then(outrigger_telemetry::trace::Span::recording)
        {
            recording.subscription(message.topic);
        }
        let (sender, status) = oneshot::channel();
        self.waiting
            .lock()
            .entry(id.clone())
            .or_default()
            .push_back(sender);
        let _waiting = Waiting {
            connection: self,
            id: &id,
        };
        let response = Response {
            subscribe_topic_events_response_type: Some(Outgoing::EventMessage(event)),
        };
        let exchange = async {
            self.sender
                .send(Ok(response))
                .await
                .map_err(|_| DeliveryError::Closed)?;
            drop(span);
            status.await.map_err(|_| DeliveryError::Closed)
        };
        tokio::select! {
            // The app may have answered in the moment the stream ended: its word counts.
            biased;
            status = exchange => status.map(|status| answer::grpc(status).into()),
            () = self.gone.cancelled() => Err(DeliveryError::Closed),
        }
    }

    fn answer(&self, id: &str, status: i32) {
        let waiting = {
            let mut waiting = self.waiting.lock();
            waiting.get_mut(id).and_then(VecDeque::pop_front)
        };
        if waiting.is_none_or(|waiting| waiting.send(status).is_err()) {
            tracing::error!(target: "dapr.runtime.pubsub.streamer", "no client stream expecting publish response for id {id}");
        }
    }
}

/// Takes its place in the list away, however the wait ends.
struct Waiting<'a> {
    connection: &'a Connection,
    id: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.connection.waiting.lock();
        if let Some(list) = waiting.get_mut(self.id) {
            list.retain(|waiting| !waiting.is_closed());
            if list.is_empty() {
                waiting.remove(self.id);
            }
        }
    }
}

impl PubsubService {
    /// Serves `SubscribeTopicEventsAlpha1`: reads the client's messages, answers the stream to send. The
    /// subscription ends when the client goes away, half-closes or breaks the protocol, and with the service.
    #[must_use]
    pub fn subscribe_topic_events<S>(self: &Arc<Self>, incoming: S) -> TopicEventStream
    where
        S: Stream<Item = Result<Request, Status>> + Send + Unpin + 'static,
    {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let service = Arc::clone(self);
        tokio::spawn(async move {
            let last = sender.clone();
            if let Err(status) = service.serve_stream(incoming, sender).await {
                // A client that is gone needs no status.
                let _ = last.send(Err(status)).await;
            }
        });
        ReceiverStream::new(receiver)
    }

    async fn serve_stream(
        &self,
        mut incoming: impl Stream<Item = Result<Request, Status>> + Send + Unpin,
        sender: mpsc::Sender<Result<Response, Status>>,
    ) -> Result<(), Status> {
        let first = tokio::select! {
            first = incoming.next() => first,
            () = sender.closed() => return Ok(()),
            () = self.manager.closed() => return Err(Status::unknown("api server closed")),
        };
        let Some(first) = first else { return Ok(()) };
        let Some(Incoming::InitialRequest(initial)) = first?.subscribe_topic_events_request_type else {
            return Err(Status::unknown("initial request is required"));
        };
        if initial.pubsub_name.is_empty() {
            return Err(Status::unknown("pubsubName is required"));
        }
        if initial.topic.is_empty() {
            return Err(Status::unknown("topic is required"));
        }
        let broker = self
            .publisher
            .table
            .get(&initial.pubsub_name)
            .await
            .map_err(|_| errors::pubsub::not_found(&initial.pubsub_name, None).to_status())?;
        let spec = Arc::new(spec(initial).map_err(Status::unknown)?);
        let connection = Arc::new(Connection::new(sender));
        let number = self
            .manager
            .start_stream(Arc::clone(&spec), broker, Arc::clone(&connection))
            .await
            .map_err(|error| match error {
                StreamStartError::Closed => {
                    errors::pubsub::metadata_deserialization("", None, &error).to_status()
                }
                StreamStartError::Start(error) => Status::unknown(format!(
                    "failed to create subscription for {}: {error}",
                    spec.pubsub
                )),
            })?;
        let Spec { pubsub, topic, .. } = &*spec;
        tracing::info!(target: "dapr.runtime.pubsub.streamer", "Subscribing to pubsub '{pubsub}' topic '{topic}' ConnectionID {number}");
        let outcome = self.converse(&mut incoming, &connection, &spec).await;
        // Nobody is there to answer any more. Whoever drains this subscription already, and keeps the manager for as
        // long, waits for what is in flight.
        connection.hang_up();
        self.manager.stop_stream(number).await;
        outcome
    }

    async fn converse(
        &self,
        incoming: &mut (impl Stream<Item = Result<Request, Status>> + Send + Unpin),
        connection: &Connection,
        spec: &Spec,
    ) -> Result<(), Status> {
        let greeting = Response {
            subscribe_topic_events_response_type: Some(Outgoing::InitialResponse(
                SubscribeTopicEventsResponseInitialAlpha1::default(),
            )),
        };
        if connection.sender.send(Ok(greeting)).await.is_err() {
            return Ok(());
        }
        connection.greeted.cancel();
        loop {
            let message = tokio::select! {
                message = incoming.next() => message,
                () = connection.sender.closed() => None,
                () = connection.gone.cancelled() => return Err(Status::unknown("stream closed")),
            };
            let Some(message) = message else {
                tracing::info!(target: "dapr.runtime.pubsub.streamer", "Unsubscribed from pubsub '{}' topic '{}'", spec.pubsub, spec.topic);
                return Ok(());
            };
            match message?.subscribe_topic_events_request_type {
                Some(Incoming::EventProcessed(event)) => {
                    connection.answer(&event.id, event.status.unwrap_or_default().status);
                }
                _ => return Err(Status::unknown("duplicate initial request received")),
            }
        }
    }
}

fn spec(initial: Initial) -> Result<Spec, String> {
    let draft = Draft {
        pubsub: initial.pubsub_name,
        topic: initial.topic,
        metadata: initial.metadata.into_iter().collect(),
        rules: vec![(String::new(), "/".to_owned())],
        dead_letter: initial.dead_letter_topic.unwrap_or_default(),
        ..Draft::default()
    };
    Spec::new(SubscriptionKind::Streaming, draft).map_err(|error| error.to_string())
}
