//! Dapr's metrics as a bounded set (rows C5, C9; design D9).
//!
//! One [`Metrics`] per sidecar holds its own registry; there is no default one. Recorders take plain values and
//! do nothing on [`Metrics::disabled`]. Names, labels and oddities are those of the peer's `pkg/diagnostics`,
//! exposed as its OpenCensus exporter does: no suffix is added to counters, an unset tag is an empty label.

mod admission;
mod component;
mod error_code;
mod exporter;
mod exposition;
mod family;
mod grpc;
mod http;
mod otlp;
mod path;
mod process;
mod push;
mod resiliency;
mod rules;
mod runtime;
mod series;
mod server;
mod workflow;

use std::{sync::Arc, time::Duration};

pub use component::{ComponentCall, ProcessStatus};
pub use family::{Counter, Families, Family, Gauge, Histogram, Instrument};
pub use http::HttpServerRequest;
pub use path::{InvalidPattern, PathMatcher};
pub use push::MetricsPush;
pub use resiliency::{CircuitBreakerState, FlowDirection, Policy, PolicyKind};
pub use rules::{LabelRule, MetricRule};
pub use runtime::PolicyScope;
pub use server::serve;

/// The most series one family may hold, beside one overflow series. Dapr has no cap (its own advice is to turn
/// low cardinality on); a thousand is far above what a bounded label set needs and keeps the worst case of all
/// families together under a few megabytes.
pub const MAX_SERIES_PER_FAMILY: usize = 1_000;

/// What the labels of the overflow series read.
pub const OVERFLOW_LABEL_VALUE: &str = "overflow";

/// The longest label value kept; OpenCensus refuses longer ones.
pub const MAX_LABEL_VALUE_BYTES: usize = 255;

/// Upper bounds of latency histograms in milliseconds when none are configured.
pub const DEFAULT_LATENCY_BUCKETS: [f64; 34] = [
    1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0, 25.0, 30.0, 40.0, 50.0, 65.0, 80.0, 100.0,
    130.0, 160.0, 200.0, 250.0, 300.0, 400.0, 500.0, 650.0, 800.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0,
    20_000.0, 50_000.0, 100_000.0,
];

const SIZE_BUCKETS: [f64; 13] = [
    1024.0,
    2048.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

const RATIO_BUCKETS: [f64; 10] = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0, 1.5, 2.0];

/// Why a metric set could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// A rule's regular expression does not compile.
    #[error("failed to compile regex for rule {metric}/{label}")]
    Rule {
        /// The rule's metric as written.
        metric: String,
        /// The label.
        label: String,
        /// What the expression lacks.
        #[source]
        source: Box<regex::Error>,
    },
    /// A path of `spec.metrics.http.pathMatching` is not a pattern.
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
    /// A name is taken or not a metric name.
    #[error("failed to register metric {name}")]
    Register {
        /// The exposed name.
        name: String,
        /// The registry's complaint.
        #[source]
        source: prometheus::Error,
    },
}

/// What `spec.metrics` and the command line decide.
#[derive(Debug, Clone, Default)]
pub struct MetricsOptions {
    /// The `app_id` label.
    pub app_id: String,
    /// The `namespace` label of component metrics; may be empty.
    pub namespace: String,
    /// Upper bounds in milliseconds (`latencyDistributionBuckets`); empty means [`DEFAULT_LATENCY_BUCKETS`].
    pub latency_buckets: Vec<f64>,
    /// `spec.metrics.http.increasedCardinality`: the path label holds (normalised) request paths.
    pub increased_cardinality: bool,
    /// `spec.metrics.http.pathMatching`: Go `ServeMux` patterns.
    pub path_matching: Vec<String>,
    /// `spec.metrics.http.excludeVerbs`: the method label stays empty.
    pub exclude_verbs: bool,
    /// `spec.metrics.recordErrorCodes`.
    pub record_error_codes: bool,
    /// `spec.metrics.rules`.
    pub rules: Vec<MetricRule>,
}

struct Inner {
    app_id: String,
    namespace: String,
    families: Families,
    http: http::HttpFamilies,
    grpc: grpc::GrpcFamilies,
    component: component::ComponentFamilies,
    runtime: runtime::RuntimeFamilies,
    resiliency: resiliency::ResiliencyFamilies,
    workflow: workflow::WorkflowFamilies,
    exporter: exporter::ExporterFamilies,
    error_code: Option<Family<Counter>>,
}

/// The metrics of one sidecar; a cheap clone. Every recorder is a no-op when disabled.
#[derive(Clone, Default)]
pub struct Metrics(Option<Arc<Inner>>);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics")
            .field("app_id", &self.0.as_ref().map(|inner| &inner.app_id))
            .finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics off.
    #[must_use]
    pub fn disabled() -> Self {
        Self(None)
    }

    /// A fresh set in its own registry.
    ///
    /// # Errors
    /// When a rule or a path pattern does not compile.
    pub fn new(options: &MetricsOptions) -> Result<Self, MetricsError> {
        let families = Families::new(
            rules::Rules::compile(&options.rules)?,
            latency_bounds(&options.latency_buckets).into(),
        );
        families
            .registry()
            .register(Box::new(process::ProcessCollector::new()))
            .map_err(|source| MetricsError::Register {
                name: "process".into(),
                source,
            })?;
        Ok(Self(Some(Arc::new(Inner {
            app_id: options.app_id.clone(),
            namespace: options.namespace.clone(),
            http: http::HttpFamilies::new(&families, options)?,
            grpc: grpc::GrpcFamilies::new(&families)?,
            component: component::ComponentFamilies::new(&families)?,
            runtime: runtime::RuntimeFamilies::new(&families)?,
            resiliency: resiliency::ResiliencyFamilies::new(&families)?,
            workflow: workflow::WorkflowFamilies::new(&families)?,
            exporter: exporter::ExporterFamilies::new(&families)?,
            error_code: if options.record_error_codes {
                Some(error_code::family(&families)?)
            } else {
                None
            },
            families,
        }))))
    }

    /// Whether anything is recorded.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// The maker of further families in the same registry; `None` when disabled.
    #[must_use]
    pub fn families(&self) -> Option<&Families> {
        self.0.as_deref().map(|inner| &inner.families)
    }

    /// Everything as Prometheus text (format 0.0.4), families and series sorted; empty when disabled.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        self.0
            .as_deref()
            .map(|inner| exposition::text(&inner.families.registry().gather()))
            .unwrap_or_default()
    }
}

/// The configured bounds as a view takes them: ascending, without zero or less.
fn latency_bounds(configured: &[f64]) -> Vec<f64> {
    if configured.is_empty() {
        return DEFAULT_LATENCY_BUCKETS.to_vec();
    }
    let mut bounds: Vec<f64> = configured
        .iter()
        .copied()
        .filter(|b| *b > 0.0 && b.is_finite())
        .collect();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    bounds
}

/// Milliseconds with their fraction.
fn milliseconds(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64() * 1_000.0
}

/// Whole milliseconds, cut: what the HTTP and gRPC monitors of the peer record.
fn whole_milliseconds(elapsed: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "2^52 ms are 140,000 years")]
    let whole = elapsed.as_millis() as f64;
    whole
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}
