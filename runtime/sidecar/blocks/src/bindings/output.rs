//! Output bindings (upstream `onOutputBindingMessage`, `InvokeBinding`, `SendToOutputBinding`).

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue, Method, Response, header};
use outrigger_bindings::{Binding, InvokeError, InvokeRequest, InvokeResponse};
use outrigger_component::Metadata;
use outrigger_engine_dispatch::go_json::{self, Numbers, Shape};
use outrigger_sidecar_api::{
    ApiError, ApiRequest, Body, Components, Endpoint, Group, Missing, Reply, errors, handler,
};
use outrigger_sidecar_resilience::{ComponentKind, ResilienceProvider, Retry, Retryable, RunError};
use outrigger_telemetry::{
    Metrics,
    metrics::ComponentCall,
    trace::{SpanContext, baggage},
};
use outrigger_wire::dapr::proto::runtime::v1::{InvokeBindingRequest, InvokeBindingResponse};
use serde::Deserialize;
use serde_json::value::RawValue;
use tonic::metadata::{KeyAndValueRef, MetadataMap};

use super::Direction;
use crate::call::{Surroundings, trace_of};

/// Request and response metadata travels in headers of this prefix.
const PREFIX: &str = "metadata.";
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";

/// What the service needs.
#[derive(Clone)]
pub struct BindingsServiceOptions {
    /// The binding components.
    pub bindings: Arc<Components<Binding>>,
    /// Policies; replaced when Resiliency resources change.
    pub resilience: Arc<ArcSwap<ResilienceProvider>>,
    /// Where calls are counted.
    pub metrics: Metrics,
}

impl fmt::Debug for BindingsServiceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BindingsServiceOptions").finish_non_exhaustive()
    }
}

/// Output bindings as served to the app.
#[derive(Debug)]
pub struct BindingsService {
    bindings: Arc<Components<Binding>>,
    around: Surroundings,
}

/// An output binding failed, perhaps with an answer all the same.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct InvokeFailure {
    /// Why, the chain on one line.
    pub text: String,
    /// What the backend answered with it.
    pub response: Option<InvokeResponse>,
}

/// The outcome of the gRPC method: headers go out whether it succeeds or fails.
#[derive(Debug)]
pub struct InvokeOutcome {
    /// `metadata.<name>` headers, to be sent as initial metadata.
    pub headers: Vec<(String, String)>,
    /// The answer.
    pub result: Result<InvokeBindingResponse, ApiError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct InvokeDocument {
    data: Option<Box<RawValue>>,
    metadata: Option<Metadata>,
    operation: Option<String>,
}

/// Upstream's type of it.
const INVOKE_DOCUMENT: Shape = Shape::Struct(
    "http.OutputBindingRequest",
    &[
        ("metadata", &Shape::TEXTS),
        ("data", &Shape::Any),
        ("operation", &Shape::Text),
    ],
);

/// Judges a failure by its component error.
struct Attempt(InvokeError);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.error.chain())
    }
}

impl Retryable for Attempt {
    fn verdict(&self) -> Retry {
        self.0.error.verdict()
    }
}

impl BindingsService {
    /// A service over these components.
    #[must_use]
    pub fn new(options: BindingsServiceOptions) -> Self {
        Self {
            bindings: options.bindings,
            around: Surroundings {
                resilience: options.resilience,
                metrics: options.metrics,
            },
        }
    }

    /// The endpoints of the bindings API.
    #[must_use]
    pub fn endpoints(self: &Arc<Self>) -> Vec<Endpoint> {
        const WRITE: &[Method] = &[Method::POST, Method::PUT];
        const GROUP: Group = Group {
            name: "bindings",
            version: "v1",
        };
        vec![Endpoint::new(
            WRITE,
            "v1.0",
            "bindings/{name}",
            GROUP,
            "InvokeBinding",
            handler(self, Self::http_invoke),
        )]
    }

