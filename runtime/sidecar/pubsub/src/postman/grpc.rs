//! The postman of gRPC apps (wire.md §4, §6).

use std::collections::BTreeMap;

use outrigger_component::Metadata;
use outrigger_engine_dispatch::{
    Envelope, Field, answer,
    bulk::{self, BulkAnswer, Event},
    field,
};
use outrigger_sidecar_app_channel::GrpcApp;
use outrigger_sidecar_resilience::{Code, Retry};
use outrigger_telemetry::trace::Span;
use outrigger_wire::dapr::proto::runtime::v1::{
    TopicEventBulkRequest, TopicEventBulkRequestEntry, TopicEventCeRequest, TopicEventRequest,
    topic_event_bulk_request_entry::Event as WireEvent,
};
use prost_types::{ListValue, Struct, Value, value::Kind};
use tonic::{Code as Status, Request};

use super::{Batch, BatchError, Reply, headers, span};
use crate::{
    PubsubOptions,
    delivery::{DeliveryError, Message, PUBSUB_NAME},
    service::FreshId,
};

/// The event as gRPC carries it.
///
/// # Errors
/// When the payload does not go with its content type.
pub(crate) fn topic_event(message: &Message<'_>) -> Result<TopicEventRequest, DeliveryError> {
    let event = message.event;
    let data = event.grpc_data(true).map_err(|error| {
        DeliveryError::transient(format!(
            "error returned from app while processing pub/sub event: {error}"
        ))
    })?;
    let text = |name| event.text(name).unwrap_or_default().to_owned();
    Ok(TopicEventRequest {
        id: text(field::ID),
        source: text(field::SOURCE),
        r#type: text(field::TYPE),
        spec_version: text(field::SPEC_VERSION),
        data_content_type: text(field::DATA_CONTENT_TYPE),
        topic: message.topic.to_owned(),
        data: data.into(),
        pubsub_name: message.pubsub.to_owned(),
        path: message.path.to_owned(),
        extensions: Some(extensions(event)),
    })
}

/// Attributes that have no field of their own.
fn extensions(event: &Envelope<'_>) -> Struct {
    let fields = event
        .iter()
        .filter(|(name, _)| {
            !matches!(
                *name,
                field::ID
                    | field::SOURCE
                    | field::DATA_CONTENT_TYPE
                    | field::TYPE
                    | field::SPEC_VERSION
                    | field::DATA
                    | field::DATA_BASE64
            )
        })
        .map(|(name, value)| (name.to_owned(), attribute(value)))
        .collect::<BTreeMap<_, _>>();
    Struct { fields }
}

fn attribute(value: &Field<'_>) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let kind = match value {
        Field::Text(text) => Kind::StringValue(String::from_utf8_lossy(text).into_owned()),
        Field::Bytes(bytes) => Kind::StringValue(STANDARD.encode(bytes)),
        // It was checked when the event was read; only nesting beyond the reader's limit can fail.
        Field::Json(json) => serde_json::from_slice(json).map_or(Kind::NullValue(0), kind),
    };
    Value { kind: Some(kind) }
}

fn kind(value: serde_json::Value) -> Kind {
    use serde_json::Value as Json;
    match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(items) => Kind::ListValue(ListValue {
            values: items
                .into_iter()
                .map(|item| Value {
                    kind: Some(kind(item)),
                })
                .collect(),
        }),
        Json::Object(fields) => Kind::StructValue(Struct {
            fields: fields
                .into_iter()
                .map(|(name, value)| {
                    (
                        name,
                        Value {
                            kind: Some(kind(value)),
                        },
                    )
                })
                .collect(),
        }),
    }
}

fn describe(status: &tonic::Status) -> String {
    format!(
        "rpc error: code = {:?} desc = {}",
        status.code(),
        status.message()
    )
}

pub(super) async fn deliver(
    options: &PubsubOptions,
    app: &GrpcApp,
    message: &Message<'_>,
) -> Result<Reply, DeliveryError> {
    let event = topic_event(message)?;
    let mut span = span(options, message.topic, message.event);
    let mut request = Request::new(event);
    headers::to_grpc(
        message.metadata,
        message.pubsub,
        span.as_ref(),
        request.metadata_mut(),
    );
    let outcome = app.callback().on_topic_event(request).await;
    finish(&mut span, message.topic, outcome.as_ref().err());
    match outcome {
        Ok(response) => Ok(answer::grpc(response.into_inner().status).into()),
        Err(status) => Ok(Reply {
            answer: answer::grpc_failure(status.code() as i32),
            detail: describe(&status),
        }),
    }
}

