//! Where spans and metrics are pushed: OTLP, as the variables of OpenTelemetry's specification say ("OpenTelemetry
//! Protocol Exporter"). Headers and compression are read from the process by the exporters themselves.

use std::time::Duration;

use http::Uri;
use opentelemetry_otlp::{
    MetricExporter, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};
use tonic::transport::ClientTlsConfig;

use super::http_client::HttpSender;
use crate::{Environment, Error};

/// Unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is pushed by itself, with variables of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    fn word(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
        }
    }

    /// Below the general endpoint; an endpoint of the signal's own is taken as it is.
    fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
        }
    }

    /// The signal's exporters: the words of `OTEL_TRACES_EXPORTER` or `OTEL_METRICS_EXPORTER`. None is unset.
    pub(super) fn exporters(self, environment: &Environment) -> Result<Option<Vec<String>>, Error> {
        let known: &[&str] = match self {
            Self::Traces => &["otlp", "none"],
            Self::Metrics => &["otlp", "prometheus", "none"],
        };
        let name = format!("OTEL_{}_EXPORTER", self.word());
        let Some(text) = set(environment, &name) else {
            return Ok(None);
        };
        let words: Vec<String> = text
            .split(',')
            .map(|word| word.trim().to_ascii_lowercase())
            .collect();
        match words.iter().find(|word| !known.contains(&word.as_str())) {
            None => Ok(Some(words)),
            Some(_) => Err(Error::Invalid(format!(
                "{name} {text:?} is not known here; known are {}",
                known.join(", ")
            ))),
        }
    }
}

/// Where one signal goes, and how.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    over_http: bool,
    endpoint: String,
    timeout: Duration,
}

impl Target {
    fn read(environment: &Environment, signal: Signal) -> Result<Self, Error> {
        let own = |what: &str| format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.word());
        let general = |what: &str| format!("OTEL_EXPORTER_OTLP_{what}");
        let either = |what: &str| {
            [own(what), general(what)]
                .into_iter()
                .find_map(|name| set(environment, &name).map(|value| (name, value)))
        };
        let over_http = match either("PROTOCOL") {
            None | Some((_, "grpc")) => false,
            Some((_, "http/protobuf")) => true,
            Some((name, other)) => {
                return Err(Error::Invalid(format!(
                    "{name} {other:?} is not known here; known are grpc and http/protobuf"
                )));
            }
        };
        let timeout =
            match either("TIMEOUT") {
                None => TIMEOUT,
                Some((name, text)) => Duration::from_millis(text.parse().map_err(|_| {
                    Error::Invalid(format!("{name} {text:?} is not a number of milliseconds"))
                })?),
            };
        let (set_own, set_general) = (
            set(environment, &own("ENDPOINT")),
            set(environment, &general("ENDPOINT")),
        );
        let (name, endpoint) = match (set_own, set_general) {
            (Some(endpoint), _) => (own("ENDPOINT"), endpoint.to_owned()),
            (None, Some(base)) if over_http => (general("ENDPOINT"), below(base, signal)),
            (None, Some(endpoint)) => (general("ENDPOINT"), endpoint.to_owned()),
            (None, None) if over_http => (String::new(), below("http://localhost:4318", signal)),
            (None, None) => (String::new(), "http://localhost:4317".to_owned()),
        };
        let insecure = either("INSECURE").is_some_and(|(_, word)| word.eq_ignore_ascii_case("true"));
        Ok(Self {
            over_http,
            endpoint: address(&name, &endpoint, over_http, insecure)?,
            timeout,
        })
    }

    fn is_tls(&self) -> bool {
        self.endpoint.starts_with("https:")
    }
}

/// The exporter of spans. Has to be made inside a tokio runtime.
pub(super) fn spans(environment: &Environment) -> Result<SpanExporter, Error> {
    let target = Target::read(environment, Signal::Traces)?;
    let builder = SpanExporter::builder();
    let exporter = if target.over_http {
        builder
            .with_http()
            .with_http_client(HttpSender::new(target.is_tls(), target.timeout)?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&target.endpoint)
            .with_timeout(target.timeout)
            .build()
    } else {
        let builder = builder
            .with_tonic()
            .with_endpoint(&target.endpoint)
            .with_timeout(target.timeout);
        if target.is_tls() {
            builder.with_tls_config(tls()).build()
        } else {
            builder.build()
        }
    };
    exporter.map_err(|error| unusable(&error))
}

/// The exporter of metrics. Has to be made inside a tokio runtime.
pub(super) fn metrics(environment: &Environment) -> Result<MetricExporter, Error> {
    let target = Target::read(environment, Signal::Metrics)?;
    let builder = MetricExporter::builder();
    let exporter = if target.over_http {
        builder
            .with_http()
            .with_http_client(HttpSender::new(target.is_tls(), target.timeout)?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&target.endpoint)
            .with_timeout(target.timeout)
            .build()
    } else {
        let builder = builder
            .with_tonic()
            .with_endpoint(&target.endpoint)
            .with_timeout(target.timeout);
        if target.is_tls() {
            builder.with_tls_config(tls()).build()
        } else {
            builder.build()
        }
    };
    exporter.map_err(|error| unusable(&error))
}

