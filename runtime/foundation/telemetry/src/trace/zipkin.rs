//! Zipkin v2 JSON over HTTP, mapped as OpenTelemetry prescribes.

use std::{collections::BTreeMap, sync::Arc, time::Duration, time::UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::Full;
use serde::Serialize;

use super::{SpanKind, TracerOptions, otlp::SCOPE_NAME, span::SpanData};
use crate::export::{ExportError, ExporterError, Resource, Transport, http_result};

/// How long Zipkin may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Attributes that name the other side, best first.
const REMOTE_NAMES: [&str; 4] = ["peer.service", "server.address", "net.peer.name", "db.name"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ZipkinSpan<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    timestamp: u64,
    #[serde(skip_serializing_if = "is_zero")]
    duration: u64,
    trace_id: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    name: String,
    kind: &'static str,
    local_endpoint: Endpoint,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_endpoint: Option<Endpoint>,
    tags: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    service_name: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Sends batches to one Zipkin server.
pub(super) struct ZipkinExporter {
    uri: Uri,
    resource: Resource,
    transport: Transport,
}

impl ZipkinExporter {
    pub(super) fn new(options: &TracerOptions, resource: &Resource) -> Result<Self, ExporterError> {
        let invalid = |reason: &str| ExporterError::Endpoint {
            endpoint: options.zipkin_endpoint.clone(),
            reason: reason.to_owned(),
        };
        let uri: Uri = options
            .zipkin_endpoint
            .parse()
            .map_err(|error: http::uri::InvalidUri| invalid(&error.to_string()))?;
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(invalid("no scheme or host")),
        };
        Ok(Self {
            uri,
            resource: resource.clone(),
            transport: Transport::new(is_secure, false, options.resolver.clone(), TIMEOUT)?,
        })
    }

    pub(super) async fn export(&self, spans: &[Arc<SpanData>]) -> Result<(), ExportError> {
        let spans: Vec<ZipkinSpan<'_>> = spans.iter().map(|span| self.encode(span)).collect();
        let body = serde_json::to_vec(&spans).map_err(|error| ExportError::permanent(error.to_string()))?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        request
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        http_result(self.transport.send(request).await?.head.status)
    }

    fn encode<'a>(&'a self, span: &'a SpanData) -> ZipkinSpan<'a> {
        let mut tags: BTreeMap<&str, &str> = span
            .attributes
            .iter()
            .map(|(key, value)| (key.as_ref(), value.as_str()))
            .collect();
        tags.extend(
            self.resource
                .attributes()
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str())),
        );
        tags.remove("error");
        if let Some(error) = &span.error {
            tags.insert("otel.status_code", "ERROR");
            tags.insert("error", error);
        }
        tags.insert("otel.scope.name", SCOPE_NAME);
        let remote = REMOTE_NAMES
            .iter()
            .filter(|_| span.kind != SpanKind::Server)
            .find_map(|name| span.attributes.iter().find(|(key, _)| key == name));
        let since = |time: std::time::SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let duration = span.end.duration_since(span.start).unwrap_or_default();
        let microseconds = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        ZipkinSpan {
            timestamp: microseconds(since(span.start)),
            // To the nearest microsecond, but never down to none at all.
            duration: if duration.is_zero() {
                0
            } else {
                microseconds(duration + Duration::from_nanos(500)).max(1)
            },
            trace_id: span.context.trace_id().to_string(),
            id: span.context.span_id().to_string(),
            parent_id: span.parent.is_valid().then(|| span.parent.to_string()),
            // Zipkin's own Go model lowers these three names.
            name: span.name.to_lowercase(),
            kind: match span.kind {
                SpanKind::Server => "SERVER",
                SpanKind::Client => "CLIENT",
                SpanKind::Producer => "PRODUCER",
            },
            local_endpoint: Endpoint {
                service_name: self.resource.service_name().to_lowercase(),
            },
            remote_endpoint: remote.map(|(_, value)| Endpoint {
                service_name: value.to_lowercase(),
            }),
            tags,
        }
    }
}
