//! What every call of a component has around it: the policy of its target and the metrics of its block.

use std::{sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Response, StatusCode};
use outrigger_component::{Error, ErrorKind};
use outrigger_engine_dispatch::go_json;
use outrigger_sidecar_api::{ApiError, ApiRequest, Body, Missing, Reply, errors};
use outrigger_sidecar_app_channel::AppError;
use outrigger_sidecar_resilience::{ComponentKind, Policy, ResilienceProvider, RunError};
use outrigger_telemetry::{Metrics, metrics::ComponentCall, trace::SpanContext};
use outrigger_wire::json;
use serde::Serialize;
use tonic::Code;

/// Policies and metrics of a service.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) resilience: Arc<ArcSwap<ResilienceProvider>>,
    pub(crate) metrics: Metrics,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

impl Surroundings {
    /// The policy for calls to a component.
    pub(crate) fn outbound(&self, name: &str, kind: ComponentKind) -> Policy {
        self.resilience.load().component_outbound(name, kind)
    }

    /// The policy for calls from a component to the app.
    pub(crate) fn inbound(&self, name: &str, kind: ComponentKind) -> Policy {
        self.resilience.load().component_inbound(name, kind)
    }

    /// A clock, if anybody reads it.
    pub(crate) fn clock(&self) -> Option<Instant> {
        self.metrics.is_enabled().then(Instant::now)
    }

    /// Counts a call that began by [`Surroundings::clock`].
    pub(crate) fn count(
        &self,
        call: ComponentCall,
        name: &str,
        operation: &str,
        success: bool,
        began: Option<Instant>,
    ) {
        if let Some(began) = began {
            self.metrics
                .component_call(call, name, operation, success, began.elapsed());
        }
    }
}

/// The text of a component error, its chain on one line.
pub(crate) fn error_text(error: &RunError<Error>) -> String {
    match error {
        RunError::Op(error) => error.chain(),
        other => other.to_string(),
    }
}

/// The row for a component that could not be had: `absent` where there is none of the block, `not_found` where there
/// is none of the name. One that is not open (yet) is `not_found` with the reason and codes that say "try again":
/// upstream cannot tell the two apart.
pub(crate) fn missing(missing: Missing, absent: ApiError, not_found: ApiError) -> ApiError {
    match missing {
        Missing::NotConfigured => absent,
        Missing::NotFound => not_found,
        Missing::Unavailable(reason) => ApiError::new(
            not_found.code().to_owned(),
            not_found.category(),
            StatusCode::SERVICE_UNAVAILABLE,
            Code::Unavailable,
            format!("{}: {reason}", not_found.message()),
        ),
    }
}

/// The trace context of an HTTP request: the one the server made, else the caller's.
pub(crate) fn trace_of(request: &ApiRequest) -> SpanContext {
    if let Some(context) = request.head.extensions.get::<SpanContext>() {
        return context.clone();
    }
    let header = |name| Some(request.header(name)).filter(|value| !value.is_empty());
    SpanContext::from_headers(header("traceparent"), header("tracestate")).unwrap_or_default()
}

/// Reads a protojson body as upstream's universal handlers do: unknown fields pass, an empty body is an empty message.
pub(crate) async fn read_proto<M>(request: &mut ApiRequest, full_name: &str) -> Result<M, ApiError>
where
    M: prost::Message + Default,
{
    let body = request.bytes().await?;
    if body.is_empty() {
        return Ok(M::default());
    }
    json::from_slice(full_name, &body, json::Parse { ignore_unknown: true })
        .map_err(errors::malformed_request)
}

/// Answers with protojson.
pub(crate) fn reply_proto<M: prost::Message>(
    full_name: &str,
    message: &M,
    render: json::Render,
) -> Result<Response<Body>, ApiError> {
    let value = json::to_json_with(full_name, message, render)
        .map_err(|error| errors::internal(format!("failed to encode response as JSON: {error}")))?;
    Ok(Reply::json_bytes(value.to_string()))
}

/// Answers with JSON as Go's encoder writes it: escaped for HTML, a line break at the end.
pub(crate) fn reply_json<T: Serialize + ?Sized>(value: &T) -> Result<Response<Body>, ApiError> {
    Ok(Reply::json_bytes(
        json_line(value).map_err(errors::malformed_response)?,
    ))
}

/// A line of JSON as Go's encoder writes it.
pub(crate) fn json_line<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, serde_json::Error> {
    let mut line = go_json::to_vec(value)?;
    line.push(b'\n');
    Ok(Bytes::from(line))
}

/// The app's failure as a component error.
pub(crate) fn app_error(error: &AppError) -> Error {
    let kind = match error {
        AppError::Unhealthy | AppError::Transport { .. } => ErrorKind::Unavailable,
        AppError::Closed => ErrorKind::Closed,
        AppError::Protocol { .. } | AppError::Request(_) => ErrorKind::InvalidRequest,
    };
    Error::new(kind, error.to_string())
}
