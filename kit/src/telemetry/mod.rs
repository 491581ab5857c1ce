//! Traces, metrics and logs of a service, on by default (E1.13).
//!
//! [`Telemetry::start`] is called once in `main`. From then on each request that [`App`](crate::App) serves and each
//! call that [`Client`](crate::Client) makes is a span of one trace that runs on through the sidecars, is counted,
//! and its log lines carry the trace's id.
//!
//! * Spans and metrics are pushed by OTLP to `OTEL_EXPORTER_OTLP_ENDPOINT`, by default to a collector on this host;
//!   without one they are dropped in silence. `OTEL_EXPORTER_OTLP_PROTOCOL` is `grpc`, the default, or
//!   `http/protobuf`; both, `_TIMEOUT` (ms) and `_INSECURE` also exist for one signal
//!   (`OTEL_EXPORTER_OTLP_TRACES_PROTOCOL`).
//! * Metrics are also a page for Prometheus, `GET /metrics` beside the health routes (C6). Whatever a service counts
//!   with [`opentelemetry::global::meter`] is on it, at most 500 series a metric, the rest in one that is labelled
//!   `otel_metric_overflow`.
//! * `OTEL_TRACES_EXPORTER` is `otlp` or `none`, `OTEL_METRICS_EXPORTER` `otlp`, `prometheus` (the page alone) or
//!   `none`; `OTEL_SDK_DISABLED=true` switches both off. The SDK's own variables (`OTEL_TRACES_SAMPLER`,
//!   `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_*`, …) hold.

mod http_client;
mod logs;
mod page;
mod push;
mod requests;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{Instrument, MeterProviderBuilder, SdkMeterProvider, Stream};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Metadata};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::{Environment, Error};
pub use logs::LogFormat;
pub(crate) use page::route as page;
use push::Signal;
pub use requests::traced;
pub(crate) use requests::{Outgoing, carried, incoming, sending};

/// How long the last spans and metrics may take to leave.
const FLUSH: Duration = Duration::from_secs(2);
/// The most series of one metric: names that come from outside must not fill memory.
const SERIES: usize = 500;
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
    /// Starts logging to standard error, and exporting. Has to run inside a tokio runtime, once in a process.
    ///
    /// # Errors
    /// [`Error::Invalid`] if an `OTEL_*_EXPORTER` or `OTEL_EXPORTER_OTLP_*` variable cannot be used, and what can.
    pub fn start(options: &Options, environment: &Environment) -> Result<Self, Error> {
        let disabled = environment
            .get("OTEL_SDK_DISABLED")
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        let resource = resource(options, environment);
        let mut telemetry = Self::default();
        let named = |words: &Option<Vec<String>>, word: &str| match words {
            Some(words) => words.iter().any(|known| known == word),
            None => word != "none",
        };
        let traces = Signal::Traces.exporters(environment)?;
        if !disabled && named(&traces, "otlp") {
            let provider = SdkTracerProvider::builder()
                .with_resource(resource.clone())
                .with_batch_exporter(push::spans(environment)?)
                .build();
            telemetry.tracer = Some(provider);
        }
        let metrics = Signal::Metrics.exporters(environment)?;
        if !disabled && !named(&metrics, "none") {
            let mut provider = meters(resource).with_reader(page::reader()?);
            if named(&metrics, "otlp") {
                provider = provider.with_periodic_exporter(push::metrics(environment)?);
            }
            let provider = provider.build();
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

/// A provider whose metrics are bounded.
fn meters(resource: Resource) -> MeterProviderBuilder {
    SdkMeterProvider::builder()
        .with_resource(resource)
        .with_view(|_: &Instrument| Stream::builder().with_cardinality_limit(SERIES).build().ok())
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
