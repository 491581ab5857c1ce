//! Streaming subscriptions, the one gRPC method that services of the kit use; on the same port as HTTP.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use outrigger_wire::dapr::proto::runtime::v1::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as Ask;
use outrigger_wire::dapr::proto::runtime::v1::subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as Told;
use outrigger_wire::dapr::proto::runtime::v1::topic_event_response::TopicEventResponseStatus;
use outrigger_wire::dapr::proto::runtime::v1::{
    SubscribeTopicEventsRequestAlpha1, SubscribeTopicEventsRequestInitialAlpha1,
    SubscribeTopicEventsResponseAlpha1, SubscribeTopicEventsResponseInitialAlpha1, TopicEventRequest,
};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::{Grpc, StreamingService};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::sidecar::Inner;

/// Events of one stream that may be without a verdict at a time.
const IN_FLIGHT: usize = 64;

type Answer = Result<SubscribeTopicEventsResponseAlpha1, Status>;
type Codec = ProstCodec<SubscribeTopicEventsResponseAlpha1, SubscribeTopicEventsRequestAlpha1>;

pub(super) fn routes() -> Router<Arc<Inner>> {
    Router::new().route(
        "/dapr.proto.runtime.v1.Dapr/SubscribeTopicEventsAlpha1",
        post(subscribe),
    )
}

async fn subscribe(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let answer = Grpc::new(Codec::default())
        .streaming(Method(inner), request)
        .await;
    answer.map(axum::body::Body::new)
}

struct Method(Arc<Inner>);

impl StreamingService<SubscribeTopicEventsRequestAlpha1> for Method {
    type Response = SubscribeTopicEventsResponseAlpha1;
    type ResponseStream = ReceiverStream<Answer>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(
        &mut self,
        request: tonic::Request<Streaming<SubscribeTopicEventsRequestAlpha1>>,
    ) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move {
            let mut asks = request.into_inner();
            let first = asks.message().await?;
            let Some(Ask::InitialRequest(initial)) =
                first.and_then(|ask| ask.subscribe_topic_events_request_type)
            else {
                return Err(Status::invalid_argument("initial request is required"));
            };
            let (sender, receiver) = mpsc::channel(IN_FLIGHT);
            tokio::spawn(serve(inner, initial, asks, sender));
            Ok(tonic::Response::new(ReceiverStream::new(receiver)))
        })
    }
}

/// The verdicts that are waited for, by the id of the event's delivery.
type Waiting = Mutex<HashMap<String, oneshot::Sender<bool>>>;

async fn serve(
    inner: Arc<Inner>,
    initial: SubscribeTopicEventsRequestInitialAlpha1,
    mut asks: Streaming<SubscribeTopicEventsRequestAlpha1>,
    sender: mpsc::Sender<Answer>,
) {
    let first = told(Told::InitialResponse(
        SubscribeTopicEventsResponseInitialAlpha1 {},
    ));
    if sender.send(first).await.is_err() {
        return;
    }
    let waiting = Waiting::default();
    let verdicts = async {
        while let Ok(Some(ask)) = asks.message().await {
            let Some(Ask::EventProcessed(processed)) = ask.subscribe_topic_events_request_type else {
                continue;
            };
            if let Some(waits) = waiting.lock().remove(&processed.id) {
                let status = processed.status.map(|status| status.status()).unwrap_or_default();
                let _ = waits.send(status != TopicEventResponseStatus::Retry);
            }
        }
    };
    let deliver = |event: Value| {
        let (inner, initial, waiting, sender) = (&inner, &initial, &waiting, &sender);
        async move {
            if inner.is_down() {
                return false;
            }
            let Some(message) = message(event, initial) else {
                return true;
            };
            let (verdict, waits) = oneshot::channel();
            waiting.lock().insert(message.id.clone(), verdict);
            sender.send(told(Told::EventMessage(message))).await.is_ok() && waits.await.unwrap_or(false)
        }
    };
    let broker = &inner.cluster.0.broker;
    let deliveries =
        join_all((0..IN_FLIGHT).map(|_| broker.subscribe(&initial.topic, &inner.place.app_id, deliver)));
    tokio::select! {
        () = verdicts => {}
        _ = deliveries => {}
        () = sender.closed() => {}
    }
}

#[allow(clippy::unnecessary_wraps, reason = "what the stream carries")]
fn told(told: Told) -> Answer {
    Ok(SubscribeTopicEventsResponseAlpha1 {
        subscribe_topic_events_response_type: Some(told),
    })
}

/// The event as the sidecar sends it over gRPC; `None` if it is no object.
fn message(event: Value, initial: &SubscribeTopicEventsRequestInitialAlpha1) -> Option<TopicEventRequest> {
    let Value::Object(mut event) = event else {
        return None;
    };
    let mut text = |name: &str| match event.remove(name) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let mut message = TopicEventRequest {
        id: text("id"),
        source: text("source"),
        r#type: text("type"),
        spec_version: text("specversion"),
        data_content_type: text("datacontenttype"),
        topic: initial.topic.clone(),
        pubsub_name: initial.pubsub_name.clone(),
        ..TopicEventRequest::default()
    };
    message.data = match event.remove("data") {
        Some(Value::String(text)) if message.data_content_type != "application/json" => Bytes::from(text),
        Some(data) => Bytes::from(data.to_string()),
        None => Bytes::new(),
    };
    for name in ["topic", "pubsubname"] {
        event.remove(name);
    }
    message.extensions = Some(structure(event));
    Some(message)
}

fn structure(map: Map<String, Value>) -> prost_types::Struct {
    prost_types::Struct {
        fields: map
            .into_iter()
            .map(|(name, value)| (name, plain(value)))
            .collect(),
    }
}

fn plain(value: Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        Value::String(value) => Kind::StringValue(value),
        Value::Array(values) => Kind::ListValue(prost_types::ListValue {
            values: values.into_iter().map(plain).collect(),
        }),
        Value::Object(map) => Kind::StructValue(structure(map)),
    };
    prost_types::Value { kind: Some(kind) }
}
