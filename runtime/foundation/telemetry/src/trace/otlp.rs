//! The OTLP trace exporter over gRPC and HTTP.
//!
//! The dozen messages are declared here by hand: the generated crate brings the whole OpenTelemetry SDK along,
//! and one unary call over hyper needs no gRPC library.

use std::{sync::Arc, time::Duration, time::SystemTime, time::UNIX_EPOCH};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use outrigger_types::Environment;
use prost::Message as _;

use super::{
    OtlpOptions, OtlpProtocol, SpanKind, TraceError, TracerOptions, export::ExportError, resource::Resource,
    span::SpanData, transport::Transport,
};

/// The name under which the peer makes spans.
pub(super) const SCOPE_NAME: &str = "dapr-diagnostics";

/// The semantic conventions the attributes follow.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.25.0";

const EXPORT_METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// OTLP's default time limit.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// `opentelemetry.proto.*` as far as spans need it; the numbers are the published ones.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ExportTraceServiceRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) resource_spans: Vec<ResourceSpans>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        pub(super) resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub(super) scope_spans: Vec<ScopeSpans>,
        #[prost(string, tag = "3")]
        pub(super) schema_url: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub(super) attributes: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ScopeSpans {
        #[prost(message, optional, tag = "1")]
        pub(super) scope: Option<InstrumentationScope>,
        #[prost(message, repeated, tag = "2")]
        pub(super) spans: Vec<Span>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct InstrumentationScope {
        #[prost(string, tag = "1")]
        pub(super) name: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) span_id: Vec<u8>,
        #[prost(string, tag = "3")]
        pub(super) trace_state: String,
        #[prost(bytes = "vec", tag = "4")]
        pub(super) parent_span_id: Vec<u8>,
        #[prost(string, tag = "5")]
        pub(super) name: String,
        #[prost(int32, tag = "6")]
        pub(super) kind: i32,
        #[prost(fixed64, tag = "7")]
        pub(super) start_time_unix_nano: u64,
        #[prost(fixed64, tag = "8")]
        pub(super) end_time_unix_nano: u64,
        #[prost(message, repeated, tag = "9")]
        pub(super) attributes: Vec<KeyValue>,
        #[prost(message, optional, tag = "15")]
        pub(super) status: Option<Status>,
        #[prost(fixed32, tag = "16")]
        pub(super) flags: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Status {
        #[prost(string, tag = "2")]
        pub(super) message: String,
        #[prost(int32, tag = "3")]
        pub(super) code: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct KeyValue {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(message, optional, tag = "2")]
        pub(super) value: Option<AnyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct AnyValue {
        #[prost(string, optional, tag = "1")]
        pub(super) string_value: Option<String>,
    }
}

/// Sends batches to one collector.
pub(super) struct OtlpExporter {
    protocol: OtlpProtocol,
    uri: Uri,
    headers: HeaderMap,
    resource: proto::Resource,
    transport: Transport,
}

impl OtlpExporter {
    pub(super) fn new(
        otlp: &OtlpOptions,
        options: &TracerOptions,
        resource: &Resource,
    ) -> Result<Self, TraceError> {
        let (address, is_secure) = match otlp.endpoint.split_once("://") {
            Some((scheme, address)) => (address, otlp.is_secure || scheme.eq_ignore_ascii_case("https")),
            None => (otlp.endpoint.as_str(), otlp.is_secure),
        };
        let scheme = if is_secure { "https" } else { "http" };
        let path = match otlp.protocol {
            OtlpProtocol::Grpc => EXPORT_METHOD,
            OtlpProtocol::Http if address.trim_end_matches('/').contains('/') => "",
            OtlpProtocol::Http => "/v1/traces",
        };
        let uri = format!("{scheme}://{}{path}", address.trim_end_matches('/'))
            .parse::<Uri>()
            .map_err(|error| TraceError::Endpoint {
                endpoint: otlp.endpoint.clone(),
                reason: error.to_string(),
            })?;
        let timeout = otlp
            .timeout
            .or_else(|| environment_timeout(&options.environment))
            .unwrap_or(DEFAULT_TIMEOUT);
        Ok(Self {
            protocol: otlp.protocol,
            uri,
            headers: headers(&otlp.headers, &options.environment),
            resource: proto::Resource {
                attributes: resource
                    .attributes()
                    .iter()
                    .map(|(key, value)| attribute(key, value))
                    .collect(),
            },
            transport: Transport::new(
                is_secure,
                otlp.protocol == OtlpProtocol::Grpc,
                options.resolver.clone(),
                timeout,
            )?,
        })
    }

    pub(super) async fn export(&self, spans: &[Arc<SpanData>]) -> Result<(), ExportError> {
        let message = proto::ExportTraceServiceRequest {
            resource_spans: vec![proto::ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![proto::ScopeSpans {
                    scope: Some(proto::InstrumentationScope {
                        name: SCOPE_NAME.to_owned(),
                    }),
                    spans: spans.iter().map(|span| encode(span)).collect(),
                }],
                schema_url: SCHEMA_URL.to_owned(),
            }],
        };
        let mut request = Request::new(Full::default());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        match self.protocol {
            OtlpProtocol::Grpc => {
                let length = message.encoded_len();
                let mut frame = BytesMut::with_capacity(length + 5);
                frame.put_u8(0);
                frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
                frame.put_slice(&message.encode_to_vec());
                *request.version_mut() = http::Version::HTTP_2;
                request
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                request
                    .headers_mut()
                    .insert(header::TE, HeaderValue::from_static("trailers"));
                *request.body_mut() = Full::new(frame.freeze());
                grpc_result(&self.transport.send(request).await?)
            }
            OtlpProtocol::Http => {
                request.headers_mut().insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/x-protobuf"),
                );
                *request.body_mut() = Full::new(Bytes::from(message.encode_to_vec()));
                http_result(self.transport.send(request).await?.head.status)
            }
        }
    }
}

