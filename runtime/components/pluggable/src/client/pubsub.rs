//! Brokers in another process (upstream `pkg/components/pubsub/pluggable.go`).

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::BoxFuture;
use outrigger_component::{Error, Metadata, Spec};
use outrigger_pubsub::{
    BulkFailure, Capabilities, Delivery, DynPubSub, Handler, Outgoing, OutgoingEntry, PubSub,
    SubscribeRequest, Subscription, SubscriptionControl, Verdict, guard,
};
use outrigger_types::{AppId, Topic};
use outrigger_wire::dapr::proto::components::v1::{self as pb, pub_sub_client::PubSubClient};
use tokio::sync::Mutex;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status, Streaming};

use super::{
    link::{Link, Wire},
    pull::{Feed, Pulling},
};
use crate::{
    MAX_MESSAGE,
    status::error,
    wire::{non_empty, to_map},
};

const LOG: &str = "dapr.runtime.pluggable";
/// Feature of components that batch by themselves: each of their messages is a batch that must not wait for others.
const IMMEDIATE: &str = "BULK_SUBSCRIBE_IMMEDIATE";
/// Setting that names the consumer group; upstream fills in the app id where it is blank.
const CONSUMER_ID: &str = "consumerID";

/// A broker behind a socket.
#[derive(Debug)]
struct PluggablePubSub {
    name: String,
    link: Arc<Link>,
    features: Vec<String>,
    capabilities: Capabilities,
    fleet: Arc<Fleet>,
}

/// The subscriptions of a broker. The protocol pauses the component as a whole, so it is paused with the last of
/// them and resumed with the next.
#[derive(Debug)]
struct Fleet {
    link: Arc<Link>,
    state: Mutex<FleetState>,
}

#[derive(Debug, Default)]
struct FleetState {
    fetching: usize,
    paused: bool,
}

pub(super) fn properties(spec: &Spec) -> HashMap<String, String> {
    spec.properties
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn client(wire: Wire) -> PubSubClient<Wire> {
    PubSubClient::new(wire).max_decoding_message_size(MAX_MESSAGE)
}

/// Opens the broker that listens at the socket.
pub(crate) async fn open_pubsub(
    socket: PathBuf,
    spec: Spec,
    app_id: AppId,
) -> Result<Arc<dyn DynPubSub>, Error> {
    let mut properties = properties(&spec);
    if spec
        .properties
        .get(CONSUMER_ID)
        .is_none_or(|id| id.trim().is_empty())
    {
        properties.retain(|name, _| !name.eq_ignore_ascii_case(CONSUMER_ID));
        properties.insert(CONSUMER_ID.to_owned(), app_id.to_string());
    }
    let link = Link::open(socket, &spec, properties, |wire, metadata| {
        Box::pin(async move {
            let request = pb::PubSubInitRequest {
                metadata: Some(metadata),
            };
            client(wire).init(request).await.map(|_| ())
        })
    })
    .await?;
    let features = client(link.wire().await?)
        .features(pb::FeaturesRequest {})
        .await
        .map_err(|status| error(&status))?
        .into_inner()
        .features;
    let has = |feature: &str| features.iter().any(|name| name == feature);
    let capabilities = Capabilities {
        bulk_publish: has("BULK_PUBSUB"),
        message_ttl: has("MESSAGE_TTL"),
        wildcards: has("SUBSCRIBE_WILDCARDS"),
    };
    Ok(Arc::new(PluggablePubSub {
        name: spec.name.to_string(),
        fleet: Arc::new(Fleet {
            link: Arc::clone(&link),
            state: Mutex::default(),
        }),
        link,
        features,
        capabilities,
    }))
}

impl PubSub for PluggablePubSub {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn features(&self) -> Vec<String> {
        self.features.clone()
    }

    async fn publish(&self, message: Outgoing) -> Result<(), Error> {
        let request = pb::PublishRequest {
            data: message.data,
            pubsub_name: self.name.clone(),
            topic: message.topic.to_string(),
            metadata: to_map(&message.metadata),
            content_type: message.content_type.unwrap_or_default(),
        };
        let answer = client(self.link.wire().await?).publish(request).await;
        answer.map(|_| ()).map_err(|status| error(&status))
    }

    async fn publish_bulk(
        &self,
        topic: &Topic,
        entries: Vec<OutgoingEntry>,
        metadata: &Metadata,
    ) -> Vec<BulkFailure> {
        let ids: Vec<_> = entries.iter().map(|entry| Arc::clone(&entry.id)).collect();
        let request = pb::BulkPublishRequest {
            entries: entries
                .into_iter()
                .map(|entry| pb::BulkMessageEntry {
                    entry_id: entry.id.to_string(),
                    event: entry.data,
                    content_type: entry.content_type.unwrap_or_default(),
                    metadata: to_map(&entry.metadata),
                })
                .collect(),
            pubsub_name: self.name.clone(),
            topic: topic.to_string(),
            metadata: to_map(metadata),
        };
        let answer = async {
            let wire = self.link.wire().await?;
            client(wire)
                .bulk_publish(request)
                .await
                .map_err(|status| error(&status))
        }
        .await;
        match answer {
            Ok(answer) => answer
                .into_inner()
                .failed_entries
                .into_iter()
                .map(|failed| BulkFailure {
                    id: failed.entry_id.into(),
                    error: Error::internal(failed.error),
                })
                .collect(),
            Err(whole) => ids
                .into_iter()
                .map(|id| BulkFailure {
                    id,
                    error: Error::new(whole.kind(), whole.chain()),
                })
                .collect(),
        }
    }

    async fn subscribe(
        &self,
        request: SubscribeRequest,
        handler: Arc<dyn Handler>,
    ) -> Result<Subscription, Error> {
        let immediate = self.features.iter().any(|feature| feature == IMMEDIATE);
        let feed = Topics {
            name: format!("the subscription to topic {} of {}", request.topic, self.name),
            // One after the other keeps the component's order, as upstream does; batches need several at hand.
            at_once: match request.bulk {
                Some(bulk) if !immediate => bulk.max_messages.max(1),
                _ => 1,
            },
            alone: immediate && request.bulk.is_some(),
            topic: pb::Topic {
                name: request.topic.to_string(),
                metadata: to_map(&request.metadata),
            },
            handler,
        };
        let mut fleet = self.fleet.state.lock().await;
        if fleet.paused {
            let resumed = client(self.link.wire().await?).resume(pb::ResumeRequest {}).await;
            resumed.map_err(|status| error(&status))?;
            fleet.paused = false;
        }
        let pulling = Pulling::start(Arc::clone(&self.link), feed).await?;
        fleet.fetching += 1;
        Ok(Subscription::new(Control {
            pulling,
            fleet: Arc::clone(&self.fleet),
            left: AtomicBool::new(false),
        }))
    }

    async fn ping(&self) -> Result<(), Error> {
        let answer = client(self.link.wire().await?).ping(pb::PingRequest {}).await;
        answer.map(|_| ()).map_err(|status| error(&status))
    }

    async fn close(&self) -> Result<(), Error> {
        self.link.close();
        Ok(())
    }
}

impl Fleet {
    /// One subscription fetches no more. With the last one the component is asked to hold its messages back; most
    /// cannot, and then closing the streams has to do.
    async fn leave(&self) {
        let mut state = self.state.lock().await;
        state.fetching = state.fetching.saturating_sub(1);
        if state.fetching > 0 || state.paused {
            return;
        }
        let Ok(wire) = self.link.wire().await else { return };
        match client(wire).pause(pb::PauseRequest {}).await {
            Ok(_) => state.paused = true,
            Err(status) if status.code() == Code::Unimplemented => {
                tracing::debug!(target: LOG, "the pluggable broker does not implement Pause");
            }
            Err(status) => {
                tracing::warn!(target: LOG, "failed to pause a pluggable broker: {}", error(&status).chain());
            }
        }
    }
}

struct Control {
    pulling: Pulling,
    fleet: Arc<Fleet>,
    /// Whether it no longer counts as fetching.
    left: AtomicBool,
}

impl Control {
    async fn leave(&self) {
        if !self.left.swap(true, Ordering::AcqRel) {
            self.fleet.leave().await;
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if !self.left.load(Ordering::Acquire)
            && let Ok(mut state) = self.fleet.state.try_lock()
        {
            state.fetching = state.fetching.saturating_sub(1);
        }
    }
}

impl SubscriptionControl for Control {
    fn pause(&self) -> BoxFuture<'_, ()> {
        self.pulling.stop();
        Box::pin(self.leave())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.pulling.stop();
            self.leave().await;
            self.pulling.finish().await;
        })
    }
}

