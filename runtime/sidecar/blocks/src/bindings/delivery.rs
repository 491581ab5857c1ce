//! One event on its way to the app (upstream `sendBindingEventToApp`).

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use outrigger_bindings::{Event, EventHandler};
use outrigger_component::{Error, ErrorKind, Metadata};
use outrigger_sidecar_api::Body;
use outrigger_sidecar_app_channel::GrpcApp;
use outrigger_sidecar_resilience::{ComponentKind, Retry, Retryable, RunError};
use outrigger_telemetry::trace::{Span, SpanContext};
use outrigger_wire::dapr::proto::runtime::v1::BindingEventRequest;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tonic::metadata::{AsciiMetadataValue, BinaryMetadataValue};

use super::{answer::Answer, input::Inner};
use crate::call::app_error;

const METHOD: &str = "/dapr.proto.runtime.v1.AppCallback/OnBindingEvent";
/// What a path of the app may not hold as it is; a query may follow it, as upstream.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The app's path for a route.
pub(super) fn path(route: &str) -> String {
    format!("/{}", utf8_percent_encode(route.trim_start_matches('/'), PATH))
}

/// Takes the events of one binding.
pub(super) struct Delivery {
    pub(super) inner: Arc<Inner>,
    pub(super) binding: String,
    pub(super) route: String,
}

/// A failed attempt: no answer, or one with a status that is not 200.
enum Failure {
    Unreached(Error),
    Status(StatusCode, Bytes),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreached(error) => f.write_str(&error.chain()),
            Self::Status(status, _) => {
                write!(
                    f,
                    "error sending binding event to application, status {}",
                    status.as_u16()
                )
            }
        }
    }
}

impl Retryable for Failure {
    fn verdict(&self) -> Retry {
        match self {
            Self::Unreached(error) => error.verdict(),
            Self::Status(status, _) => {
                Error::new(ErrorKind::Status(status.as_u16().into()), String::new()).verdict()
            }
        }
    }
}

impl EventHandler for Delivery {
    fn handle(&self, event: Event) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        Box::pin(async move {
            let began = Instant::now();
            let delivered = self.deliver(event).await;
            self.inner
                .around
                .metrics
                .input_binding(&self.binding, delivered.is_ok(), began.elapsed());
            if let Err(error) = &delivered {
                tracing::debug!(
                    target: "dapr.runtime.processor.binding.input",
                    "error from app consumer for binding [{}]: {}", self.binding, error.chain()
                );
            }
            delivered
        })
    }
}

impl Delivery {
    async fn deliver(&self, event: Event) -> Result<Option<Bytes>, Error> {
        let parent = parent(&event.metadata);
        let span = self
            .inner
            .tracer
            .input_binding(&self.binding, &parent.clone().unwrap_or_default());
        match self.inner.app.as_ref() {
            None => Err(Error::unavailable("app channel not initialized")),
            Some(app) => match app.grpc() {
                Some(grpc) => self.deliver_grpc(&grpc, event, span, parent).await,
                None => self.deliver_http(event, span).await,
            },
        }
    }

    async fn deliver_http(&self, event: Event, mut span: Option<Span>) -> Result<Option<Bytes>, Error> {
        let Some(app) = &self.inner.app else {
            return Err(Error::unavailable("app channel not initialized"));
        };
        let head = headers(&event.metadata, span.as_ref().map(Span::context));
        let path = path(&self.route);
        let sent = self
            .inner
            .around
            .inbound(&self.binding, ComponentKind::Binding)
            .run(|_| async {
                let mut request = Request::builder()
                    .method(Method::POST)
                    .uri(&path)
                    .body(Body::whole(event.data.clone()))
                    .map_err(|error| {
                        Failure::Unreached(Error::invalid("cannot form the request").with_source(error))
                    })?;
                *request.headers_mut() = head.clone();
                let response = app
                    .send(request)
                    .await
                    .map_err(|error| Failure::Unreached(app_error(&error)))?;
                let status = response.status();
                let body = Limited::new(response.into_body(), self.inner.max_answer)
                    .collect()
                    .await
                    .map_err(|error| {
                        Failure::Unreached(Error::internal(format!("failed to read response body: {error}")))
                    })?
                    .to_bytes();
                if status == StatusCode::OK {
                    Ok(body)
                } else {
                    Err(Failure::Status(status, body))
                }
            })
            .await;
        let (status, body) = match sent {
            Ok(body) => (StatusCode::OK, body),
            // Only 200 satisfies the policy, any success satisfies us.
            Err(RunError::Op(Failure::Status(status, body))) => (status, body),
            Err(error) => return Err(invoking(&error)),
        };
        if let Some(recording) = span.as_mut().and_then(Span::recording) {
            recording.input_binding(&self.binding, &format!("POST /{}", self.binding));
            recording.http_status(status.as_u16());
        }
        if !status.is_success() {
            return Err(Error::new(
                ErrorKind::Status(status.as_u16().into()),
                format!(
                    "fails to send binding event to http app channel, status code: {} body: {}",
                    status.as_u16(),
                    String::from_utf8_lossy(&body)
                ),
            ));
        }
        self.carry_out(Answer::from_body(&body)).await;
        Ok(Some(body).filter(|body| !body.is_empty()))
    }

