//! How our own handlers say that they refused or failed (A9.5): an error in the shape of the API's, with the handler's
//! name, the trace and the cause. A handler before this one in the pipeline may rewrite it.

use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use outrigger_middleware::Body;
use outrigger_telemetry::trace::SpanContext;
use serde_json::{Value, json};

/// An error's answer.
pub(crate) fn answer(
    status: StatusCode,
    code: &str,
    handler: &str,
    trace: Option<&str>,
    message: &str,
    details: &[Value],
) -> Response<Body> {
    let mut body = json!({"errorCode": code, "message": message, "handler": handler});
    if let Some(trace) = trace {
        body["traceId"] = trace.into();
    }
    if !details.is_empty() {
        body["details"] = details.into();
    }
    let mut response = Response::new(Body::whole(body.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The trace that a request belongs to: the sidecar's own span, else what the caller brought.
pub(crate) fn trace_id(head: &Parts) -> Option<String> {
    if let Some(span) = head.extensions.get::<SpanContext>() {
        return Some(span.trace_id().to_string());
    }
    let parent = head.headers.get("traceparent")?.to_str().ok()?;
    let id = parent.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}
