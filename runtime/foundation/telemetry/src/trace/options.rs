//! What a tracer is made from.

use std::{fmt, sync::Arc, time::Duration, time::SystemTime};

use outrigger_types::Environment;

use super::{IdSource, RandomIds, Resolver};

/// How spans reach an OpenTelemetry collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP at `/v1/traces`.
    Http,
}

impl std::str::FromStr for OtlpProtocol {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        match text {
            "grpc" => Ok(Self::Grpc),
            "http" => Ok(Self::Http),
            other => Err(TraceError::Protocol(other.to_owned())),
        }
    }
}

/// `spec.tracing.otel`.
#[derive(Clone)]
pub struct OtlpOptions {
    /// `host:port`; a scheme in front is accepted and, if `https`, means [`Self::is_secure`].
    pub endpoint: String,
    /// The protocol.
    pub protocol: OtlpProtocol,
    /// Whether to use TLS with the system's roots.
    pub is_secure: bool,
    /// Headers as `name=value`; when empty those of `OTEL_EXPORTER_OTLP_[TRACES_]HEADERS` are sent. Other
    /// texts are ignored, as in the peer. They may be secrets and are never printed.
    pub headers: Vec<String>,
    /// The limit of one export; `None` means `OTEL_EXPORTER_OTLP_[TRACES_]TIMEOUT` (ms) or ten seconds.
    pub timeout: Option<Duration>,
}

impl fmt::Debug for OtlpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpOptions")
            .field("endpoint", &self.endpoint)
            .field("protocol", &self.protocol)
            .field("is_secure", &self.is_secure)
            .field("headers", &self.headers.len())
            .field("timeout", &self.timeout)
            .finish()
    }
}

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

/// Why a tracer could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Neither `http` nor `grpc`.
    #[error("invalid protocol {0} provided for Otel endpoint")]
    Protocol(String),
    /// Not an address to send spans to.
    #[error("invalid collector URL {endpoint:?}: {reason}")]
    Endpoint {
        /// The address as configured.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system's trust roots cannot be read.
    #[error("failed to prepare TLS for the trace exporter")]
    Tls(#[source] std::io::Error),
}
