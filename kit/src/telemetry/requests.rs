//! Spans and durations of the requests that a service serves and makes, and the trace context that joins them.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use parking_lot::RwLock;
use tracing::{Instrument as _, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Seconds, from a loopback call to a call that hung.
const BOUNDS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

/// What requests are counted with. None before [`Telemetry::start`](super::Telemetry::start).
static DURATIONS: RwLock<Option<Arc<Durations>>> = RwLock::new(None);

#[derive(Debug)]
struct Durations {
    served: Histogram<f64>,
    called: Histogram<f64>,
}

/// Counts with this meter from now on.
pub(super) fn count_with(meter: &Meter) {
    let histogram = |name, about| {
        meter
            .f64_histogram(name)
            .with_description(about)
            .with_unit("s")
            .with_boundaries(BOUNDS.to_vec())
            .build()
    };
    *DURATIONS.write() = Some(Arc::new(Durations {
        served: histogram("http.server.request.duration", "Duration of requests served"),
        called: histogram("dapr.client.duration", "Duration of calls to the sidecar"),
    }));
}

fn durations() -> Option<Arc<Durations>> {
    DURATIONS.read().clone()
}

/// Routes that are served beside an [`App`](crate::App)'s, such as a page of its own port: each request is a span in
/// its caller's trace and is counted, as those of the app are.
pub fn traced(routes: Router) -> Router {
    routes.layer(axum::middleware::from_fn(incoming))
}

/// Joins the caller's trace, and counts. The route's pattern names it, never the path: names are few.
pub(crate) async fn incoming(request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let method = known(request.method());
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = field::Empty,
        otel.status_code = field::Empty,
    );
    // Without an exporter there is no parent to set.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(request.headers())));
    let began = Instant::now();
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    note_status(&span, status, status.is_server_error());
    if let Some(durations) = durations() {
        durations.served.record(
            began.elapsed().as_secs_f64(),
            &[
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", route),
                KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
            ],
        );
    }
    response
}

/// The present span for whoever goes on with its work later; nothing outside of one. The names are those of W3C's
/// headers and of CloudEvents' attributes for tracing alike.
pub(crate) fn carried() -> Vec<(String, String)> {
    let mut headers = HeaderMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut HeadersMut(&mut headers));
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = value.to_str().ok().filter(|value| !value.is_empty())?;
        Some((name.to_string(), value.to_owned()))
    };
    headers.iter().filter_map(text).collect()
}

/// A span for sending what was committed in the trace that `attribute` tells of.
pub(crate) fn sending<'a>(attribute: impl Fn(&str) -> Option<&'a str>) -> Span {
    let mut headers = HeaderMap::new();
    for name in ["traceparent", "tracestate"] {
        if let Some(value) = attribute(name) {
            HeadersMut(&mut headers).set(name, value.to_owned());
        }
    }
    let span = tracing::info_span!("relay", otel.kind = "producer");
    // Without an exporter there is no parent to set.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(&headers)));
    span
}

/// The method as a label: methods that nobody knows are one, as OpenTelemetry's conventions for HTTP have it.
fn known(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "CONNECT" => "CONNECT",
        "TRACE" => "TRACE",
        _ => "_OTHER",
    }
}

fn note_status(span: &Span, status: StatusCode, failed: bool) {
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if failed {
        span.record("otel.status_code", "ERROR");
    }
}

/// One attempt of a call to the sidecar.
#[derive(Debug)]
pub(crate) struct Outgoing {
    span: Span,
    block: String,
    began: Instant,
}

impl Outgoing {
    /// `path` is that of Dapr's API: its second part names the building block.
    pub(crate) fn new(method: &http::Method, path: &str) -> Self {
        let mut parts = path.trim_start_matches('/').split(['/', '?']);
        let block = parts.nth(1).unwrap_or("unknown").to_owned();
        let span = tracing::info_span!(
            "call",
            otel.name = format!("{method} {block}"),
            otel.kind = "client",
            rpc.system = "dapr",
            dapr.api = block,
            http.response.status_code = field::Empty,
            otel.status_code = field::Empty,
        );
        Self {
            span,
            block,
            began: Instant::now(),
        }
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Hands the trace on.
    pub(crate) fn inject(&self, headers: &mut HeaderMap) {
        TraceContextPropagator::new().inject_context(&self.span.context(), &mut HeadersMut(headers));
    }

    /// Notes the outcome; `None` is a call that got no answer.
    pub(crate) fn end(self, status: Option<StatusCode>) {
        let outcome = match status {
            Some(status) => {
                note_status(&self.span, status, !status.is_success());
                status.as_str().to_owned()
            }
            None => {
                self.span.record("otel.status_code", "ERROR");
                "none".to_owned()
            }
        };
        if let Some(durations) = durations() {
            durations.called.record(
                self.began.elapsed().as_secs_f64(),
                &[
                    KeyValue::new("dapr.api", self.block),
                    KeyValue::new("http.response.status_code", outcome),
                ],
            );
        }
    }
}
