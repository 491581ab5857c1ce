//! Spans of the gRPC API (C1, C3; upstream `pkg/diagnostics/grpc_tracing.go`).

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use outrigger_telemetry::{
    Tracer,
    trace::{LogIds, Protocol, Recording, Span, SpanContext, baggage},
};
use outrigger_types::AppId;
use tonic::{Code, Status};

use crate::{
    answer::{BINARY, GRPC_STATUS},
    methods::{INVOKE_SERVICE, Route},
};

const TRACE_BIN: HeaderName = HeaderName::from_static("grpc-trace-bin");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const CALLEE: HeaderName = HeaderName::from_static("dapr-callee-app-id");
const APP_ID: HeaderName = HeaderName::from_static("dapr-app-id");

/// What a handler tells of its request for the span.
#[derive(Debug, Clone)]
pub(crate) enum Note {
    /// The app and the method that are invoked.
    Invocation(String, String),
    /// The topic.
    Publish(String),
    /// The binding.
    Binding(String),
    /// The state store.
    State(String),
    /// The secret store.
    Secret(String),
    /// The conversation component.
    Conversation(String),
}

/// Where a handler leaves its note; an extension of requests whose span is recorded.
#[derive(Debug, Clone, Default)]
struct NotePad(Arc<OnceLock<Note>>);

/// Leaves a note, if somebody reads it.
pub(crate) fn note(extensions: &Extensions, note: impl FnOnce() -> Note) {
    if let Some(pad) = extensions.get::<NotePad>() {
        let _ = pad.0.set(note());
    }
}

/// The context of the call's span; the invalid one when tracing is off.
pub(crate) fn span_of(extensions: &Extensions) -> SpanContext {
    extensions.get::<SpanContext>().cloned().unwrap_or_default()
}

/// Which answers carry the context of the span (upstream sets it after the handler has run, when what streams has
/// sent its header already).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    All,
    /// Those that are a status alone.
    Refusals,
    None,
}

/// The namespaces whose methods upstream takes for its own, be there such a method or not.
const OWN: [&str; 2] = ["/dapr.proto.runtime.", "/TaskHubSidecarService/"];

/// The span of a call under way.
#[derive(Debug)]
pub(crate) struct Traced {
    span: Span,
    method: Box<str>,
    baggage: Option<HeaderValue>,
    pad: Option<NotePad>,
    user_headers: Vec<(String, String)>,
    proxied: bool,
    /// Which answers carry the context.
    answers: Answers,
}

impl Traced {
    /// Begins the span of a call and leaves its context in the extensions.
    pub(crate) fn begin(
        tracer: &Tracer,
        app_id: &AppId,
        route: Route,
        request: &mut http::request::Parts,
    ) -> Result<Option<Self>, Status> {
        if matches!(route, Route::ReflectionV1 | Route::ReflectionV1Alpha) {
            // Upstream takes these for proxied calls and so refuses them under tracing; nobody can want that.
            return Ok(None);
        }
        let baggage = read_baggage(&request.headers)?;
        let method = request.uri.path();
        let proxied = route == Route::Proxy && !OWN.iter().any(|own| method.starts_with(own));
        let own_callee = if proxied {
            let callee = request
                .headers
                .get(CALLEE)
                .or_else(|| request.headers.get(APP_ID))
                .ok_or_else(|| {
                    Status::unknown(
                        "cannot proxy request: missing dapr-callee-app-id or dapr-app-id metadata",
                    )
                })?;
            Some(callee.as_bytes() == app_id.as_str().as_bytes())
        } else {
            None
        };
        let mut span = tracer.grpc_api(method, own_callee, &parent(&request.headers));
        let recorded = span.recording().is_some();
        let traced = Self {
            method: method.into(),
            baggage,
            pad: recorded.then(NotePad::default),
            user_headers: if recorded {
                user_headers(&request.headers)
            } else {
                Vec::new()
            },
            proxied,
            answers: match route {
                _ if proxied || method == INVOKE_SERVICE => Answers::None,
                _ if route.is_unary() => Answers::All,
                _ => Answers::Refusals,
            },
            span,
        };
        request.extensions.insert(traced.span.context().clone());
        if let Some(pad) = &traced.pad {
            request.extensions.insert(pad.clone());
        }
        Ok(Some(traced))
    }

    /// The ids for log lines of the call.
    pub(crate) fn log_ids(&self) -> LogIds {
        self.span.context().log_ids()
    }

    /// Lays baggage and context on the header of the answer.
    pub(crate) fn answer(&mut self, headers: &mut HeaderMap) {
        if let Some(baggage) = self.baggage.take() {
            headers.insert(BAGGAGE, baggage);
        }
        let carries = match self.answers {
            Answers::All => true,
            Answers::Refusals => headers.contains_key(GRPC_STATUS),
            Answers::None => false,
        };
        if carries
            && let Some(binary) = self.span.context().to_binary()
            && let Ok(value) = HeaderValue::from_str(&BINARY.encode(binary))
        {
            headers.insert(TRACE_BIN, value);
        }
    }

    /// Ends the span.
    pub(crate) fn end(mut self, code: Code, message: &str) {
        if let Some(recording) = self.span.recording() {
            recording.dapr_headers(
                Protocol::Grpc,
                self.user_headers.iter().map(|(k, v)| (k.as_str(), v.as_str())),
            );
            if !self.proxied {
                if let Some(note) = self.pad.as_ref().and_then(|pad| pad.0.get()) {
                    describe(recording, note, &self.method);
                }
                recording.grpc_call(&self.method);
            }
            if code != Code::Ok {
                recording.set_error(message);
            }
        }
        self.span.end();
    }
}

fn describe(recording: &mut Recording, note: &Note, method: &str) {
    match note {
        Note::Invocation(app_id, invoked) => recording.invocation(app_id, invoked),
        Note::Publish(topic) => recording.publish(Protocol::Grpc, topic),
        Note::Binding(name) => recording.output_binding(Protocol::Grpc, name, method),
        Note::State(store) => recording.state(Protocol::Grpc, store, method),
        Note::Secret(store) => recording.secret(Protocol::Grpc, store, method),
        Note::Conversation(name) => recording.conversation(name),
    }
}

pub(crate) fn parent(headers: &HeaderMap) -> SpanContext {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // A value that is no base64 is malformed, which still keeps `traceparent` out.
    let binary = headers
        .get(TRACE_BIN)
        .map(|value| BINARY.decode(value.as_bytes()).unwrap_or_default());
    SpanContext::from_grpc(binary.as_deref(), text(&TRACEPARENT), text(&TRACESTATE)).unwrap_or_default()
}

fn user_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("dapr-"))
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect()
}

/// The baggage of a call, written anew.
fn read_baggage(headers: &HeaderMap) -> Result<Option<HeaderValue>, Status> {
    let mut values = headers.get_all(BAGGAGE).iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    let mut joined = first.to_str().unwrap_or("\u{fffd}").to_owned();
    for value in values {
        joined.push(',');
        joined.push_str(value.to_str().unwrap_or("\u{fffd}"));
    }
    let valid = baggage::parse(&joined)
        .map_err(|error| Status::invalid_argument(format!("invalid baggage header: {error}")))?;
    Ok((!valid.is_empty())
        .then(|| HeaderValue::from_str(&valid).ok())
        .flatten())
}
