//! The exporters of a tracer.

use std::sync::Arc;

use super::{TracerOptions, otlp::OtlpExporter, span::SpanData, stdout, zipkin::ZipkinExporter};
use crate::export::{Export, ExportError, ExporterError, Resource};

/// Where spans go.
pub(super) enum Exporter {
    /// The log.
    Stdout,
    /// A Zipkin server.
    Zipkin(Box<ZipkinExporter>),
    /// An OpenTelemetry collector.
    Otlp(Box<OtlpExporter>),
}

impl Export for Exporter {
    type Item = Arc<SpanData>;

    async fn export(&self, spans: &[Arc<SpanData>]) -> Result<(), ExportError> {
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
pub(super) fn exporters(options: &TracerOptions) -> Result<Vec<Exporter>, ExporterError> {
    let resource = Resource::new(&options.app_id, &options.environment);
    let mut exporters = Vec::new();
    if options.stdout {
        exporters.push(Exporter::Stdout);
    }
    if !options.zipkin_endpoint.is_empty() {
        exporters.push(Exporter::Zipkin(Box::new(ZipkinExporter::new(
            options, &resource,
        )?)));
    }
    if let Some(otlp) = options.otlp.as_ref().filter(|otlp| !otlp.endpoint.is_empty()) {
        exporters.push(Exporter::Otlp(Box::new(OtlpExporter::new(
            otlp, options, &resource,
        )?)));
    }
    Ok(exporters)
}
