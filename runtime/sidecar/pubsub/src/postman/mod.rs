//! Hands events to the app: one postman per way in (upstream `pkg/runtime/subscription/postman`).

mod grpc;
mod headers;
mod http;

use std::{sync::Arc, time::Instant};

use outrigger_engine_dispatch::{answer::Answer, bulk};
use outrigger_sidecar_resilience::{Code, Retry};
use outrigger_telemetry::{
    metrics::ProcessStatus,
    trace::{Span, SpanContext},
};

use crate::{
    PubsubOptions,
    delivery::{DeliveryError, Message},
    stream::Connection,
};

pub(crate) use grpc::topic_event;

/// The way to the app.
#[derive(Debug)]
pub(crate) enum Postman {
    /// By what the app serves, HTTP or gRPC.
    App,
    /// By a stream that the app holds open.
    Stream(Arc<Connection>),
}

/// A batch on its way to the app.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) pubsub: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) path: &'a str,
    pub(crate) uri: &'a ::http::uri::PathAndQuery,
    pub(crate) entries: &'a [bulk::Entry<'a>],
}

/// Why a batch as a whole did not arrive.
#[derive(Debug)]
pub(crate) enum BatchError {
    Unhealthy,
    Failed { text: String, verdict: Retry },
}

impl Postman {
    /// Hands over one event and counts what the app says.
    pub(crate) async fn deliver(
        &self,
        options: &PubsubOptions,
        message: &Message<'_>,
    ) -> Result<(), DeliveryError> {
        let start = Instant::now();
        let answer = match self {
            Self::Stream(connection) => connection.deliver(options, message).await,
            Self::App => {
                let Some(app) = options.app.load_full() else {
                    return Err(DeliveryError::transient("app channel is not initialized"));
                };
                match app.grpc() {
                    Some(grpc) => grpc::deliver(options, &grpc, message).await,
                    None => http::deliver(options, &app, message).await,
                }
            }
        };
        let elapsed = start.elapsed();
        let count = |status, text| {
            options
                .metrics
                .pubsub_ingress(message.pubsub, status, text, message.topic, elapsed);
        };
        let Reply { answer, detail } = match answer {
            Ok(reply) => reply,
            Err(error) => {
                if matches!(error, DeliveryError::Failed { .. }) {
                    count(ProcessStatus::Retry, "");
                }
                return Err(error);
            }
        };
        let id = message.event.id();
        match answer {
            Answer::Success => {
                count(ProcessStatus::Success, "");
                Ok(())
            }
            Answer::Drop => {
                tracing::warn!(target: "dapr.runtime.processor.pubsub.subscription", "DROP status returned from app while processing pub/sub event {id}");
                count(
                    ProcessStatus::Drop,
                    if matches!(self, Self::App) { "success" } else { "" },
                );
                Err(DeliveryError::Dropped)
            }
            Answer::NotFound => {
                tracing::error!(target: "dapr.runtime.processor.pubsub.subscription", "non-retriable error returned from app while processing pub/sub event {id}: {detail}. status code returned: 404");
                count(ProcessStatus::Drop, "");
                Err(DeliveryError::Dropped)
            }
            Answer::Unimplemented => {
                tracing::warn!(target: "dapr.runtime.processor.pubsub.subscription", "non-retriable error returned from app while processing pub/sub event {id}: {detail}");
                count(ProcessStatus::Drop, "");
                Ok(())
            }
            Answer::Retry => {
                count(ProcessStatus::Retry, "");
                Err(DeliveryError::transient(format!(
                    "RETRY status returned from app while processing pub/sub event {id}"
                )))
            }
            Answer::Unknown(status) => {
                count(ProcessStatus::Retry, "");
                Err(DeliveryError::transient(format!(
                    "unknown status returned from app while processing pub/sub event {id}, status: {status}"
                )))
            }
            Answer::HttpStatus(status) => {
                count(ProcessStatus::Retry, "");
                let topic = message.topic;
                Err(DeliveryError::Failed {
                    text: format!(
                        "retriable error returned from app while processing pub/sub event {id}, topic: {topic}, body: {detail}. status code returned: {status}"
                    ),
                    verdict: Retry::Code(Code::Http(status)),
                })
            }
            Answer::GrpcStatus(code) => {
                count(ProcessStatus::Retry, "");
                Err(DeliveryError::Failed {
                    text: format!("error returned from app while processing pub/sub event {id}: {detail}"),
                    verdict: Retry::Code(Code::Grpc(code)),
                })
            }
        }
    }

    /// Hands over a batch.
    pub(crate) async fn deliver_bulk(
        &self,
        options: &PubsubOptions,
        batch: &Batch<'_>,
    ) -> Result<bulk::BulkAnswer, BatchError> {
        let failed = |text: &str| BatchError::Failed {
            text: text.to_owned(),
            verdict: Retry::Transient,
        };
        if matches!(self, Self::Stream(_)) {
            return Err(failed("streams take no batches"));
        }
        let Some(app) = options.app.load_full() else {
            return Err(failed("app channel is not initialized"));
        };
        match app.grpc() {
            Some(grpc) => grpc::deliver_bulk(options, &grpc, batch).await,
            None => http::deliver_bulk(options, &app, batch).await,
        }
    }
}

/// What the app said, and what to log of it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    pub(crate) detail: String,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self {
            answer,
            detail: String::new(),
        }
    }
}

/// The span of an event that belongs to a trace; an event whose trace is no text has none (P6).
pub(crate) fn span(
    options: &PubsubOptions,
    topic: &str,
    event: &outrigger_engine_dispatch::Envelope<'_>,
) -> Option<Span> {
    let parent = SpanContext::from_traceparent(event.trace()?).unwrap_or_default();
    options.tracer.subscription(topic, &parent)
}
