//! Tracing settings, and the OpenTelemetry environment variables that complete them.

use outrigger_types::{Environment, duration::GoDuration};

use super::otel::{OtelEnvironmentError, OtelSpec, parse_headers};
use crate::decode::decode_fields;

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
