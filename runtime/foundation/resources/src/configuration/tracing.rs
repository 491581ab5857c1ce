//! Tracing settings, and the OpenTelemetry environment variables that complete them.

use std::fmt;

use outrigger_types::{Environment, duration::GoDuration};

use crate::{
    decode::{Decode, Decoder, Dialect, decode_fields},
    kinds::NameValue,
    yaml::Node,
};

/// Tracing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TracingSpec {
    /// The share of traces taken, `0` to `1`, as text.
    pub sampling_rate: String,
    /// Whether spans are printed.
    pub stdout: bool,
    /// Export to Zipkin.
    pub zipkin: Option<ZipkinSpec>,
    /// Export over OTLP.
    pub otel: Option<OtelSpec>,
}

decode_fields!(TracingSpec {
    "samplingRate" => sampling_rate,
    "stdout" => stdout,
    "zipkin" => zipkin,
    "otel" => otel,
});

/// Export to Zipkin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ZipkinSpec {
    /// The URL spans are posted to.
    pub endpoint_address: String,
}

decode_fields!(ZipkinSpec { "endpointAddress" => endpoint_address });

/// Export over OTLP.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct OtelSpec {
    /// `grpc` or `http`.
    pub protocol: String,
    /// Where to, without scheme.
    pub endpoint_address: String,
    /// Whether over TLS; yes when not said.
    pub is_secure: Option<bool>,
    /// Headers of every export, each `name=value`; may be secrets.
    pub headers: Vec<String>,
    /// How long an export may take.
    pub timeout: Option<GoDuration>,
}

decode_fields!(OtelSpec {
    "protocol" => protocol,
    "endpointAddress" => endpoint_address,
    "isSecure" => is_secure,
    "headers" => headers via decode_headers,
    "timeout" => timeout,
});

/// Texts in a `--config` file, name and value pairs in the resource (upstream has two types for it).
fn decode_headers(place: &mut Vec<String>, node: &Node, decoder: &mut Decoder) {
    if decoder.dialect == Dialect::YamlV3 {
        return place.decode(node, decoder);
    }
    let mut pairs: Vec<NameValue> = Vec::new();
    pairs.decode(node, decoder);
    *place = pairs
        .iter()
        .map(|pair| format!("{}={}", pair.name, pair.value.text()))
        .collect();
}

impl fmt::Debug for OtelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self
            .headers
            .iter()
            .map(|header| header.split('=').next().unwrap_or_default())
            .collect();
        f.debug_struct("OtelSpec")
            .field("protocol", &self.protocol)
            .field("endpoint_address", &self.endpoint_address)
            .field("is_secure", &self.is_secure)
            .field("headers", &names)
            .field("timeout", &self.timeout)
            .finish()
    }
}

impl OtelSpec {
    /// Whether over TLS.
    #[must_use]
    pub fn secure(&self) -> bool {
        self.is_secure.unwrap_or(true)
    }
}

/// An OpenTelemetry variable that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtelEnvironmentError {
    /// A header without `=`. The text is left out because it may be a secret.
    #[error("missing '=' parse headers input")]
    HeaderWithoutValue,
    /// A header name with characters HTTP forbids.
    #[error("invalid header key{0}")]
    HeaderName(String),
    /// A header value whose percent-encoding is broken.
    #[error("escape header value of {0}")]
    HeaderValue(String),
    /// A timeout that is not a whole number.
    #[error("strconv.Atoi: parsing {0:?}: invalid syntax")]
    Timeout(String),
}

impl TracingSpec {
    /// Completes the settings from `OTEL_EXPORTER_OTLP_*`; settings with an address are left as they are
    /// (upstream `SetTracingSpecFromEnv`, requirement C2).
    ///
    /// # Errors
    /// When headers or a timeout cannot be read; upstream logs it and goes on.
    pub fn complete_from(&mut self, environment: &Environment) -> Result<(), OtelEnvironmentError> {
        let either = |traces: &str, all: &str| {
            let name = |kind: &str| format!("OTEL_EXPORTER_OTLP_{kind}");
            environment
                .non_empty(&name(traces))
                .or_else(|| environment.non_empty(&name(all)))
        };
        let otel = self.otel.get_or_insert_default();
        if !otel.endpoint_address.is_empty() {
            return Ok(());
        }
        if let Some(endpoint) = either("TRACES_ENDPOINT", "ENDPOINT") {
            let endpoint = endpoint.strip_prefix("http://").unwrap_or(endpoint);
            let endpoint = endpoint.strip_prefix("https://").unwrap_or(endpoint);
            endpoint.clone_into(&mut otel.endpoint_address);
            if self.sampling_rate.is_empty() {
                "1".clone_into(&mut self.sampling_rate);
            }
            let http =
                either("TRACES_PROTOCOL", "PROTOCOL").is_some_and(|protocol| protocol.starts_with("http"));
            otel.protocol = if http { "http" } else { "grpc" }.to_owned();
            if environment.get("OTEL_EXPORTER_OTLP_INSECURE") == Some("true") {
                otel.is_secure = Some(false);
            }
        }
        if let Some(headers) = either("TRACES_HEADERS", "HEADERS") {
            otel.headers.extend(parse_headers(headers)?);
        }
        if let Some(text) = either("TRACES_TIMEOUT", "TIMEOUT") {
            let millis: i64 = text
                .parse()
                .map_err(|_| OtelEnvironmentError::Timeout(text.to_owned()))?;
            if millis > 0 {
                otel.timeout = Some(GoDuration::from_millis(millis));
            }
        }
        Ok(())
    }
}

fn parse_headers(text: &str) -> Result<Vec<String>, OtelEnvironmentError> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for pair in text.split(',') {
        let (name, value) = pair
            .split_once('=')
            .ok_or(OtelEnvironmentError::HeaderWithoutValue)?;
        let name = name.trim();
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            return Err(OtelEnvironmentError::HeaderName(name.to_owned()));
        }
        let value = unescape(value).ok_or_else(|| OtelEnvironmentError::HeaderValue(name.to_owned()))?;
        let value = value.trim().to_owned();
        match headers.iter_mut().find(|(known, _)| known == name) {
            Some(known) => known.1 = value,
            None => headers.push((name.to_owned(), value)),
        }
    }
    Ok(headers
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect())
}

/// Percent-decoding that refuses broken escapes, as Go's `url.PathUnescape`.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let value = digit(rest.next())? * 16 + digit(rest.next())?;
        bytes.push(u8::try_from(value).ok()?);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
