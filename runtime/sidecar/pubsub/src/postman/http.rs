//! The postman of HTTP apps (wire.md §4, "Delivery HTTP").

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Limited};
use outrigger_component::Metadata;
use outrigger_engine_dispatch::{
    answer::{self, Answer},
    bulk::{self, BulkAnswer, Event},
    content_type,
};
use outrigger_sidecar_api::Body;
use outrigger_sidecar_app_channel::{AppChannel, AppError};
use outrigger_sidecar_resilience::Retry;
use outrigger_telemetry::trace::Span;

use super::{Batch, BatchError, Reply, headers, span};
use crate::{
    PubsubOptions,
    delivery::{DeliveryError, Message, PUBSUB_NAME},
    service::FreshId,
};

/// Answers larger than this are not looked at.
const MAX_ANSWER: usize = 16 << 20;
/// How much of a failed answer goes to the log.
const MAX_DETAIL: usize = 1024;

fn request(
    uri: &PathAndQuery,
    content_type: &'static str,
    metadata: &Metadata,
    pubsub: &str,
    span: Option<&Span>,
    body: Bytes,
) -> Request<Body> {
    let mut request = Request::new(Body::whole(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.clone().into();
    let headers = request.headers_mut();
    headers::to_http(metadata, pubsub, span, headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    request
}

/// An answer that breaks off says nothing.
async fn body(response: Response<Body>) -> Bytes {
    let body = response.into_body();
    if let Some(whole) = body.as_whole() {
        return whole;
    }
    Limited::new(body, MAX_ANSWER)
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default()
}

pub(super) async fn deliver(
    options: &PubsubOptions,
    app: &AppChannel,
    message: &Message<'_>,
) -> Result<Reply, DeliveryError> {
    let mut span = span(options, message.topic, message.event);
    let request = request(
        message.uri,
        content_type::CLOUD_EVENT,
        message.metadata,
        message.pubsub,
        span.as_ref(),
        message.body.clone(),
    );
    let response = app.send(request).await.map_err(|error| match error {
        AppError::Unhealthy => DeliveryError::Unhealthy,
        error => DeliveryError::transient(format!(
            "error returned from app channel while sending pub/sub event to app: {error}"
        )),
    })?;
    let status = response.status().as_u16();
    finish(&mut span, message.topic, status);
    let body = body(response).await;
    let answer = answer::http(status, &body);
    let detail = match answer {
        Answer::NotFound | Answer::HttpStatus(_) => {
            String::from_utf8_lossy(&body[..body.len().min(MAX_DETAIL)]).into_owned()
        }
        _ => String::new(),
    };
    Ok(Reply { answer, detail })
}

fn finish(span: &mut Option<Span>, topic: &str, status: u16) {
    if let Some(recording) = span.as_mut().and_then(Span::recording) {
        recording.subscription(topic);
        recording.http_status(status);
    }
}

pub(super) async fn deliver_bulk(
    options: &PubsubOptions,
    app: &AppChannel,
    batch: &Batch<'_>,
) -> Result<BulkAnswer, BatchError> {
    let mut spans: Vec<Option<Span>> = batch
        .entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Envelope(event) => Some(span(options, batch.topic, event)),
            Event::Raw(_) => None,
        })
        .filter(Option::is_some)
        .collect();
    let metadata: Metadata = [(PUBSUB_NAME.to_owned(), batch.pubsub.to_owned())].into();
    let id = FreshId::new();
    let json = bulk::to_json(
        id.as_str(),
        batch.topic,
        batch.pubsub,
        Some(&metadata),
        batch.entries,
    );
    let request = request(
        batch.uri,
        content_type::JSON,
        &Metadata::new(),
        batch.pubsub,
        spans.last().and_then(Option::as_ref),
        Bytes::from(json),
    );
    let response = app.send(request).await.map_err(|error| match error {
        AppError::Unhealthy => BatchError::Unhealthy,
        error => BatchError::Failed {
            text: format!("error from app channel while sending pub/sub event to app: {error}"),
            verdict: Retry::Transient,
        },
    })?;
    let status = response.status().as_u16();
    for span in &mut spans {
        finish(span, batch.topic, status);
    }
    let body = body(response).await;
    let ids: Vec<&str> = batch.entries.iter().map(|entry| entry.id).collect();
    Ok(bulk::http(status, &body, batch.topic, &ids))
}
