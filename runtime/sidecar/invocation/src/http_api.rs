//! The HTTP endpoint: `invoke/*`, and whatever no other route takes (wire.md §2; upstream
//! `pkg/api/http/directmessaging.go`).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use outrigger_middleware::Body;
use outrigger_sidecar_api::{
    ApiError, ApiRequest, CallName, Endpoint, Group, WantsCallName, errors, handler,
};
use outrigger_sidecar_resilience::RunError;
use outrigger_wire::dapr::proto::internals::v1::Status as WireStatus;
use tonic::Code;

use crate::{
    envelope::{Headers, RequestHead, pairs_to_http, verb_number},
    remote::Reply,
    replay::RequestBody,
    service::{Failure, Invocation, InvocationService},
    status::{InvokeError, http_from_grpc},
    target::{self, Method, is_url},
    tracing_context,
};

const GROUP: Group = Group {
    name: "invoke",
    version: "v1",
};
const EVENT_STREAM: &str = "text/event-stream";

impl InvocationService {
    /// The endpoints of service invocation.
    #[must_use]
    pub fn endpoints(self: &Arc<Self>) -> Vec<Endpoint> {
        let mut endpoint = Endpoint::new(
            &[],
            "v1.0",
            "invoke/*",
            GROUP,
            "InvokeService",
            handler(self, Self::serve_http),
        );
        endpoint.fallback = true;
        vec![endpoint]
    }

    async fn serve_http(self: Arc<Self>, request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let ApiRequest { mut head, body, .. } = request;
        // The path as it arrived: a route's parameters are decoded by other rules and cleaned.
        let Some((target, method)) = target::find(head.uri.path(), &mut head.headers) else {
            return Err(errors::direct_invoke_no_app_id());
        };
        let events = is_event_stream(&head.headers);
        let span = tracing_context::of_request(&head.extensions);
        let wants_name = head.extensions.get::<WantsCallName>().is_some();
        let normalised = match Method::parse(&method) {
            Ok(method) => method,
            Err(error) => {
                let error = InvokeError::status(Code::InvalidArgument, format!("invalid method: {error}"));
                return Err(refusal(&target, &error));
            }
        };
        let policy = self.policy(&target, || {
            if is_url(&target) {
                return format!("{target}/{method}");
            }
            match self.options.http_endpoints.base_url(&target) {
                Some(base_url) => format!("{target}:{base_url}"),
                None => format!("{target}:{method}"),
            }
        });
        let length = content_length(&head.headers, &body);
        let streaming = length.is_none();
        let body = RequestBody::prepare(body, length, &self.options.replay_budget)
            .await
            .map_err(|error| refusal(&target, &InvokeError::plain(error.to_string())))?;
        let content_type = head.headers.get(header::CONTENT_TYPE);
        let invocation = Invocation {
            head: RequestHead {
                method: normalised,
                verb: Some(verb_number(&head.method)),
                query: head.uri.query().unwrap_or_default().to_owned(),
                content_type: content_type
                    .map(|value| Bytes::copy_from_slice(value.as_bytes()))
                    .unwrap_or_default(),
                type_url: String::new(),
                headers: Headers::Http(head.headers),
            },
            body,
            streaming,
            events,
            span,
        };
        let mut response = if policy.is_none() {
            match self.invoke(&target, &invocation).await {
                Ok(reply) => respond(reply, events),
                Err(error) => return Err(refusal(&target, &error)),
            }
        } else {
            match policy.run(|_| self.judged(&target, &invocation)).await {
                Ok(reply) | Err(RunError::Op(Failure::Answer(reply, _))) => respond(*reply, events),
                Err(RunError::Op(Failure::Invoke(error))) => return Err(refusal(&target, &error)),
                Err(error) => return Err(errors::direct_invoke(&target, error)),
            }
        };
        invocation.body.answered();
        if wants_name {
            let name = CallName(format!("InvokeService/{target}"));
            response.extensions_mut().insert(name);
        }
        Ok(response)
    }

    /// One attempt under a policy: answers outside of 200–399 are failures to it.
    async fn judged(&self, target: &str, invocation: &Invocation) -> Result<Box<Reply>, Failure> {
        match self.invoke(target, invocation).await {
            Ok(reply) => {
                let judged = reply.head.is_http() && !(200..400).contains(&reply.head.code);
                let reply = Box::new(reply);
                if judged {
                    Err(Failure::Answer(
                        reply,
                        !invocation.streaming && invocation.body.can_replay(),
                    ))
                } else {
                    Ok(reply)
                }
            }
            Err(error) if !invocation.body.can_replay() => Err(Failure::Invoke(error.permanent())),
            Err(error) => Err(Failure::Invoke(error)),
        }
    }
}

/// Upstream's answer when an invocation came to none.
fn refusal(target: &str, error: &InvokeError) -> ApiError {
    let api = errors::direct_invoke(target, error);
    // The callee's access policy.
    if error.code() == Code::PermissionDenied {
        return api.with_codes(StatusCode::FORBIDDEN, Code::PermissionDenied);
    }
    api
}

/// What the request declares; `None` for a body of unknown length.
fn content_length(headers: &HeaderMap, body: &Body) -> Option<u64> {
    use http_body::Body as _;
    if let Some(declared) = headers.get(header::CONTENT_LENGTH) {
        return declared.to_str().ok()?.trim().parse().ok();
    }
    body.size_hint().exact()
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|value| {
        value
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(EVENT_STREAM.as_bytes())
    })
}

/// An app's answer as the answer to the caller.
fn respond(reply: Reply, events: bool) -> Response<Body> {
    let Reply { head, mut body } = reply;
    let mut status = u16::try_from(head.code)
        .ok()
        .and_then(|code| StatusCode::from_u16(code).ok());
    let mut content_type = (!head.content_type.is_empty())
        .then(|| HeaderValue::from_maybe_shared(head.content_type.clone()).ok())
        .flatten();
    if !head.type_url.is_empty() {
        content_type = Some(HeaderValue::from_static("application/x-protobuf"));
    }
    if !head.is_http() {
        let mapped = http_from_grpc(Code::from(head.code));
        if mapped != StatusCode::OK {
            body = Body::whole(status_json(head.code, &head.message, &head.details));
            // Go sniffs the type of a body that has none.
            content_type = Some(HeaderValue::from_static("text/plain; charset=utf-8"));
        }
        status = Some(mapped);
    }
    let mut response = Response::new(body);
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    *headers = match head.headers {
        Headers::Http(headers) => headers,
        Headers::Pairs(pairs) => {
            let mut message = pairs_to_http(&pairs);
            tracing_context::put_http_of(&mut message, None);
            message.headers
        }
    };
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    if events && response.status().is_success() {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.remove(header::CONTENT_LENGTH);
    }
    response
}

/// A gRPC app's failure as protobuf JSON.
fn status_json(code: i32, message: &str, details: &[prost_types::Any]) -> Vec<u8> {
    let status = WireStatus {
        code,
        message: message.to_owned(),
        details: details.to_vec(),
    };
    let json = outrigger_wire::json::to_json("dapr.proto.internals.v1.Status", &status).or_else(|_| {
        // Details of a type that nobody here knows.
        let plain = WireStatus {
            details: Vec::new(),
            ..status
        };
        outrigger_wire::json::to_json("dapr.proto.internals.v1.Status", &plain)
    });
    json.map(|json| json.to_string().into_bytes()).unwrap_or_default()
}
