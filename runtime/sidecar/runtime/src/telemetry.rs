//! Metrics and tracing as the Configuration and the environment ask for them.

use outrigger_resources::configuration::{Configuration, TracingSpec};
use outrigger_telemetry::{
    Metrics, Tracer,
    export::{ExporterError, Signal},
    metrics::{LabelRule, MetricRule, MetricsError, MetricsOptions},
    trace::TracerOptions,
};

use crate::{options::SidecarOptions, pushes};

/// The metrics of a sidecar; off when the Configuration says so.
///
/// # Errors
/// When a rule or path pattern does not compile.
pub(crate) fn metrics(
    options: &SidecarOptions,
    configuration: &Configuration,
) -> Result<Metrics, MetricsError> {
    let spec = configuration.metric();
    tracing::info!(target: "dapr.runtime.diagnostics", "metric spec: {}", spec.to_json());
    if options.metrics.is_none() || !spec.is_enabled() {
        return Ok(Metrics::disabled());
    }
    let increased = spec.increased_cardinality().unwrap_or_else(|| {
        tracing::warn!(
            target: "dapr.runtime.diagnostics",
            "The default value for 'spec.metric.http.increasedCardinality' will change to 'false' in a later version"
        );
        true
    });
    let rules = spec
        .rules
        .iter()
        .map(|rule| MetricRule {
            name: rule.name.clone(),
            labels: rule
                .labels
                .iter()
                .map(|label| LabelRule {
                    name: label.name.clone(),
                    regex: label
                        .regex
                        .iter()
                        .map(|(to, from)| (to.clone(), from.clone()))
                        .collect(),
                })
                .collect(),
        })
        .collect();
    Metrics::new(&MetricsOptions {
        app_id: options.app_id.to_string(),
        namespace: options.namespace().unwrap_or_default().to_owned(),
        latency_buckets: spec.latency_buckets(),
        increased_cardinality: increased,
        path_matching: spec.path_matching().to_vec(),
        exclude_verbs: spec.excludes_verbs(),
        record_error_codes: spec.records_error_codes(),
        rules,
    })
}

/// The tracer of a sidecar and whether the API is traced at all.
///
/// # Errors
/// When an exporter cannot be made.
pub(crate) fn tracer(
    options: &SidecarOptions,
    spec: &TracingSpec,
    metrics: &Metrics,
) -> Result<Tracer, ExporterError> {
    let mut tracing = TracerOptions::new(options.app_id.as_str(), spec.sampling_rate.clone());
    tracing.stdout = spec.stdout;
    tracing.zipkin_endpoint = spec
        .zipkin
        .as_ref()
        .map(|zipkin| zipkin.endpoint_address.clone())
        .unwrap_or_default();
    tracing.environment = options.environment.clone();
    if let Some(otel) = spec
        .otel
        .as_ref()
        .filter(|otel| !otel.endpoint_address.is_empty() && !otel.protocol.is_empty())
    {
        tracing.otlp = Some(pushes::otlp(otel)?);
    }
    if tracing.otlp.is_some() || !tracing.zipkin_endpoint.is_empty() {
        tracing.counts = metrics.export_counts(Signal::Traces);
    }
    Tracer::start(&tracing)
}
