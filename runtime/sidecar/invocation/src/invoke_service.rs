//! `Dapr.InvokeService` of the gRPC API (wire.md §3; upstream `pkg/api/grpc/grpc.go`).

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use outrigger_sidecar_api::errors;
use outrigger_sidecar_resilience::{Retry, Retryable, RunError};
use outrigger_wire::dapr::proto::{
    common::v1::{InvokeRequest, InvokeResponse},
    runtime::v1::InvokeServiceRequest,
};
use prost_types::Any;
use tonic::{Code, Status, metadata::MetadataMap};

use crate::{
    envelope::{Headers, RequestHead, pairs_from_http},
    metadata::Pairs,
    remote::Reply,
    replay::{RequestBody, collect},
    service::{Invocation, InvocationService},
    status::{InvokeError, status_from_http},
    target::Method,
    tracing_context,
};

/// A failed attempt, as the caller gets it.
#[derive(Debug)]
struct Failed(Box<Status>);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.message())
    }
}

impl Retryable for Failed {
    fn verdict(&self) -> Retry {
        // Upstream's policy sees no codes here: every failure is tried again.
        Retry::Transient
    }
}

impl InvocationService {
    /// Invokes a method of an app for a gRPC caller.
    ///
    /// # Errors
    /// What the app answered, or why it did not.
    pub async fn invoke_service(
        &self,
        request: tonic::Request<InvokeServiceRequest>,
    ) -> Result<tonic::Response<InvokeResponse>, Status> {
        if !self.deprecation_shown.swap(true, Relaxed) {
            tracing::warn!(
                target: "dapr.runtime.grpc.api",
                "[DEPRECATION NOTICE] InvokeService is deprecated and will be removed in the future, please use proxy mode instead."
            );
        }
        let (metadata, extensions, message) = request.into_parts();
        let target = message.id;
        let InvokeRequest {
            method,
            data,
            content_type,
            http_extension,
        } = message.message.unwrap_or_default();
        let metadata = metadata.into_headers();
        let normalised = Method::parse(&method).map_err(|error| {
            let error = InvokeError::status(Code::InvalidArgument, format!("invalid method: {error}"));
            errors::direct_invoke(&target, error).to_status()
        })?;
        let policy = self.policy(&target, || format!("{target}:{method}"));
        let Any { type_url, value } = data.unwrap_or_default();
        let mut pairs = Pairs::from_grpc(&metadata);
        // tonic keeps it to itself, but the callee tells gRPC callers by it.
        if pairs.first("content-type").is_none() {
            pairs.0.push((
                "content-type".to_owned(),
                vec![Bytes::from_static(b"application/grpc")],
            ));
        }
        let invocation = Invocation {
            head: RequestHead {
                method: normalised,
                verb: http_extension.as_ref().map(|extension| extension.verb),
                query: http_extension
                    .map(|extension| extension.querystring)
                    .unwrap_or_default(),
                content_type: content_type.into(),
                type_url,
                headers: Headers::Pairs(pairs),
            },
            body: RequestBody::Whole(value.into()),
            streaming: false,
            events: false,
            span: extensions.get().cloned().or_else(|| {
                Some(tracing_context::of_grpc(&metadata))
                    .filter(outrigger_telemetry::trace::SpanContext::is_valid)
            }),
        };
        let outcome = policy.run(|_| self.invoke_once(&target, &invocation)).await;
        outcome.map_err(|error| match error {
            RunError::Op(failed) => *failed.0,
            other => {
                let code = Self::code_of_run(&other);
                Status::new(code, other.to_string())
            }
        })
    }

    async fn invoke_once(
        &self,
        target: &str,
        invocation: &Invocation,
    ) -> Result<tonic::Response<InvokeResponse>, Failed> {
        let failed = |error: InvokeError| Failed(Box::new(errors::direct_invoke(target, error).to_status()));
        let Reply { head, body } = self.invoke(target, invocation).await.map_err(failed)?;
        let data = collect(body, self.options.max_body_size)
            .await
            .map_err(|error| failed(InvokeError::plain(error.to_string())))?;
        let is_http = head.is_http();
        let from_http = matches!(head.headers, Headers::Http(_)) || is_http;
        let pairs = match &head.headers {
            Headers::Http(headers) => pairs_from_http(headers),
            Headers::Pairs(pairs) => pairs.clone(),
        };
        let mut headers = pairs.to_grpc(from_http);
        if is_http {
            if !self.http_deprecation_shown.swap(true, Relaxed) {
                tracing::warn!(
                    target: "dapr.runtime.grpc.api",
                    "[DEPRECATION NOTICE] Invocation path of gRPC -> HTTP is deprecated and will be removed in the future."
                );
            }
            headers.insert("dapr-http-status", head.code.into());
        } else {
            // tonic has no trailers of its own for successes; callers see both alike.
            headers.extend(head.trailers.to_grpc(false));
        }
        if let Some(span) = &invocation.span {
            tracing_context::put_grpc(&mut headers, span);
        }
        let status = if is_http {
            status_from_http(u16::try_from(head.code).unwrap_or(500), &data)
        } else if head.code == Code::Ok as i32 {
            None
        } else {
            Some(grpc_status(head.code, &head.message, &head.details))
        };
        if let Some(mut status) = status {
            status.metadata_mut().as_mut().extend(headers);
            return Err(Failed(Box::new(status)));
        }
        let content_type = String::from_utf8_lossy(&head.content_type).into_owned();
        let message = InvokeResponse {
            data: Some(Any {
                type_url: head.type_url,
                value: data.into(),
            }),
            content_type,
        };
        let mut response = tonic::Response::new(message);
        *response.metadata_mut() = MetadataMap::from_headers(headers);
        Ok(response)
    }
}

/// An app's gRPC status with its details.
fn grpc_status(code: i32, message: &str, details: &[Any]) -> Status {
    use prost::Message as _;
    if details.is_empty() {
        return Status::new(Code::from(code), message);
    }
    let encoded = tonic_types::pb::Status {
        code,
        message: message.to_owned(),
        details: details.to_vec(),
    };
    Status::with_details(Code::from(code), message, encoded.encode_to_vec().into())
}