    async fn deliver_grpc(
        &self,
        app: &GrpcApp,
        event: Event,
        mut span: Option<Span>,
        parent: Option<SpanContext>,
    ) -> Result<Option<Bytes>, Error> {
        let message = BindingEventRequest {
            name: self.binding.clone(),
            data: event.data,
            metadata: event.metadata.into_iter().collect(),
        };
        let context = span.as_ref().map(Span::context).cloned().or(parent);
        let began = Instant::now();
        let sent = self
            .inner
            .around
            .inbound(&self.binding, ComponentKind::Binding)
            .run(|_| async {
                let mut request = tonic::Request::new(message.clone());
                attach(&mut request, context.as_ref());
                app.callback().on_binding_event(request).await.map_err(|status| {
                    let text = format!(
                        "rpc error: code = {:?} desc = {}",
                        status.code(),
                        status.message()
                    );
                    Failed {
                        error: Error::new(ErrorKind::Status(status.code() as i32), text),
                        code: status.code(),
                    }
                })
            })
            .await;
        let code = match &sent {
            Ok(_) => tonic::Code::Ok,
            Err(RunError::Op(failed)) => failed.code,
            Err(RunError::Timeout) => tonic::Code::DeadlineExceeded,
            Err(_) => tonic::Code::Unknown,
        };
        let answered = sent.as_ref().map_or(0, |answer| answer.get_ref().data.len());
        self.inner.around.metrics.grpc_server_completed(
            METHOD,
            code as i32,
            message.data.len() as u64,
            answered as u64,
            began.elapsed(),
        );
        if let Some(recording) = span.as_mut().and_then(Span::recording) {
            recording.input_binding(&self.binding, METHOD);
            if let Err(error) = &sent {
                recording.set_error(error.to_string());
            }
        }
        let answer = sent.map_err(|error| invoking(&error))?.into_inner();
        let body = Some(answer.data.clone()).filter(|data| !data.is_empty());
        self.carry_out(Answer::from_message(answer)).await;
        Ok(body)
    }

    async fn carry_out(&self, answer: Answer) {
        answer
            .carry_out(&self.binding, &self.inner.outputs, self.inner.state.as_deref())
            .await;
    }
}

/// A gRPC failure with its code, for the metric.
struct Failed {
    error: Error,
    code: tonic::Code,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.error.chain())
    }
}

impl Retryable for Failed {
    fn verdict(&self) -> Retry {
        self.error.verdict()
    }
}

fn invoking<E: std::fmt::Display>(error: &RunError<E>) -> Error {
    Error::unavailable(format!("error invoking app: {error}"))
}

/// The trace that the backend's metadata names; `grpc-trace-bin` wins.
fn parent(metadata: &Metadata) -> Option<SpanContext> {
    let text = |name| metadata.get(name).map(String::as_str);
    SpanContext::from_grpc(
        text("grpc-trace-bin").map(str::as_bytes),
        text("traceparent"),
        text("tracestate"),
    )
}

/// The binding's metadata as headers, without those that belong to the connection.
fn headers(metadata: &Metadata, context: Option<&SpanContext>) -> http::HeaderMap {
    const SKIPPED: [&str; 14] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "te",
        "trailer",
        "content-type",
        "content-length",
        "host",
        "destination-app-id",
    ];
    let mut headers = http::HeaderMap::new();
    for (name, value) in metadata {
        let lower = name.to_ascii_lowercase();
        if SKIPPED.contains(&lower.as_str()) || lower.ends_with("-bin") {
            continue;
        }
        let name = if lower.starts_with("grpc-") {
            format!("dapr-{lower}")
        } else {
            lower
        };
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(context) = context.filter(|context| context.is_valid()) {
        if let Ok(value) = HeaderValue::from_str(context.traceparent().as_str()) {
            headers.insert("traceparent", value);
        }
        match context
            .outgoing_tracestate()
            .and_then(|state| HeaderValue::from_str(state).ok())
        {
            Some(state) => headers.insert("tracestate", state),
            None => headers.remove("tracestate"),
        };
    }
    headers
}

fn attach<T>(request: &mut tonic::Request<T>, context: Option<&SpanContext>) {
    let Some(context) = context.filter(|context| context.is_valid()) else {
        return;
    };
    let metadata = request.metadata_mut();
    if let Some(binary) = context.to_binary() {
        metadata.insert_bin("grpc-trace-bin", BinaryMetadataValue::from_bytes(&binary));
    }
    if let Ok(value) = AsciiMetadataValue::try_from(context.traceparent().as_str()) {
        metadata.insert("traceparent", value);
    }
    if let Some(value) = context
        .outgoing_tracestate()
        .and_then(|state| AsciiMetadataValue::try_from(state).ok())
    {
        metadata.insert("tracestate", value);
    }
}
