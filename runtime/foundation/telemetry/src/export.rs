//! What every exporter shares: a bounded queue with its task, an OTLP client, an HTTP client (rows C2, C6, O1).
//!
//! Nothing here is ever waited for on a request's path: a queue that is full drops, and counts what it dropped.

mod batch;
mod otlp;
pub(crate) mod proto;
mod push;
mod resource;
mod transport;

use std::sync::Arc;

pub(crate) use batch::{Batcher, Export, Limits, Reporter, attempts};
pub(crate) use otlp::{OtlpClient, http_result, nanoseconds};
pub use otlp::{OtlpOptions, OtlpProtocol};
pub use push::PushOptions;
pub(crate) use push::SCOPE_NAME;
pub(crate) use resource::Resource;
pub use transport::Resolver;
pub(crate) use transport::Transport;

use crate::metrics::Counter;

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Series.
    Metrics,
    /// Log lines.
    Logs,
}

impl Signal {
    /// `traces`, `metrics` or `logs`: the label of `dapr_exporter_items_total` and the path below `/v1`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    /// As the names of environment variables have it.
    const fn variable(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
            Self::Logs => "LOGS",
        }
    }
}

/// The log scope of what exporters of metrics and logs say. Records of this scope are never exported themselves.
pub(crate) const EXPORT_SCOPE: &str = "dapr.runtime.export";

/// The fate of what was to be exported: spans, log records, metric points.
#[derive(Debug, Clone, Default)]
pub struct ExportCounts {
    /// Taken by the collector.
    pub sent: Arc<Counter>,
    /// Refused by the collector, or given up after the last try.
    pub failed: Arc<Counter>,
    /// Not queued, because the queue was full.
    pub dropped: Arc<Counter>,
}

/// Why an exporter could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExporterError {
    /// Neither `http` nor `grpc`.
    #[error("invalid protocol {0} provided for Otel endpoint")]
    Protocol(String),
    /// Not an address to send to.
    #[error("invalid collector URL {endpoint:?}: {reason}")]
    Endpoint {
        /// The address as configured.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system's trust roots cannot be read.
    #[error("failed to prepare TLS for the exporter")]
    Tls(#[source] std::io::Error),
}

/// Why a batch was not accepted.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ExportError {
    message: String,
    /// Whether the same batch may be sent again.
    pub(crate) is_retryable: bool,
}

impl ExportError {
    pub(crate) fn permanent(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            is_retryable: false,
        }
    }

    pub(crate) fn retryable(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            is_retryable: true,
        }
    }
}