/// 2xx is success; the statuses OTLP names may be tried again.
pub(super) fn http_result(status: StatusCode) -> Result<(), ExportError> {
    if status.is_success() {
        return Ok(());
    }
    let message = format!("the collector answered {status}");
    Err(match status.as_u16() {
        429 | 502 | 503 | 504 => ExportError::retryable(message),
        _ => ExportError::permanent(message),
    })
}

fn grpc_result(answer: &super::transport::Answer) -> Result<(), ExportError> {
    if answer.head.status != StatusCode::OK {
        return http_result(answer.head.status);
    }
    // An answer without a message carries its status in the head.
    let find = |name: &str| {
        answer
            .trailers
            .as_ref()
            .and_then(|trailers| trailers.get(name))
            .or_else(|| answer.head.headers.get(name))
            .and_then(|value| value.to_str().ok())
    };
    match find("grpc-status") {
        Some("0") => Ok(()),
        Some(code) => {
            let message = format!(
                "the collector answered gRPC status {code}: {}",
                find("grpc-message").unwrap_or_default()
            );
            Err(match code {
                // Cancelled, deadline exceeded, aborted, out of range, unavailable, data loss.
                "1" | "4" | "10" | "11" | "14" | "15" => ExportError::retryable(message),
                _ => ExportError::permanent(message),
            })
        }
        None => Err(ExportError::retryable("the collector's answer was cut short")),
    }
}

fn environment_timeout(environment: &Environment) -> Option<Duration> {
    ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"]
        .iter()
        .find_map(|name| environment.non_empty(name))
        .and_then(|text| text.parse().ok())
        .filter(|milliseconds| *milliseconds > 0)
        .map(Duration::from_millis)
}

/// Configured headers, else the environment's; what cannot be a header is left out.
fn headers(configured: &[String], environment: &Environment) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: &str| {
        let name = HeaderName::try_from(name.trim());
        let value = HeaderValue::try_from(value.trim());
        if let (Ok(name), Ok(mut value)) = (name, value) {
            // Most of them are keys; they stay out of debug output and HPACK tables.
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    };
    if configured.is_empty() {
        let pairs = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"]
            .iter()
            .find_map(|name| environment.non_empty(name))
            .unwrap_or_default();
        for (name, value) in pairs.split(',').filter_map(|pair| pair.split_once('=')) {
            add(
                name,
                &percent_encoding::percent_decode_str(value).decode_utf8_lossy(),
            );
        }
    } else {
        for (name, value) in configured.iter().filter_map(|pair| pair.split_once('=')) {
            add(name, value);
        }
    }
    headers
}

fn attribute(key: &str, value: &str) -> proto::KeyValue {
    proto::KeyValue {
        key: key.to_owned(),
        value: Some(proto::AnyValue {
            string_value: Some(value.to_owned()),
        }),
    }
}

fn encode(span: &SpanData) -> proto::Span {
    let has_parent = span.parent.is_valid();
    proto::Span {
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
            .map(|(key, value)| attribute(key, value))
            .collect(),
        status: span.error.as_ref().map(|message| proto::Status {
            message: message.clone(),
            code: 2,
        }),
        // Bit 8 says that bit 9 is known; every parent here came from another process or another span's context.
        flags: u32::from(span.context.flags()) | 0x100 | if has_parent { 0x200 } else { 0 },
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
