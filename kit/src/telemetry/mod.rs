//! Traces, metrics and logs of a service, on by default (E1.13).
//!
//! [`Telemetry::start`] is called once in `main`. From then on each request that [`App`](crate::App) serves and each
//! call that [`Client`](crate::Client) makes is a span of one trace that runs on through the sidecars, is counted,
//! and its log lines carry the trace's id. Spans and metrics go by OTLP over gRPC to `OTEL_EXPORTER_OTLP_ENDPOINT`,
//! by default to a collector on this host; without one they are dropped in silence. The OpenTelemetry SDK's own
//! variables (`OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_*`, …) hold.

mod logs;
mod requests;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Metadata};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::{Environment, Error};
pub use logs::LogFormat;
pub(crate) use requests::{Outgoing, incoming};

/// How long the last spans and metrics may take to leave.
const FLUSH: Duration = Duration::from_secs(2);
/// Libraries below: what they do is part of the call that made them do it, and the exporter's own calls must not
/// be traced.
const LIBRARIES: [&str; 8] = [
    "h2",
    "hyper",
    "hyper_util",
    "opentelemetry",
    "rustls",
    "tonic",
    "tower",
    "axum",
];

/// What is told to those who watch, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The service's name, unless `OTEL_SERVICE_NAME` says otherwise; its app-id is the right one.
    pub service: String,
    /// Tells this instance from others.
    pub instance: String,
    /// The least important messages that are logged.
    pub level: Level,
    /// How log lines look.
    pub format: LogFormat,
}

/// What runs beside a service to tell of it. [`shutdown`](Self::shutdown) lets the last of it out.
#[derive(Debug, Default)]
pub struct Telemetry {
    tracer: Option<SdkTracerProvider>,
    meter: Option<SdkMeterProvider>,
}

impl Telemetry {
    /// Starts logging to standard error, and exporting unless `OTEL_SDK_DISABLED` is `true`, or
    /// `OTEL_TRACES_EXPORTER` or `OTEL_METRICS_EXPORTER` is `none`. Has to run inside a tokio runtime, once in a
    /// process.
    ///
    /// # Errors
    /// [`Error::Invalid`] if an `OTEL_EXPORTER_OTLP_*` variable cannot be used.
    pub fn start(options: &Options, environment: &Environment) -> Result<Self, Error> {
        let is = |name: &str, word: &str| {
            environment
                .get(name)
                .is_some_and(|value| value.trim().eq_ignore_ascii_case(word))
        };
        let on = |exporter| !is("OTEL_SDK_DISABLED", "true") && !is(exporter, "none");
        let endpoint = |signal| {
            environment
                .get(signal)
                .or_else(|| environment.get("OTEL_EXPORTER_OTLP_ENDPOINT"))
                .filter(|endpoint| !endpoint.trim().is_empty())
        };
        let resource = resource(options, environment);
        let wrong = |error: &dyn std::fmt::Display| Error::Invalid(format!("OTEL_EXPORTER_OTLP_*: {error}"));
        let mut telemetry = Self::default();
        if on("OTEL_TRACES_EXPORTER") {
            let mut exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic();
            if let Some(endpoint) = endpoint("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
                exporter = exporter.with_endpoint(endpoint);
            }
            let exporter = exporter.build().map_err(|error| wrong(&error))?;
            let provider = SdkTracerProvider::builder()
                .with_resource(resource.clone())
                .with_batch_exporter(exporter)
                .build();
            telemetry.tracer = Some(provider);
        }
        if on("OTEL_METRICS_EXPORTER") {
            let mut exporter = opentelemetry_otlp::MetricExporter::builder().with_tonic();
            if let Some(endpoint) = endpoint("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") {
                exporter = exporter.with_endpoint(endpoint);
            }
            let exporter = exporter.build().map_err(|error| wrong(&error))?;
            let provider = SdkMeterProvider::builder()
                .with_resource(resource)
                .with_periodic_exporter(exporter)
                .build();
            requests::count_with(&provider.meter("outrigger-kit"));
            // For what the service counts by itself.
            opentelemetry::global::set_meter_provider(provider.clone());
            telemetry.meter = Some(provider);
        }
        let spans = telemetry.tracer.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("outrigger-kit"))
                .with_filter(filter_fn(|metadata| {
                    metadata.is_span() && *metadata.level() <= Level::INFO && !is_library(metadata)
                }))
        });
        let least = options.level;
        let lines =
            logs::Lines::new(options.format, &options.service, &options.instance).with_filter(filter_fn(
                move |metadata| metadata.is_event() && *metadata.level() <= least && !is_library(metadata),
            ));
        // A second start in one process (a test) keeps the first one's.
        let _ =
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(spans).with(lines));
        Ok(telemetry)
    }

    /// Sends what waits, within two seconds, and stops exporting. Logging goes on.
    pub async fn shutdown(self) {
        let stop = tokio::task::spawn_blocking(move || {
            if let Some(tracer) = self.tracer {
                let _ = tracer.shutdown_with_timeout(FLUSH);
            }
            if let Some(meter) = self.meter {
                let _ = meter.shutdown_with_timeout(FLUSH);
            }
        });
        // Who has no collector loses nothing by not waiting for one.
        let _ = tokio::time::timeout(FLUSH, stop).await;
    }
}

fn is_library(metadata: &Metadata<'_>) -> bool {
    let root = metadata.target().split("::").next().unwrap_or_default();
    LIBRARIES.contains(&root) || root.starts_with("opentelemetry")
}

fn resource(options: &Options, environment: &Environment) -> Resource {
    let named = environment
        .get("OTEL_SERVICE_NAME")
        .filter(|name| !name.is_empty())
        .cloned();
    Resource::builder()
        .with_attribute(KeyValue::new("service.instance.id", options.instance.clone()))
        .with_service_name(named.unwrap_or_else(|| options.service.clone()))
        .build()
}
