//! A broker of ours as a service.

use std::{collections::HashMap, sync::Arc};

use futures::{Stream, StreamExt as _, future::BoxFuture};
use outrigger_component::Error;
use outrigger_pubsub::{
    Delivery, DynPubSub, Handler, Outgoing, OutgoingEntry, SubscribeRequest, Subscription, Verdict,
};
use outrigger_wire::dapr::proto::components::v1::{self as pb, pub_sub_server::PubSub};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    desk::Desk,
    instances::{Instances, name},
    openings::Openings,
};
use crate::{
    status::status,
    wire::{from_map, non_empty},
};

/// Setting that names the consumer group.
const CONSUMER_ID: &str = "consumerID";

#[derive(Debug)]
pub(super) struct Broker {
    instances: Instances<dyn DynPubSub>,
    /// Whether an instance is paused, for its streams.
    paused: Mutex<HashMap<String, watch::Sender<bool>>>,
    openings: Openings,
    ending: CancellationToken,
}

type Messages = Desk<pb::PullMessagesResponse, Verdict>;

impl Broker {
    pub(super) fn new(instances: Instances<dyn DynPubSub>, ending: CancellationToken) -> Self {
        Self {
            instances,
            paused: Mutex::default(),
            openings: Openings::new(),
            ending,
        }
    }

    /// Tells the streams of the instance that a call names; the call must name one that is open.
    fn set_paused<T>(&self, request: &Request<T>, paused: bool) -> Result<(), Status> {
        self.instances.of(request)?;
        let name = name(request.metadata())?;
        let mut all = self.paused.lock();
        let switch = all
            .entry(name.to_owned())
            .or_insert_with(|| watch::Sender::new(false));
        switch.send_replace(paused);
        Ok(())
    }

    fn watch_paused<T>(&self, request: &Request<T>) -> Result<watch::Receiver<bool>, Status> {
        let name = name(request.metadata())?;
        let mut all = self.paused.lock();
        let switch = all
            .entry(name.to_owned())
            .or_insert_with(|| watch::Sender::new(false));
        Ok(switch.subscribe())
    }
}

/// Hands deliveries to the sidecar.
struct Counter(Arc<Messages>);

impl Handler for Counter {
    fn handle(&self, delivery: Delivery) -> BoxFuture<'_, Verdict> {
        Box::pin(async move {
            let asked = self.0.ask(|id| pb::PullMessagesResponse {
                data: delivery.data,
                topic_name: delivery.topic.to_string(),
                metadata: crate::wire::to_map(&delivery.metadata),
                content_type: delivery.content_type.unwrap_or_default(),
                id,
            });
            asked.await.unwrap_or(Verdict::Release)
        })
    }
}

/// One stream of a sidecar: its subscription, which stops and starts with the instance's pause.
struct Pull {
    broker: Arc<dyn DynPubSub>,
    request: SubscribeRequest,
    desk: Arc<Messages>,
    paused: watch::Receiver<bool>,
    subscription: Option<Subscription>,
}

impl Pull {
    async fn subscribe(&mut self) -> Result<(), Error> {
        if self.subscription.is_none() {
            let handler = Arc::new(Counter(Arc::clone(&self.desk)));
            self.subscription = Some(self.broker.subscribe(self.request.clone(), handler).await?);
        }
        Ok(())
    }

    /// Takes answers until the sidecar goes away or the server ends.
    async fn attend(mut self, mut answers: Streaming<pb::PullMessagesRequest>, ending: &CancellationToken) {
        loop {
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => self.settle(answer),
                    _ => break,
                },
                changed = self.paused.changed() => {
                    let is_paused = *self.paused.borrow_and_update();
                    if changed.is_ok() && !self.follow_pause(is_paused).await {
                        break;
                    }
                }
                () = ending.cancelled() => {
                    self.drain(&mut answers).await;
                    break;
                }
            }
        }
        // What the sidecar did not answer is kept by the broker.
        self.desk.abandon();
        if let Some(subscription) = self.subscription {
            subscription.close().await;
        }
    }

    fn settle(&self, answer: pb::PullMessagesRequest) {
        let verdict = match answer.ack_error {
            None => Verdict::Ack,
            Some(error) => Verdict::Retry(Error::internal(error.message)),
        };
        self.desk.settle(&answer.ack_message_id, verdict);
    }

    /// Answers whether the stream can go on.
    async fn follow_pause(&mut self, is_paused: bool) -> bool {
        if is_paused {
            if let Some(subscription) = &self.subscription {
                subscription.pause().await;
            }
            return true;
        }
        // A paused subscription does not start again; its successor does.
        if let Some(subscription) = self.subscription.take() {
            subscription.close().await;
        }
        if let Err(error) = self.subscribe().await {
            tracing::warn!(target: "dapr.component", "cannot resume a subscription: {}", error.chain());
            return false;
        }
        true
    }

    /// Fetches no more and takes the answers to what is under way.
    async fn drain(&self, answers: &mut Streaming<pb::PullMessagesRequest>) {
        let Some(subscription) = &self.subscription else {
            return;
        };
        let closing = subscription.close();
        tokio::pin!(closing);
        loop {
            tokio::select! {
                () = &mut closing => return,
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => self.settle(answer),
                    _ => return,
                },
            }
        }
    }
}

