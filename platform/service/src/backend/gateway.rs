//! By the gateway's `State` and `Pubsub` services.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use outrigger_kit::{Event, RetryPolicy};
use outrigger_platform_wire::virtufin::pubsub_client::PubsubClient;
use outrigger_platform_wire::virtufin::state_client::StateClient;
use outrigger_platform_wire::virtufin::{
    DeleteStateRequest, GetStateRequest, PublishRequest, PubsubSubscribeRequest, PubsubSubscribeResponse,
    SaveStateRequest,
};
use outrigger_platform_wire::{API_VERSION, API_VERSION_HEADER};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::{BackendError, Deliveries, Delivery, Expect, Source, Stored, Ways};

/// Events that wait to be taken; then the gateway is not read.
const WAITING: usize = 256;
/// The wait before a broken stream is opened anew: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// One call.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Attributes of an event that travel as `ce-…`; everything else is an extension.
const ATTRIBUTES: [&str; 7] = [
    "id",
    "source",
    "type",
    "time",
    "specversion",
    "datacontenttype",
    "subject",
];

#[derive(Debug)]
pub(super) struct Gateway {
    channel: Channel,
    service: String,
    retry: RetryPolicy,
}

impl Gateway {
    pub(super) fn new(channel: Channel, service: &str, retry: RetryPolicy) -> Self {
        Self {
            channel,
            service: service.to_owned(),
            retry,
        }
    }

    /// Calls, and calls again after what is transient where `again` says that a repeat does no harm.
    async fn call<T, F, Fut>(&self, again: bool, call: F) -> Result<T, BackendError>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut attempt = 0;
        loop {
            match call(self.channel.clone()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => {
                    let error = failure(&status);
                    let delay = self
                        .retry
                        .delay(attempt)
                        .filter(|_| again && error.is_transient());
                    let Some(delay) = delay else {
                        return Err(error);
                    };
                    tokio::time::sleep(delay).await;
                    attempt += 1;
                }
            }
        }
    }
}

impl Ways for Gateway {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, BackendError>> {
        async move {
            let answer = self
                .call(true, |channel| {
                    let ask = request(GetStateRequest {
                        service: self.service.clone(),
                        key: key.to_owned(),
                    });
                    async move { StateClient::new(channel).get_state(ask).await }
                })
                .await?;
            if answer.etag.is_empty() && answer.value.is_empty() {
                return Ok(None);
            }
            let value = serde_json::from_str(&answer.value).unwrap_or(Value::String(answer.value));
            Ok(Some(Stored {
                value,
                etag: answer.etag,
            }))
        }
        .boxed()
    }

    fn save<'a>(
        &'a self,
        key: &'a str,
        value: Value,
        expect: Expect<'a>,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        async move {
            let write = SaveStateRequest {
                service: self.service.clone(),
                key: key.to_owned(),
                value: value.to_string(),
                etag: match expect {
                    Expect::Etag(etag) => etag.to_owned(),
                    Expect::Any | Expect::Absent => String::new(),
                },
                include_value: false,
                create_only: expect == Expect::Absent,
            };
            let again = expect == Expect::Any;
            self.call(again, |channel| {
                let ask = request(write.clone());
                async move { StateClient::new(channel).save_state(ask).await }
            })
            .await
            .map(drop)
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str, etag: Option<&'a str>) -> BoxFuture<'a, Result<(), BackendError>> {
        async move {
            let remove = DeleteStateRequest {
                service: self.service.clone(),
                key: key.to_owned(),
                include_value: false,
                etag: etag.unwrap_or_default().to_owned(),
            };
            self.call(etag.is_none(), |channel| {
                let ask = request(remove.clone());
                async move { StateClient::new(channel).delete_state(ask).await }
            })
            .await
            .map(drop)
        }
        .boxed()
    }

    fn publish<'a>(
        &'a self,
        topic: &'a str,
        event: &'a Event<Value>,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        async move {
            let publish = publication(topic, event);
            // The event's own id tells a repeat.
            self.call(true, |channel| {
                let ask = request(publish.clone());
                async move {
                    let answer = PubsubClient::new(channel).publish_event(ask).await;
                    answer.map_err(not_published)
                }
            })
            .await
            .map(drop)
        }
        .boxed()
    }

    fn publish_all<'a>(
        &'a self,
        topic: &'a str,
        events: &'a [Event<Value>],
    ) -> BoxFuture<'a, Result<Vec<usize>, BackendError>> {
        async move {
            // The gateway takes one at a time; the next one goes when it has the one before, for their order.
            for (place, event) in events.iter().enumerate() {
                match self.publish(topic, event).await {
                    Ok(()) => {}
                    Err(error) if place == 0 => return Err(error),
                    Err(_) => return Ok((place..events.len()).collect()),
                }
            }
            Ok(Vec::new())
        }
        .boxed()
    }

    fn subscribe<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Deliveries, BackendError>> {
        async move {
            let stream = open(&self.channel, topic)
                .await
                .map_err(|status| failure(&status))?;
            let (sender, receiver) = mpsc::channel(WAITING);
            let reader = read(self.channel.clone(), topic.to_owned(), stream, sender);
            Ok(Deliveries(Source::Gateway {
                receiver,
                _reader: AbortOnDropHandle::new(tokio::spawn(reader)),
            }))
        }
        .boxed()
    }
}