    async fn http_invoke(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let body = request.bytes().await.map_err(|error| {
            errors::malformed_request(
                error
                    .message()
                    .trim_start_matches("failed to read request body: "),
            )
        })?;
        let document: InvokeDocument =
            go_json::decode(&body, &INVOKE_DOCUMENT).map_err(errors::malformed_request)?;
        let data = match document.data {
            // Text that was JSON when it came is JSON again when it goes on, as Go writes it: a string keeps its
            // quotes, whatever was left out is `null`.
            Some(data) => {
                let mut out = Vec::with_capacity(data.get().len());
                go_json::transcode(data.get().as_bytes(), Numbers::Doubles, &mut out)
                    .map_err(errors::malformed_request_data)?;
                out
            }
            None => b"null".to_vec(),
        };
        let mut metadata = document.metadata.unwrap_or_default();
        let trace = trace_of(&request);
        if trace.is_sent_on() {
            metadata.insert(TRACEPARENT.to_owned(), trace.traceparent().as_str().to_owned());
            if let Some(state) = trace.outgoing_tracestate() {
                metadata.insert(TRACESTATE.to_owned(), state.to_owned());
            }
        }
        let given: Vec<&str> = request
            .head
            .headers
            .get_all(BAGGAGE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        if !given.is_empty() {
            let given = given.join(",");
            baggage::parse(&given).map_err(errors::invalid_baggage)?;
            metadata.insert(BAGGAGE.to_owned(), given);
        }
        let name = request.param("name");
        let operation = document.operation.unwrap_or_default();
        let outcome = self
            .counted(
                name,
                InvokeRequest {
                    data: data.into(),
                    operation,
                    metadata,
                },
            )
            .await;
        let (response, failure) = match outcome {
            Ok(response) => (response, None),
            Err(failure) => (
                failure.response,
                Some(errors::invoke_output_binding(name, failure.text)),
            ),
        };
        let answered = match (&failure, &response) {
            (Some(error), _) => error.to_response(),
            (None, None) => Reply::no_content(),
            (None, Some(response)) => Reply::json_bytes(response.data.clone().unwrap_or_default()),
        };
        Ok(with_metadata(answered, response.as_ref()))
    }

    /// `InvokeBinding`. `trace` is the context of this call and `incoming` its metadata, which both go on to the
    /// component.
    pub async fn grpc_invoke(
        &self,
        request: InvokeBindingRequest,
        trace: &SpanContext,
        incoming: &MetadataMap,
    ) -> InvokeOutcome {
        let mut metadata: Metadata = request.metadata.into_iter().collect();
        if trace.is_sent_on() {
            metadata
                .entry(TRACEPARENT.to_owned())
                .or_insert_with(|| trace.traceparent().as_str().to_owned());
            if let Some(state) = trace.outgoing_tracestate() {
                metadata
                    .entry(TRACESTATE.to_owned())
                    .or_insert_with(|| state.to_owned());
            }
        }
        if let Err(error) = forward(incoming, &mut metadata) {
            return InvokeOutcome {
                headers: Vec::new(),
                result: Err(error),
            };
        }
        let invoke = InvokeRequest {
            data: request.data,
            operation: request.operation,
            metadata,
        };
        let outcome = self.counted(&request.name, invoke).await;
        let headers_of = |response: Option<&InvokeResponse>| {
            response
                .into_iter()
                .flat_map(|response| &response.metadata)
                .map(|(name, value)| (format!("{PREFIX}{name}").to_ascii_lowercase(), value.clone()))
                .collect()
        };
        match outcome {
            Ok(response) => InvokeOutcome {
                headers: headers_of(response.as_ref()),
                result: Ok(response.map_or_else(InvokeBindingResponse::default, |response| {
                    InvokeBindingResponse {
                        data: response.data.unwrap_or_default(),
                        metadata: response.metadata.into_iter().collect(),
                    }
                })),
            },
            Err(failure) => InvokeOutcome {
                headers: headers_of(failure.response.as_ref()),
                result: Err(errors::invoke_output_binding(&request.name, failure.text).with_error_info()),
            },
        }
    }

    async fn counted(
        &self,
        name: &str,
        request: InvokeRequest,
    ) -> Result<Option<InvokeResponse>, InvokeFailure> {
        let began = self.around.clock();
        let operation = request.operation.clone();
        let outcome = self.invoke(name, request).await;
        self.around.count(
            ComponentCall::OutputBinding,
            name,
            &operation,
            outcome.is_ok(),
            began,
        );
        outcome
    }

    /// Calls an output binding under its policy.
    ///
    /// # Errors
    /// When the operation is missing, the binding is absent or has no such operation, or it fails.
    pub async fn invoke(
        &self,
        name: &str,
        request: InvokeRequest,
    ) -> Result<Option<InvokeResponse>, InvokeFailure> {
        let refused = |text: String| InvokeFailure { text, response: None };
        if request.operation.is_empty() {
            return Err(refused("operation field is missing from request".to_owned()));
        }
        let loaded = match self.bindings.get(name).await {
            Ok(loaded) => loaded,
            Err(Missing::Unavailable(reason)) => {
                return Err(refused(format!("couldn't find output binding {name}: {reason}")));
            }
            Err(Missing::NotFound | Missing::NotConfigured) => {
                return Err(refused(format!("couldn't find output binding {name}")));
            }
        };
        let output = loaded
            .instance
            .output
            .as_ref()
            .filter(|_| Direction::from_properties(&loaded.properties).output)
            .ok_or_else(|| refused(format!("couldn't find output binding {name}")))?;
        let operations = output.operations();
        if !operations.contains(&request.operation.as_str()) {
            return Err(refused(format!(
                "binding {name} does not support operation {}. supported operations:{}",
                request.operation,
                operations.join(" ")
            )));
        }
        let done = self
            .around
            .outbound(name, ComponentKind::Binding)
            .run(|_| {
                let request = request.clone();
                async { output.invoke(request).await.map_err(Attempt) }
            })
            .await;
        done.map_err(|error| InvokeFailure {
            text: error.to_string(),
            response: match error {
                RunError::Op(Attempt(error)) => error.response,
                RunError::BreakerOpen | RunError::TooManyRequests | RunError::Timeout => None,
            },
        })
    }
}

/// Go's decoder reads one value and ignores what follows.
fn with_metadata(mut answered: Response<Body>, response: Option<&InvokeResponse>) -> Response<Body> {
    for (name, value) in response.into_iter().flat_map(|response| &response.metadata) {
        // What cannot be a header stays behind; Go's server would drop it as well.
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(format!("{PREFIX}{name}")),
            HeaderValue::from_str(value),
        ) && name != header::CONTENT_LENGTH
        {
            answered.headers_mut().append(name, value);
        }
    }
    answered
}