#[tonic::async_trait]
impl PubSub for Broker {
    type PullMessagesStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<pb::PullMessagesResponse, Status>> + Send>>;

    async fn init(
        &self,
        request: Request<pb::PubSubInitRequest>,
    ) -> Result<Response<pb::PubSubInitResponse>, Status> {
        let (caller, _, request) = request.into_parts();
        self.instances.init(&caller, request.metadata).await?;
        Ok(Response::new(pb::PubSubInitResponse {}))
    }

    async fn features(
        &self,
        request: Request<pb::FeaturesRequest>,
    ) -> Result<Response<pb::FeaturesResponse>, Status> {
        let features = self.instances.of(&request)?.features();
        Ok(Response::new(pb::FeaturesResponse { features }))
    }

    async fn publish(
        &self,
        request: Request<pb::PublishRequest>,
    ) -> Result<Response<pb::PublishResponse>, Status> {
        let broker = self.instances.of(&request)?;
        let (caller, _, request) = request.into_parts();
        self.openings.wait(name(&caller)?, &request.topic).await;
        let message = Outgoing {
            topic: request.topic.into(),
            data: request.data,
            content_type: non_empty(request.content_type),
            metadata: from_map(request.metadata),
        };
        broker.publish(message).await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::PublishResponse {}))
    }

    async fn bulk_publish(
        &self,
        request: Request<pb::BulkPublishRequest>,
    ) -> Result<Response<pb::BulkPublishResponse>, Status> {
        let broker = self.instances.of(&request)?;
        let (caller, _, request) = request.into_parts();
        self.openings.wait(name(&caller)?, &request.topic).await;
        let metadata = from_map(request.metadata);
        let entries = request
            .entries
            .into_iter()
            .map(|entry| {
                let mut own = metadata.clone();
                own.extend(entry.metadata);
                OutgoingEntry {
                    id: entry.entry_id.into(),
                    data: entry.event,
                    content_type: non_empty(entry.content_type),
                    metadata: own,
                }
            })
            .collect();
        let failures = broker
            .publish_bulk(&request.topic.into(), entries, &metadata)
            .await;
        let failed_entries = failures
            .into_iter()
            .map(|failure| pb::BulkPublishResponseFailedEntry {
                entry_id: failure.id.to_string(),
                error: failure.error.chain(),
            })
            .collect();
        Ok(Response::new(pb::BulkPublishResponse { failed_entries }))
    }

    async fn pull_messages(
        &self,
        request: Request<Streaming<pb::PullMessagesRequest>>,
    ) -> Result<Response<Self::PullMessagesStream>, Status> {
        let opening = self.openings.begin(name(request.metadata())?);
        let broker = self.instances.of(&request)?;
        let group = self
            .instances
            .setting(&request, CONSUMER_ID)
            .unwrap_or_else(|| self.instances.app_id().to_owned());
        let paused = self.watch_paused(&request)?;
        let mut answers = request.into_inner();
        let topic = answers
            .message()
            .await?
            .and_then(|first| first.topic)
            .ok_or_else(|| Status::invalid_argument("the first message must name the topic"))?;
        opening.of(&topic.name);
        let (desk, stream) = Desk::new();
        let mut pull = Pull {
            broker,
            request: SubscribeRequest {
                topic: topic.name.into(),
                group,
                metadata: from_map(topic.metadata),
                bulk: None,
            },
            desk: Arc::new(desk),
            paused,
            subscription: None,
        };
        if !*pull.paused.borrow_and_update() {
            pull.subscribe().await.map_err(|error| status(&error))?;
        }
        drop(opening);
        let (ending, over) = (self.ending.clone(), CancellationToken::new());
        let ended = over.clone();
        tokio::spawn(async move {
            pull.attend(answers, &ending).await;
            over.cancel();
        });
        let stream = ReceiverStream::new(stream).take_until(ended.cancelled_owned());
        Ok(Response::new(Box::pin(stream)))
    }

    async fn pause(&self, request: Request<pb::PauseRequest>) -> Result<Response<pb::PauseResponse>, Status> {
        self.set_paused(&request, true)?;
        Ok(Response::new(pb::PauseResponse {}))
    }

    async fn resume(
        &self,
        request: Request<pb::ResumeRequest>,
    ) -> Result<Response<pb::ResumeResponse>, Status> {
        self.set_paused(&request, false)?;
        Ok(Response::new(pb::ResumeResponse {}))
    }

    async fn ping(&self, request: Request<pb::PingRequest>) -> Result<Response<pb::PingResponse>, Status> {
        // Before the first Init there is only the process to answer for.
        if let Ok(broker) = self.instances.of(&request) {
            broker.ping().await.map_err(|error| status(&error))?;
        }
        Ok(Response::new(pb::PingResponse {}))
    }
}