/// A request with the client's version of the contract.
fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
        .metadata_mut()
        .insert(API_VERSION_HEADER, MetadataValue::from_static(API_VERSION));
    request
}

async fn open(channel: &Channel, topic: &str) -> Result<Streaming<PubsubSubscribeResponse>, Status> {
    let mut ask = Request::new(PubsubSubscribeRequest {
        topics: vec![topic.to_owned()],
    });
    ask.metadata_mut()
        .insert(API_VERSION_HEADER, MetadataValue::from_static(API_VERSION));
    Ok(PubsubClient::new(channel.clone())
        .subscribe(ask)
        .await?
        .into_inner())
}

/// Passes events on, through restarts of the gateway, until nobody takes them.
async fn read(
    channel: Channel,
    topic: String,
    mut stream: Streaming<PubsubSubscribeResponse>,
    sender: mpsc::Sender<Delivery>,
) {
    let mut pause = PAUSE.0;
    loop {
        let ended = loop {
            match stream.message().await {
                Ok(Some(message)) => match event(message) {
                    Ok(event) => {
                        let delivery = Delivery {
                            event,
                            topic: topic.clone(),
                            verdict: None,
                        };
                        if sender.send(delivery).await.is_err() {
                            return;
                        }
                        pause = PAUSE.0;
                    }
                    Err(error) => tracing::warn!(topic, %error, "an event is no CloudEvent; dropping it"),
                },
                Ok(None) => break "the gateway ended it".to_owned(),
                Err(status) => break status.message().to_owned(),
            }
        };
        tracing::debug!(topic, reason = %ended, "a stream of the gateway ended; opening it anew");
        stream = loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = sender.closed() => return,
            }
            pause = (pause * 2).min(PAUSE.1);
            match open(&channel, &topic).await {
                Ok(stream) => break stream,
                Err(status) => {
                    tracing::warn!(
                        topic,
                        error = status.message(),
                        "the gateway gives no stream; trying again"
                    );
                }
            }
        };
    }
}

/// An event as attributes in metadata and its data (F8).
fn publication(topic: &str, event: &Event<Value>) -> PublishRequest {
    let mut metadata = BTreeMap::from([
        ("ce-id".to_owned(), event.id.clone()),
        ("ce-source".to_owned(), event.source.clone()),
        ("ce-type".to_owned(), event.kind.clone()),
        ("ce-specversion".to_owned(), "1.0".to_owned()),
    ]);
    for (name, value) in [
        ("ce-time", &event.time),
        ("ce-subject", &event.subject),
        ("ce-datacontenttype", &event.content_type),
    ] {
        if let Some(value) = value {
            metadata.insert(name.to_owned(), value.clone());
        }
    }
    for (name, value) in &event.extensions {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        metadata.insert(name.clone(), text);
    }
    let data = match (&event.data, event.content_type.as_deref()) {
        (Value::String(text), Some(kind)) if !kind.contains("json") => Bytes::from(text.clone()),
        (data, _) => Bytes::from(data.to_string()),
    };
    PublishRequest {
        topic: topic.to_owned(),
        data,
        metadata,
        cloudevent: None,
    }
}

/// The event back from metadata and data.
fn event(message: PubsubSubscribeResponse) -> Result<Event<Value>, outrigger_kit::EventError> {
    let mut map = Map::new();
    for (name, value) in message.metadata {
        let name = match name.strip_prefix("ce-") {
            Some(bare) if ATTRIBUTES.contains(&bare) => bare.to_owned(),
            _ => name,
        };
        map.insert(name, Value::String(value));
    }
    map.insert("specversion".to_owned(), Value::from("1.0"));
    let mut default = |name: &str, value: &str| {
        if !value.is_empty() {
            map.entry(name).or_insert_with(|| Value::from(value));
        }
    };
    default("id", &message.message_id);
    default("time", &message.timestamp);
    default("source", "urn:com.virtufin.gateway");
    default("type", &message.topic);
    let data = serde_json::from_slice(&message.data)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&message.data).into_owned()));
    map.insert("data".to_owned(), data);
    Event::from_map(map)
}

/// An error of publishing: where a broker is away the gateway's sidecar answers 500, which the gateway passes on as
/// `INTERNAL`.
fn not_published(status: Status) -> Status {
    match status.code() {
        Code::Internal => Status::unavailable(status.message()),
        _ => status,
    }
}

fn failure(status: &Status) -> BackendError {
    let message = format!("the gateway: {}", status.message());
    match status.code() {
        Code::Aborted => BackendError::Conflict(message),
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown
        // What a store or broker fails with for the moment.
        | Code::Internal
        | Code::ResourceExhausted => BackendError::Unavailable(message),
        _ => BackendError::Refused(message),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_the_same_on_the_other_side() {
        let mut sent = Event::new("tick", "urn:exchange", json!({"price": 1})).about("trade/1");
        sent.extensions.insert("correlationid".to_owned(), json!("c"));
        let publish = publication("ticks", &sent);
        let received = event(PubsubSubscribeResponse {
            topic: publish.topic,
            data: publish.data,
            metadata: publish.metadata,
            message_id: sent.id.clone(),
            ..PubsubSubscribeResponse::default()
        })
        .unwrap();
        assert_eq!(received, sent);
    }
}