/// Metadata that concerns this call alone; the token is nobody's business behind us.
const NOT_FORWARDED: [&str; 2] = ["dapr-api-token", "te"];

/// The metadata of a gRPC call goes on to the component where the request does not name it itself; trace context
/// replaces the request's.
fn forward(incoming: &MetadataMap, metadata: &mut Metadata) -> Result<(), ApiError> {
    let baggages: Vec<&str> = incoming
        .get_all(BAGGAGE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    if !baggages.is_empty() {
        let joined = baggages.join(",");
        baggage::parse(&joined).map_err(errors::invalid_baggage)?;
        metadata.insert(BAGGAGE.to_owned(), joined);
    }
    for entry in incoming.iter() {
        let (key, value) = match entry {
            KeyAndValueRef::Ascii(key, value) => match value.to_str() {
                Ok(value) => (key.as_str(), value.to_owned()),
                Err(_) => continue,
            },
            KeyAndValueRef::Binary(key, value) => match value.to_bytes() {
                Ok(bytes) => (key.as_str(), String::from_utf8_lossy(&bytes).into_owned()),
                Err(_) => continue,
            },
        };
        if NOT_FORWARDED.contains(&key) {
            continue;
        }
        let name = if key.starts_with("grpc-") {
            format!("dapr-{key}")
        } else {
            key.to_owned()
        };
        if !metadata.contains_key(&name) || matches!(key, TRACEPARENT | TRACESTATE) {
            metadata.insert(name, value);
        }
    }
    Ok(())
}
