//! Trace context on its way through (row C3; upstream `pkg/diagnostics/{http,grpc}_tracing.go`).

use base64::Engine as _;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use outrigger_telemetry::trace::SpanContext;

use crate::{
    envelope::HttpHeaders,
    metadata::{BINARY, GRPC_TRACE, TRACEPARENT, TRACESTATE},
};

const PARENT: HeaderName = HeaderName::from_static(TRACEPARENT);
const STATE: HeaderName = HeaderName::from_static(TRACESTATE);
const BINARY_PARENT: HeaderName = HeaderName::from_static(GRPC_TRACE);

/// The span that a server put around a request; `None` when tracing is off.
pub(crate) fn of_request(extensions: &Extensions) -> Option<SpanContext> {
    extensions
        .get::<SpanContext>()
        .filter(|context| context.is_sent_on())
        .cloned()
}

/// What a gRPC caller sent along.
pub(crate) fn of_grpc(headers: &HeaderMap) -> SpanContext {
    let binary = headers
        .get(BINARY_PARENT)
        .and_then(|value| BINARY.decode(value.as_bytes()).ok());
    SpanContext::from_grpc(binary.as_deref(), text(headers, &PARENT), text(headers, &STATE))
        .unwrap_or_default()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Sets W3C headers.
pub(crate) fn put_http(headers: &mut HeaderMap, context: &SpanContext) {
    if let Ok(value) = HeaderValue::from_bytes(context.traceparent().as_bytes()) {
        headers.insert(PARENT, value);
    }
    if let Some(value) = context
        .outgoing_tracestate()
        .and_then(|state| HeaderValue::from_str(state).ok())
    {
        headers.insert(STATE, value);
    }
}

/// Sets `grpc-trace-bin` and, for those who do not read it, W3C headers.
pub(crate) fn put_grpc(headers: &mut HeaderMap, context: &SpanContext) {
    put_http(headers, context);
    if let Some(binary) = context.to_binary()
        && let Ok(value) = HeaderValue::from_str(&BINARY.encode(binary))
    {
        headers.insert(BINARY_PARENT, value);
    }
}

/// Hands the context to an HTTP app or caller: the span's where it is valid, else what came with the message, else
/// the empty one that stands for tracing that is off.
pub(crate) fn put_http_of(message: &mut HttpHeaders, span: Option<&SpanContext>) {
    if let Some(span) = span.filter(|span| span.is_valid()) {
        put_http(&mut message.headers, span);
        return;
    }
    if message.from_grpc {
        if let Some(context) = message.grpc_trace.as_deref().and_then(SpanContext::from_binary) {
            put_http(&mut message.headers, &context);
            return;
        }
    } else if let Some(parent) = message.traceparent.take() {
        message.headers.insert(PARENT, parent);
        if let Some(state) = message.tracestate.take() {
            message.headers.insert(STATE, state);
        }
        return;
    }
    if let Some(span) = span.filter(|span| span.is_sent_on()) {
        put_http(&mut message.headers, span);
    }
}