pub(crate) fn finish(span: &mut Option<Span>, topic: &str, error: Option<&tonic::Status>) {
    if let Some(recording) = span.as_mut().and_then(Span::recording) {
        recording.subscription(topic);
        if let Some(status) = error {
            recording.set_error(status.message());
        }
    }
}

pub(super) async fn deliver_bulk(
    options: &PubsubOptions,
    app: &GrpcApp,
    batch: &Batch<'_>,
) -> Result<BulkAnswer, BatchError> {
    let mut spans: Vec<Option<Span>> = Vec::new();
    let mut entries = Vec::with_capacity(batch.entries.len());
    for entry in batch.entries {
        let event = match &entry.event {
            Event::Raw(bytes) => Some(WireEvent::Bytes(bytes.to_vec().into())),
            Event::Envelope(event) => {
                spans.extend(Some(span(options, batch.topic, event)).filter(Option::is_some));
                // An entry that cannot be sent stays without an answer, so it is refused.
                ce_request(event).map(WireEvent::CloudEvent)
            }
        };
        let Some(event) = event else { continue };
        entries.push(TopicEventBulkRequestEntry {
            entry_id: entry.id.to_owned(),
            content_type: entry.content_type.to_owned(),
            metadata: entry
                .metadata
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            event: Some(event),
        });
    }
    let body = TopicEventBulkRequest {
        id: FreshId::new().as_str().to_owned(),
        entries,
        metadata: [(PUBSUB_NAME.to_owned(), batch.pubsub.to_owned())].into(),
        topic: batch.topic.to_owned(),
        pubsub_name: batch.pubsub.to_owned(),
        r#type: field::DEFAULT_BULK_TYPE.to_owned(),
        path: batch.path.to_owned(),
    };
    let last = spans.last().and_then(Option::as_ref);
    let request = |body| {
        let mut request = Request::new(body);
        headers::to_grpc(&Metadata::new(), batch.pubsub, last, request.metadata_mut());
        request
    };
    let mut outcome = app.callback().on_bulk_topic_event(request(body.clone())).await;
    if outcome
        .as_ref()
        .is_err_and(|status| status.code() == Status::Unimplemented)
    {
        tracing::debug!(target: "dapr.runtime.processor.pubsub.subscription.grpc", "falling back to OnBulkTopicEventAlpha1 due to unimplemented error");
        outcome = app
            .callback_alpha()
            .on_bulk_topic_event_alpha1(request(body))
            .await;
    }
    for span in &mut spans {
        finish(span, batch.topic, outcome.as_ref().err());
    }
    match outcome {
        Ok(response) => {
            let ids: Vec<&str> = batch.entries.iter().map(|entry| entry.id).collect();
            let statuses = response.into_inner().statuses;
            Ok(bulk::grpc(
                &ids,
                statuses
                    .into_iter()
                    .map(|status| (status.entry_id, status.status)),
            ))
        }
        Err(status) if status.code() == Status::Unimplemented => {
            tracing::warn!(target: "dapr.runtime.processor.pubsub.subscription.grpc", "non-retriable error returned from app while processing bulk pub/sub event: {}", describe(&status));
            Ok(BulkAnswer::NotFound)
        }
        Err(status) => Err(BatchError::Failed {
            text: format!(
                "error returned from app while processing bulk pub/sub event: {}",
                describe(&status)
            ),
            verdict: Retry::Code(Code::Grpc(status.code() as i32)),
        }),
    }
}

fn ce_request(event: &Envelope<'_>) -> Option<TopicEventCeRequest> {
    let text = |name| event.text(name).unwrap_or_default().to_owned();
    Some(TopicEventCeRequest {
        id: text(field::ID),
        source: text(field::SOURCE),
        r#type: text(field::TYPE),
        spec_version: text(field::SPEC_VERSION),
        data_content_type: text(field::DATA_CONTENT_TYPE),
        data: event.grpc_data(false).ok()?.into(),
        extensions: Some(extensions(event)),
    })
}
