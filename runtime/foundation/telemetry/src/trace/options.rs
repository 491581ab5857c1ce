//! What a tracer is made from.

use std::{fmt, sync::Arc, time::SystemTime};

use outrigger_types::Environment;

use super::{IdSource, RandomIds};
use crate::export::{ExportCounts, OtlpOptions, Resolver};

/// The time of day, injected.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// `spec.tracing` and what surrounds it.
#[derive(Clone)]
pub struct TracerOptions {
    /// `service.name` unless the environment says otherwise.
    pub app_id: String,
    /// `spec.tracing.samplingRate` as written.
    pub sampling_rate: String,
    /// `spec.tracing.stdout`: log every span.
    pub stdout: bool,
    /// `spec.tracing.zipkin.endpointAddress`; empty is none.
    pub zipkin_endpoint: String,
    /// `spec.tracing.otel`.
    pub otlp: Option<OtlpOptions>,
    /// For `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_*` and the exporters' variables.
    pub environment: Environment,
    /// The source of ids.
    pub ids: Arc<dyn IdSource>,
    /// The time of day; asked only for recorded spans.
    pub clock: Clock,
    /// How to find a collector's addresses; `None` asks the operating system.
    pub resolver: Option<Resolver>,
    /// Where the fate of spans is counted.
    pub counts: ExportCounts,
}

impl TracerOptions {
    /// Tracing without exporters, with random ids and the system's clock.
    #[must_use]
    pub fn new(app_id: impl Into<String>, sampling_rate: impl Into<String>) -> Self {
        Self {
            app_id: app_id.into(),
            sampling_rate: sampling_rate.into(),
            stdout: false,
            zipkin_endpoint: String::new(),
            otlp: None,
            environment: Environment::default(),
            ids: Arc::new(RandomIds::from_os()),
            clock: Arc::new(SystemTime::now),
            resolver: None,
            counts: ExportCounts::default(),
        }
    }
}

impl fmt::Debug for TracerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracerOptions")
            .field("app_id", &self.app_id)
            .field("sampling_rate", &self.sampling_rate)
            .field("stdout", &self.stdout)
            .field("zipkin_endpoint", &self.zipkin_endpoint)
            .field("otlp", &self.otlp)
            .finish_non_exhaustive()
    }
}
