//! Log lines, spans by OTLP, and the W3C trace context of requests and events.

use std::collections::HashMap;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;

/// The header, and the attribute of events.
pub const TRACEPARENT: &str = "traceparent";

/// Starts logging to standard error and exporting spans to `OTEL_EXPORTER_OTLP_ENDPOINT`. Inside a tokio runtime, once.
///
/// # Errors
/// If there can be no exporter.
pub fn start(service: &'static str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build()?;
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name(service).build())
        .with_batch_exporter(exporter)
        .build();
    let ours = |metadata: &tracing::Metadata<'_>| {
        let target = metadata.target();
        target.starts_with("outrigger")
    };
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(service))
        .with_filter(tracing_subscriber::filter::filter_fn(ours));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_filter(LevelFilter::INFO);
    // A second start in one process (a test) keeps the first one's.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(spans).with(lines));
    Ok(provider)
}

/// Makes a request a span of the caller's trace.
pub async fn incoming(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("unmatched", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{} {route}", request.method()),
        otel.kind = "server",
        http.response.status_code = tracing::field::Empty,
    );
    let parent = request.headers().get(TRACEPARENT);
    follow(&span, parent.and_then(|parent| parent.to_str().ok()));
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    response
}

/// Makes a span a child of another process's.
pub fn follow(span: &Span, traceparent: Option<&str>) {
    if let Some(traceparent) = traceparent {
        let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
        // Without an exporter there is no parent to set.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
    }
}

/// What makes another process's span a child of the one under way.
pub fn traceparent() -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.remove(TRACEPARENT)
}
