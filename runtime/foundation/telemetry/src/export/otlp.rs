//! The OTLP client over gRPC and HTTP: one unary call over hyper needs no gRPC library.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use outrigger_types::Environment;
use prost::Message;

use super::{
    ExportCounts, ExportError, ExporterError, Resolver, Signal, proto,
    transport::{Answer, Transport},
};

/// OTLP's default time limit.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// How exports reach an OpenTelemetry collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP at `/v1/traces`, `/v1/metrics` or `/v1/logs`.
    Http,
}

impl std::str::FromStr for OtlpProtocol {
    type Err = ExporterError;

    fn from_str(text: &str) -> Result<Self, ExporterError> {
        match text {
            "grpc" => Ok(Self::Grpc),
            "http" => Ok(Self::Http),
            other => Err(ExporterError::Protocol(other.to_owned())),
        }
    }
}

/// `spec.tracing.otel`, `spec.metrics.otel` or `spec.logging.otel`.
#[derive(Clone)]
pub struct OtlpOptions {
    /// `host:port`; a scheme in front is accepted and, if `https`, means [`Self::is_secure`].
    pub endpoint: String,
    /// The protocol.
    pub protocol: OtlpProtocol,
    /// Whether to use TLS with the system's roots.
    pub is_secure: bool,
    /// Headers as `name=value`; when empty those of `OTEL_EXPORTER_OTLP_[<SIGNAL>_]HEADERS` are sent. Other
    /// texts are ignored, as in the peer. They may be secrets and are never printed.
    pub headers: Vec<String>,
    /// The limit of one export; `None` means `OTEL_EXPORTER_OTLP_[<SIGNAL>_]TIMEOUT` (ms) or ten seconds.
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

/// Sends messages of one signal to one collector.
pub(crate) struct OtlpClient {
    signal: Signal,
    protocol: OtlpProtocol,
    uri: Uri,
    headers: HeaderMap,
    transport: Transport,
    counts: ExportCounts,
}

impl OtlpClient {
    pub(crate) fn new(
        signal: Signal,
        otlp: &OtlpOptions,
        environment: &Environment,
        resolver: Option<Resolver>,
        counts: ExportCounts,
    ) -> Result<Self, ExporterError> {
        let (address, is_secure) = match otlp.endpoint.split_once("://") {
            Some((scheme, address)) => (address, otlp.is_secure || scheme.eq_ignore_ascii_case("https")),
            None => (otlp.endpoint.as_str(), otlp.is_secure),
        };
        let scheme = if is_secure { "https" } else { "http" };
        let path = match otlp.protocol {
            OtlpProtocol::Grpc => grpc_method(signal).to_owned(),
            OtlpProtocol::Http if address.trim_end_matches('/').contains('/') => String::new(),
            OtlpProtocol::Http => format!("/v1/{}", signal.as_str()),
        };
        let uri = format!("{scheme}://{}{path}", address.trim_end_matches('/'))
            .parse::<Uri>()
            .map_err(|error| ExporterError::Endpoint {
                endpoint: otlp.endpoint.clone(),
                reason: error.to_string(),
            })?;
        let timeout = otlp
            .timeout
            .or_else(|| environment_timeout(signal, environment))
            .unwrap_or(DEFAULT_TIMEOUT);
        Ok(Self {
            signal,
            protocol: otlp.protocol,
            uri,
            headers: headers(signal, &otlp.headers, environment),
            transport: Transport::new(is_secure, otlp.protocol == OtlpProtocol::Grpc, resolver, timeout)?,
            counts,
        })
    }

    /// Sends one message. Records that the collector took the message but refused are counted as failed here; the
    /// caller counts the rest.
    pub(crate) async fn send(&self, message: &impl Message) -> Result<(), ExportError> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let answer = match self.protocol {
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
                let mut answer = self.transport.send(request).await?;
                grpc_result(&answer)?;
                answer.body.advance(answer.body.len().min(5));
                answer
            }
            OtlpProtocol::Http => {
                request.headers_mut().insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/x-protobuf"),
                );
                *request.body_mut() = Full::new(Bytes::from(message.encode_to_vec()));
                let answer = self.transport.send(request).await?;
                http_result(answer.head.status)?;
                answer
            }
        };
        self.note_rejected(&answer);
        Ok(())
    }

    /// OTLP's partial success: an answer that counts what the collector could not use.
    fn note_rejected(&self, answer: &Answer) {
        let Ok(proto::ExportResponse {
            partial_success: Some(partial),
        }) = proto::ExportResponse::decode(answer.body.clone())
        else {
            return;
        };
        let proto::PartialSuccess {
            rejected,
            error_message,
        } = partial;
        if let Ok(rejected) = u64::try_from(rejected)
            && rejected > 0
        {
            self.counts.failed.add(rejected);
            let signal = self.signal.as_str();
            tracing::debug!(
                target: super::EXPORT_SCOPE,
                "the collector refused {rejected} of a batch of {signal}: {error_message}"
            );
        }
    }
}

fn grpc_method(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    }
}

/// 2xx is success; the statuses OTLP names may be tried again.
pub(crate) fn http_result(status: StatusCode) -> Result<(), ExportError> {
    if status.is_success() {
        return Ok(());
    }
    let message = format!("the collector answered {status}");
    Err(match status.as_u16() {
        429 | 502 | 503 | 504 => ExportError::retryable(message),
        _ => ExportError::permanent(message),
    })
}

fn grpc_result(answer: &Answer) -> Result<(), ExportError> {
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
                // Cancelled, deadline exceeded, resource exhausted, aborted, out of range, unavailable, data loss.
                "1" | "4" | "8" | "10" | "11" | "14" | "15" => ExportError::retryable(message),
                _ => ExportError::permanent(message),
            })
        }
        None => Err(ExportError::retryable("the collector's answer was cut short")),
    }
}

/// `OTEL_EXPORTER_OTLP_<SIGNAL>_<name>`, else `OTEL_EXPORTER_OTLP_<name>`.
fn variable<'a>(signal: Signal, name: &str, environment: &'a Environment) -> Option<&'a str> {
    environment
        .non_empty(&format!("OTEL_EXPORTER_OTLP_{}_{name}", signal.variable()))
        .or_else(|| environment.non_empty(&format!("OTEL_EXPORTER_OTLP_{name}")))
}

fn environment_timeout(signal: Signal, environment: &Environment) -> Option<Duration> {
    variable(signal, "TIMEOUT", environment)
        .and_then(|text| text.parse().ok())
        .filter(|milliseconds| *milliseconds > 0)
        .map(Duration::from_millis)
}

/// Configured headers, else the environment's; what cannot be a header is left out.
fn headers(signal: Signal, configured: &[String], environment: &Environment) -> HeaderMap {
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
        let pairs = variable(signal, "HEADERS", environment).unwrap_or_default();
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

/// Nanoseconds since 1970, as OTLP has times.
pub(crate) fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
