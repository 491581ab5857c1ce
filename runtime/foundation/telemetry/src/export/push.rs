//! What pushing metrics or logs is made from.

use std::{fmt, sync::Arc, time::SystemTime};

use outrigger_types::Environment;

use super::{ExportCounts, OtlpOptions, Resolver, Resource};

/// The instrumentation scope of metrics, and of log lines without a scope of their own.
pub(crate) const SCOPE_NAME: &str = "outrigger";

/// Where metrics or logs of a sidecar go, and as whose.
#[derive(Clone)]
pub struct PushOptions {
    /// `service.name` unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` says otherwise.
    pub app_id: String,
    /// `service.namespace`; may be empty.
    pub namespace: String,
    /// `service.instance.id`: tells replicas of one app apart.
    pub instance: String,
    /// `service.version`: the sidecar's.
    pub version: String,
    /// The collector.
    pub otlp: OtlpOptions,
    /// For `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_METRIC_EXPORT_*`, `OTEL_BLRP_*` and the exporters' variables.
    pub environment: Environment,
    /// The time of day.
    pub clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    /// How to find the collector's addresses; `None` asks the operating system.
    pub resolver: Option<Resolver>,
    /// Where the fate of what is pushed is counted.
    pub counts: ExportCounts,
}

impl PushOptions {
    /// To a collector, with the system's clock and nothing else set.
    #[must_use]
    pub fn new(app_id: impl Into<String>, otlp: OtlpOptions) -> Self {
        Self {
            app_id: app_id.into(),
            namespace: String::new(),
            instance: String::new(),
            version: String::new(),
            otlp,
            environment: Environment::default(),
            clock: Arc::new(SystemTime::now),
            resolver: None,
            counts: ExportCounts::default(),
        }
    }

    pub(crate) fn resource(&self) -> Resource {
        Resource::with(
            &self.app_id,
            &[
                ("service.namespace", &self.namespace),
                ("service.instance.id", &self.instance),
                ("service.version", &self.version),
            ],
            &self.environment,
        )
    }
}

impl fmt::Debug for PushOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushOptions")
            .field("app_id", &self.app_id)
            .field("otlp", &self.otlp)
            .finish_non_exhaustive()
    }
}
