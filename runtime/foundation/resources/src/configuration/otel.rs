//! Export over OTLP: the same settings for spans (`spec.tracing.otel`, Dapr's) and for metrics and log lines
//! (`spec.metrics.otel`, `spec.logging.otel`, ours).

use std::fmt;

use outrigger_types::{Environment, duration::GoDuration};

use crate::{
    decode::{Decode, Decoder, Dialect, decode_fields},
    kinds::NameValue,
    yaml::Node,
};

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

/// A signal that Dapr itself does not push; ours (requirement rows C5, C9, O1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtelSignal {
    /// `spec.metrics.otel`.
    Metrics,
    /// `spec.logging.otel`.
    Logs,
}

impl OtelSignal {
    const fn variable(self) -> &'static str {
        match self {
            Self::Metrics => "METRICS",
            Self::Logs => "LOGS",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Metrics => "v1/metrics",
            Self::Logs => "v1/logs",
        }
    }
}

impl OtelSpec {
    /// Whether over TLS.
    #[must_use]
    pub fn secure(&self) -> bool {
        self.is_secure.unwrap_or(true)
    }

    /// Where a signal is pushed, by the Configuration or else by OpenTelemetry's own variables; `None` for nowhere.
    ///
    /// The general `OTEL_EXPORTER_OTLP_ENDPOINT` alone pushes nothing, because with Dapr it means traces:
    /// `OTEL_METRICS_EXPORTER=otlp` (`OTEL_LOGS_EXPORTER`) or the signal's own endpoint variable asks for it. Headers
    /// and time limits of the environment are the exporter's to read.
    ///
    /// # Errors
    /// When the protocol is neither `grpc` nor `http/protobuf`.
    pub fn of_signal(
        configured: Option<&Self>,
        signal: OtelSignal,
        environment: &Environment,
    ) -> Result<Option<Self>, OtelEnvironmentError> {
        let mut otel = configured.cloned().unwrap_or_default();
        let own =
            |name: &str| environment.non_empty(&format!("OTEL_EXPORTER_OTLP_{}_{name}", signal.variable()));
        let all = |name: &str| environment.non_empty(&format!("OTEL_EXPORTER_OTLP_{name}"));
        if otel.endpoint_address.is_empty() {
            let exporters = environment
                .non_empty(&format!("OTEL_{}_EXPORTER", signal.variable()))
                .unwrap_or_default();
            let named = |name: &str| exporters.split(',').any(|exporter| exporter.trim() == name);
            if named("none") || !(named("otlp") || own("ENDPOINT").is_some()) {
                return Ok(None);
            }
            if otel.protocol.is_empty() {
                otel.protocol = match own("PROTOCOL").or_else(|| all("PROTOCOL")) {
                    None | Some("grpc") => "grpc".to_owned(),
                    Some("http/protobuf" | "http") => "http".to_owned(),
                    Some(other) => return Err(OtelEnvironmentError::Protocol(other.to_owned())),
                };
            }
            let is_http = otel.protocol == "http";
            let endpoint = match (own("ENDPOINT"), all("ENDPOINT")) {
                (Some(endpoint), _) => endpoint.to_owned(),
                // Below the path of the general endpoint each signal has its own.
                (None, Some(endpoint)) if is_http => {
                    format!("{}/{}", endpoint.trim_end_matches('/'), signal.path())
                }
                (None, Some(endpoint)) => endpoint.to_owned(),
                (None, None) if is_http => "http://localhost:4318".to_owned(),
                (None, None) => "http://localhost:4317".to_owned(),
            };
            let (endpoint, by_scheme) = match endpoint.split_once("://") {
                Some((scheme, rest)) => (rest.to_owned(), Some(scheme.eq_ignore_ascii_case("https"))),
                None => (endpoint, None),
            };
            otel.endpoint_address = endpoint;
            let is_insecure = own("INSECURE").or_else(|| all("INSECURE"));
            otel.is_secure = otel
                .is_secure
                .or(by_scheme)
                .or_else(|| is_insecure.map(|text| !text.eq_ignore_ascii_case("true")));
        }
        if otel.protocol.is_empty() {
            "grpc".clone_into(&mut otel.protocol);
        }
        Ok(Some(otel))
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
    /// A protocol that is not spoken.
    #[error("invalid protocol {0}; use grpc or http/protobuf")]
    Protocol(String),
    /// A timeout that is not a whole number.
    #[error("strconv.Atoi: parsing {0:?}: invalid syntax")]
    Timeout(String),
}

pub(super) fn parse_headers(text: &str) -> Result<Vec<String>, OtelEnvironmentError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(signal: OtelSignal, pairs: &[(&str, &str)]) -> Option<(String, String, bool)> {
        OtelSpec::of_signal(None, signal, &Environment::from_pairs(pairs.iter().copied()))
            .unwrap()
            .map(|otel| {
                let secure = otel.secure();
                (otel.protocol, otel.endpoint_address, secure)
            })
    }

    #[test]
    fn the_environment_asks_for_a_push_of_metrics_or_logs() {
        use OtelSignal::{Logs, Metrics};
        let is =
            |protocol: &str, endpoint: &str, secure| Some((protocol.to_owned(), endpoint.to_owned(), secure));
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:4317/base/");
        assert_eq!(of(Metrics, &[general]), None, "the general address means traces");
        let asked = ("OTEL_METRICS_EXPORTER", "console, otlp");
        assert_eq!(of(Metrics, &[general, asked]), is("grpc", "c:4317/base/", true));
        assert_eq!(of(Logs, &[general, asked]), None);
        assert_eq!(of(Metrics, &[asked]), is("grpc", "localhost:4317", false));
        let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        assert_eq!(of(Metrics, &[asked, http]), is("http", "localhost:4318", false));
        assert_eq!(
            of(Metrics, &[general, asked, http]),
            is("http", "c:4317/base/v1/metrics", true)
        );
        let own = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "logs:1");
        assert_eq!(of(Logs, &[own, general]), is("grpc", "logs:1", true));
        assert_eq!(
            of(Logs, &[own, ("OTEL_EXPORTER_OTLP_INSECURE", "true")]),
            is("grpc", "logs:1", false)
        );
        assert_eq!(of(Logs, &[own, ("OTEL_LOGS_EXPORTER", "none")]), None);
        let json = [own, ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json")];
        assert_eq!(
            OtelSpec::of_signal(None, Logs, &Environment::from_pairs(json)),
            Err(OtelEnvironmentError::Protocol("http/json".into()))
        );
    }

    #[test]
    fn the_configuration_wins_over_the_environment() {
        let configured = OtelSpec {
            endpoint_address: "a:1".into(),
            ..OtelSpec::default()
        };
        let environment = Environment::from_pairs([("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "b:2")]);
        let otel = OtelSpec::of_signal(Some(&configured), OtelSignal::Metrics, &environment)
            .unwrap()
            .unwrap();
        assert_eq!(
            (otel.endpoint_address.as_str(), otel.protocol.as_str()),
            ("a:1", "grpc")
        );
    }
}