fn tls() -> ClientTlsConfig {
    ClientTlsConfig::new().with_enabled_roots()
}

fn unusable(error: &dyn std::fmt::Display) -> Error {
    Error::Invalid(format!("OTEL_EXPORTER_OTLP_*: {error}"))
}

fn below(base: &str, signal: Signal) -> String {
    format!("{}{}", base.trim_end_matches('/'), signal.path())
}

/// The endpoint with its scheme. For gRPC one may be left out; then `INSECURE` decides.
fn address(name: &str, text: &str, over_http: bool, insecure: bool) -> Result<String, Error> {
    let full = if text.contains("://") || over_http {
        text.to_owned()
    } else if insecure {
        format!("http://{text}")
    } else {
        format!("https://{text}")
    };
    let known = full
        .parse::<Uri>()
        .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    if known {
        Ok(full)
    } else {
        Err(Error::Invalid(format!(
            "{name} {text:?} is not http://host:port or https://host:port"
        )))
    }
}

/// A variable that is set to more than blanks.
fn set<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    let value = environment.get(name)?.trim();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::post;
    use bytes::Bytes;
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use prost::Message as _;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn spans_go_over_http_to_a_collector() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, mut hear) = mpsc::unbounded_channel();
        let take = move |body: Bytes| {
            told.send(ExportTraceServiceRequest::decode(body).unwrap())
                .unwrap();
            std::future::ready(Bytes::new())
        };
        let routes = Router::new().route("/v1/traces", post(take));
        let server = tokio::spawn(async move { axum::serve(listener, routes).await });
        let exporter = spans(&environment(&[
            ("EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("EXPORTER_OTLP_ENDPOINT", &format!("http://{address}")),
        ]));
        // The exporter's thread is none of the runtime's.
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter.unwrap())
            .build();
        provider.tracer("shop").start("order");
        let flushed = provider.clone();
        tokio::task::spawn_blocking(move || flushed.force_flush())
            .await
            .unwrap()
            .unwrap();
        let request = hear.recv().await.unwrap();
        assert_eq!(request.resource_spans[0].scope_spans[0].spans[0].name, "order");
        server.abort();
    }

    /// Each name without its `OTEL_`.
    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables
            .iter()
            .map(|(name, value)| (format!("OTEL_{name}"), (*value).to_owned()))
            .collect()
    }

    fn target(variables: &[(&str, &str)], signal: Signal) -> Result<(bool, String), String> {
        Target::read(&environment(variables), signal)
            .map(|target| (target.over_http, target.endpoint))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn protocol_and_endpoint_are_the_signals_own_before_the_general_ones() {
        use Signal::{Metrics, Traces};
        let http = ("EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        let base = ("EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        for (variables, signal, expected) in [
            (&[][..], Traces, (false, "http://localhost:4317")),
            (&[http], Traces, (true, "http://localhost:4318/v1/traces")),
            (&[http, base], Metrics, (true, "http://collector:4318/v1/metrics")),
            (&[base], Metrics, (false, "http://collector:4318/")),
            (
                &[http, base, ("EXPORTER_OTLP_TRACES_ENDPOINT", "http://other:1/in")],
                Traces,
                (true, "http://other:1/in"),
            ),
            (
                &[http, base, ("EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")],
                Traces,
                (false, "http://collector:4318/"),
            ),
            (
                &[("EXPORTER_OTLP_ENDPOINT", "collector:4317")],
                Traces,
                (false, "https://collector:4317"),
            ),
            (
                &[
                    ("EXPORTER_OTLP_ENDPOINT", "collector:4317"),
                    ("EXPORTER_OTLP_INSECURE", "true"),
                ],
                Traces,
                (false, "http://collector:4317"),
            ),
        ] {
            let expected = Ok((expected.0, expected.1.to_owned()));
            assert_eq!(target(variables, signal), expected, "{variables:?}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_with_what_can() {
        for (variables, parts) in [
            (
                &[("EXPORTER_OTLP_PROTOCOL", "http/json")][..],
                [
                    "OTEL_EXPORTER_OTLP_PROTOCOL \"http/json\"",
                    "grpc and http/protobuf",
                ],
            ),
            (
                &[("EXPORTER_OTLP_TRACES_PROTOCOL", "udp")],
                ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc and http/protobuf"],
            ),
            (
                &[("EXPORTER_OTLP_TIMEOUT", "10s")],
                ["OTEL_EXPORTER_OTLP_TIMEOUT", "milliseconds"],
            ),
            (
                &[
                    ("EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
                    ("EXPORTER_OTLP_ENDPOINT", "collector:4318"),
                ],
                ["OTEL_EXPORTER_OTLP_ENDPOINT", "http://host:port"],
            ),
        ] {
            let problem = target(variables, Signal::Traces).unwrap_err();
            for part in parts {
                assert!(problem.contains(part), "{part} in {problem}");
            }
        }
        let words = |text| Signal::Traces.exporters(&environment(&[("TRACES_EXPORTER", text)]));
        assert_eq!(words("None").unwrap().unwrap(), ["none"]);
        assert!(words("zipkin").unwrap_err().to_string().contains("otlp, none"));
    }
}