/// The messages of one topic.
struct Topics {
    name: String,
    at_once: usize,
    /// Each message is a batch.
    alone: bool,
    topic: pb::Topic,
    handler: Arc<dyn Handler>,
}

impl Feed for Topics {
    type In = pb::PullMessagesResponse;
    type Out = pb::PullMessagesRequest;

    fn open(
        &self,
        wire: Wire,
        answers: ReceiverStream<Self::Out>,
    ) -> BoxFuture<'static, Result<Response<Streaming<Self::In>>, Status>> {
        Box::pin(async move { client(wire).pull_messages(answers).await })
    }

    fn greeting(&self) -> Option<Self::Out> {
        Some(pb::PullMessagesRequest {
            topic: Some(self.topic.clone()),
            ..Self::Out::default()
        })
    }

    fn handle(&self, message: Self::In) -> BoxFuture<'_, Option<Self::Out>> {
        Box::pin(async move {
            let delivery = Delivery {
                topic: message.topic_name.into(),
                data: message.data,
                content_type: non_empty(message.content_type),
                metadata: Arc::new(message.metadata.into_iter().collect()),
                id: None,
            };
            let verdict = if self.alone {
                guard::handle_bulk(&*self.handler, vec![delivery]).await.pop()
            } else {
                Some(guard::handle(&*self.handler, delivery).await)
            };
            let ack_error = match verdict? {
                Verdict::Ack => None,
                Verdict::Retry(error) => Some(pb::AckMessageError {
                    message: error.chain(),
                }),
                // The app did not see it: no word, so that nothing counts against the message.
                Verdict::Release => return None,
            };
            Some(pb::PullMessagesRequest {
                topic: None,
                ack_message_id: message.id,
                ack_error,
            })
        })
    }

    fn refuse(&self, _message: Self::In) -> Option<Self::Out> {
        // No word: a refusal could send the message to a dead letter topic.
        None
    }

    fn at_once(&self) -> usize {
        self.at_once
    }

    fn name(&self) -> &str {
        &self.name
    }
}
