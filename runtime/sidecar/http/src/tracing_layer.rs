//! Spans of the public HTTP API (C1, C3; upstream `pkg/diagnostics/http_tracing.go`).

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use outrigger_sidecar_api::{Body, Endpoint, Reply};
use outrigger_telemetry::{
    Tracer,
    trace::{HttpExchange, LogIds, Protocol, Recording, Span, SpanContext, baggage},
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// Traces requests. Inside, the context of the span is an extension of the request ([`SpanContext`]) and stands in
/// its `traceparent` and `tracestate` headers.
#[derive(Debug, Clone)]
pub struct TracingLayer {
    tracer: Tracer,
}

/// A request under way.
#[derive(Debug, Default)]
pub(crate) struct Traced {
    span: Span,
    baggage: Option<HeaderValue>,
    /// What attributes need; only when the span is recorded.
    details: Option<Box<Details>>,
    untraced: bool,
}

#[derive(Debug)]
struct Details {
    method: Method,
    path: String,
    target: String,
    headers: Vec<(String, String)>,
}

impl Traced {
    /// The ids for log lines of the request.
    pub(crate) fn log_ids(&self) -> LogIds {
        self.span.context().log_ids()
    }
}

impl TracingLayer {
    /// A layer over this tracer.
    #[must_use]
    pub fn new(tracer: Tracer) -> Self {
        Self { tracer }
    }

    /// Begins the span of a request; refuses a request whose baggage cannot be read.
    pub(crate) fn begin(
        &self,
        mut request: Request<Body>,
    ) -> Result<(Request<Body>, Traced), Box<Response<Body>>> {
        if request.uri().path().contains("/healthz") {
            return Ok((
                request,
                Traced {
                    untraced: true,
                    ..Traced::default()
                },
            ));
        }
        let text = |name: &HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        let parent = SpanContext::from_headers(text(&TRACEPARENT), text(&TRACESTATE)).unwrap_or_default();
        let baggage = match check_baggage(&request) {
            Ok(baggage) => baggage,
            Err(text) => return Err(Box::new(Reply::text(StatusCode::BAD_REQUEST, &text))),
        };
        let path = percent_encoding::percent_decode_str(request.uri().path()).decode_utf8_lossy();
        let mut span = self.tracer.http_api(&path, &parent);
        let details = span.recording().is_some().then(|| {
            Box::new(Details {
                method: request.method().clone(),
                path: path.clone().into_owned(),
                target: request.uri().to_string(),
                headers: request
                    .headers()
                    .iter()
                    .filter(|(name, _)| {
                        name.as_str().starts_with("dapr-") && name.as_str() != "dapr-api-token"
                    })
                    .filter_map(|(name, value)| {
                        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
                    })
                    .collect(),
            })
        });
        drop(path);
        let context = span.context().clone();
        // An invalid context tells the APIs that tracing is on but has nothing to pass on.
        write_context(&context, request.headers_mut());
        request.extensions_mut().insert(context);
        Ok((
            request,
            Traced {
                span,
                baggage,
                details,
                untraced: false,
            },
        ))
    }

    /// Ends the span of a request and lays the trace headers on its answer.
    pub(crate) fn end(
        &self,
        mut traced: Traced,
        mut response: Response<Body>,
        endpoint: Option<&Endpoint>,
    ) -> Response<Body> {
        if traced.untraced {
            return response;
        }
        if let Some(baggage) = traced.baggage.take() {
            response.headers_mut().insert(BAGGAGE, baggage);
        }
        // An app that set its own context keeps it.
        if !response.headers().contains_key(&TRACEPARENT) {
            write_context(traced.span.context(), response.headers_mut());
        }
        if let (Some(recording), Some(details)) = (traced.span.recording(), &traced.details) {
            recording.dapr_headers(
                Protocol::Http,
                details.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())),
            );
            recording.http_exchange(&HttpExchange {
                method: details.method.as_str(),
                path: &details.path,
                target: &details.target,
                remote: "",
                status: response.status().as_u16(),
            });
            if let Some(endpoint) = endpoint {
                describe(recording, endpoint, details);
            }
        }
        traced.span.end();
        response
    }
}

/// Name and attributes of the API that served the request.
fn describe(recording: &mut Recording, endpoint: &Endpoint, details: &Details) {
    let mut segments = details.path.trim_start_matches('/').splitn(4, '/').skip(2);
    let component = segments.next().unwrap_or_default();
    let rest = segments.next().unwrap_or_default();
    let statement = format!("{} {}", details.method, details.path);
    match endpoint.group.name {
        "state" => recording.state(Protocol::Http, component, &statement),
        "secrets" => recording.secret(Protocol::Http, component, &statement),
        "bindings" => recording.output_binding(Protocol::Http, component, &statement),
        "publish" => recording.publish(Protocol::Http, rest),
        "conversation" => recording.conversation(component),
        "invoke" => {
            let (app_id, method) = match rest.strip_prefix("method/") {
                Some(method) if details.path.contains("/invoke/") => {
                    (component.to_owned(), method.to_owned())
                }
                _ => {
                    let app_id = details
                        .headers
                        .iter()
                        .find(|(name, _)| name == "dapr-app-id")
                        .map(|(_, value)| value.clone())
                        .unwrap_or_default();
                    (app_id, details.path.trim_start_matches('/').to_owned())
                }
            };
            recording.invocation(&app_id, &method);
        }
        _ => {}
    }
}

fn check_baggage(request: &Request<Body>) -> Result<Option<HeaderValue>, String> {
    let mut values = request.headers().get_all(&BAGGAGE).iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    let mut joined = first.to_str().unwrap_or("\u{fffd}").to_owned();
    for value in values {
        joined.push(',');
        joined.push_str(value.to_str().unwrap_or("\u{fffd}"));
    }
    baggage::parse(&joined).map_err(|error| format!("invalid baggage header: {error}"))?;
    // The original text goes on: its URL encoding matters to the app.
    Ok((!joined.is_empty())
        .then(|| HeaderValue::from_str(&joined).ok())
        .flatten())
}

fn write_context(context: &SpanContext, headers: &mut http::HeaderMap) {
    if !context.is_sent_on() {
        return;
    }
    if let Ok(value) = HeaderValue::from_str(context.traceparent().as_str()) {
        headers.insert(TRACEPARENT, value);
    }
    match context
        .outgoing_tracestate()
        .and_then(|state| HeaderValue::from_str(state).ok())
    {
        Some(state) => {
            headers.insert(TRACESTATE, state);
        }
        None => {
            headers.remove(&TRACESTATE);
        }
    }
}
