//! The exporters of a tracer.

use std::sync::Arc;

use super::{
    TraceError, TracerOptions, otlp::OtlpExporter, resource::Resource, span::SpanData, stdout,
    zipkin::ZipkinExporter,
};

/// Why a batch was not accepted.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct ExportError {
    message: String,
    /// Whether the same batch may be sent again.
    pub(super) is_retryable: bool,
}

impl ExportError {
    pub(super) fn permanent(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            is_retryable: false,
        }
    }

    pub(super) fn retryable(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            is_retryable: true,
        }
    }
}

/// Where spans go.
pub(super) enum Exporter {
    /// The log.
    Stdout,
    /// A Zipkin server.
    Zipkin(ZipkinExporter),
    /// An OpenTelemetry collector.
    Otlp(OtlpExporter),
}

impl Exporter {
    pub(super) async fn export(&self, spans: &[Arc<SpanData>]) -> Result<(), ExportError> {
        match self {
            Self::Stdout => {
                stdout::export(spans);
                Ok(())
            }
            Self::Zipkin(zipkin) => zipkin.export(spans).await,
            Self::Otlp(otlp) => otlp.export(spans).await,
        }
    }
}

/// The configured exporters in the peer's order.
pub(super) fn exporters(options: &TracerOptions) -> Result<Vec<Exporter>, TraceError> {
    let resource = Resource::new(&options.app_id, &options.environment);
    let mut exporters = Vec::new();
    if options.stdout {
        exporters.push(Exporter::Stdout);
    }
    if !options.zipkin_endpoint.is_empty() {
        exporters.push(Exporter::Zipkin(ZipkinExporter::new(options, &resource)?));
    }
    if let Some(otlp) = options.otlp.as_ref().filter(|otlp| !otlp.endpoint.is_empty()) {
        exporters.push(Exporter::Otlp(OtlpExporter::new(otlp, options, &resource)?));
    }
    Ok(exporters)
}
