//! Spans in OTLP.

use std::sync::Arc;

use super::{SpanKind, TracerOptions, span::SpanData};
use crate::export::{
    ExportError, ExporterError, OtlpClient, OtlpOptions, Resource, Signal, nanoseconds,
    proto::{
        self, attribute,
        trace::{Request, ResourceSpans, ScopeSpans, Span, Status},
    },
};

/// The name under which the peer makes spans.
pub(super) const SCOPE_NAME: &str = "dapr-diagnostics";

/// The semantic conventions the attributes follow.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.25.0";

/// Sends spans to one collector.
pub(super) struct OtlpExporter {
    client: OtlpClient,
    resource: proto::Resource,
}

impl OtlpExporter {
    pub(super) fn new(
        otlp: &OtlpOptions,
        options: &TracerOptions,
        resource: &Resource,
    ) -> Result<Self, ExporterError> {
        Ok(Self {
            client: OtlpClient::new(
                Signal::Traces,
                otlp,
                &options.environment,
                options.resolver.clone(),
                options.counts.clone(),
            )?,
            resource: resource.to_proto(),
        })
    }

    pub(super) async fn export(&self, spans: &[Arc<SpanData>]) -> Result<(), ExportError> {
        let message = Request {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(proto::InstrumentationScope {
                        name: SCOPE_NAME.to_owned(),
                    }),
                    spans: spans.iter().map(|span| encode(span)).collect(),
                }],
                schema_url: SCHEMA_URL.to_owned(),
            }],
        };
        self.client.send(&message).await
    }
}

fn encode(span: &SpanData) -> Span {
    let has_parent = span.parent.is_valid();
    Span {
        trace_id: span.context.trace_id().to_bytes().to_vec(),
        span_id: span.context.span_id().to_bytes().to_vec(),
        trace_state: span.context.tracestate().unwrap_or_default().to_owned(),
        parent_span_id: if has_parent {
            span.parent.to_bytes().to_vec()
        } else {
            Vec::new()
        },
        name: span.name.clone().into_owned(),
        kind: match span.kind {
            SpanKind::Server => 2,
            SpanKind::Client => 3,
            SpanKind::Producer => 4,
        },
        start_time_unix_nano: nanoseconds(span.start),
        end_time_unix_nano: nanoseconds(span.end),
        attributes: span
            .attributes
            .iter()
            .map(|(key, value)| attribute(key.as_ref(), value.as_str()))
            .collect(),
        status: span.error.as_ref().map(|message| Status {
            message: message.clone(),
            code: 2,
        }),
        // Bit 8 says that bit 9 is known; every parent here came from another process or another span's context.
        flags: u32::from(span.context.flags()) | 0x100 | if has_parent { 0x200 } else { 0 },
    }
}
