//! A call to another sidecar: `CallLocalStream`, or `CallLocal` where a peer knows nothing else.

use std::{sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method as Verb, Request, Uri, header};
use outrigger_middleware::Body;
use outrigger_sidecar_resilience::Code as PolicyCode;
use tonic::Code;

use crate::{
    body::{CHUNK, Forgiving, Framed, Payloads, PeerBody, one_message},
    envelope::{self, Added, Headers, ReplyHead, Response, StreamMessage},
    framing::{self, Messages, status_of, status_of_http},
    metadata::Pairs,
    peers::{Peer, SendFailure},
    replay::RequestBody,
    resolve::{Gone, Remote},
    service::{Invocation, InvocationService},
    status::InvokeError,
    tracing_context,
};

/// An app's answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: ReplyHead,
    pub(crate) body: Body,
}

impl Reply {
    /// An answer straight from an app, fit for the caller: its length is what comes, not what was promised.
    pub(crate) async fn settled(self, events: bool) -> Self {
        let body = if events {
            Body::boxed(Forgiving::new(self.body))
        } else {
            Forgiving::settle(self.body).await
        };
        Self { body, ..self }
    }

    /// The code that policies match.
    pub(crate) fn policy_code(&self) -> PolicyCode {
        match u16::try_from(self.head.code) {
            Ok(code) if self.head.is_http() => PolicyCode::Http(code),
            _ => PolicyCode::Grpc(self.head.code),
        }
    }
}

/// Estimate of an envelope's size, so that it is written without growing.
const ENVELOPE: usize = 1024;

impl InvocationService {
    /// One attempt at a call. An instance that is gone before it did anything does not end it: another one is asked.
    pub(crate) async fn call_remote(
        &self,
        target: &str,
        remote: &Remote,
        invocation: &Invocation,
    ) -> Result<Reply, InvokeError> {
        let app_id = remote.target.app_id.as_str();
        self.options.metrics.invocation_request_sent(app_id, false);
        let started = Instant::now();
        let mut peer = Arc::clone(remote.peer());
        let mut gone = Gone::default();
        loop {
            let error = match self.call_stream(&peer, remote, invocation).await {
                Ok(reply) => {
                    self.options.metrics.invocation_response_received(
                        app_id,
                        reply.head.code,
                        started.elapsed(),
                    );
                    return Ok(reply);
                }
                Err(error) => error,
            };
            if !error.is_connection_failure() {
                return Err(error);
            }
            self.report_failure(remote, &peer);
            self.destinations.forget(target);
            if !error.is_unsent() || !invocation.body.can_replay() {
                return Err(error);
            }
            match self.elsewhere(target, &peer, &mut gone).await {
                Some(other) => peer = other,
                None => return Err(error),
            }
        }
    }

    async fn call_stream(
        &self,
        peer: &Arc<Peer>,
        remote: &Remote,
        invocation: &Invocation,
    ) -> Result<Reply, InvokeError> {
        let added = self.added(remote);
        let body = match &invocation.body {
            RequestBody::Whole(bytes) => {
                let mut buffer = envelope::open(ENVELOPE + bytes.len().min(CHUNK));
                envelope::put_first(&mut buffer, |request| {
                    envelope::put_request(request, &invocation.head, &added, None)
                });
                whole(buffer, bytes)
            }
            RequestBody::Stream(_) => {
                let mut buffer = envelope::open(ENVELOPE);
                envelope::put_first(&mut buffer, |request| {
                    envelope::put_request(request, &invocation.head, &added, None)
                });
                PeerBody::Framed(Framed::new(buffer, invocation.body.reader()))
            }
        };
        let request = self.peer_request(peer.stream_uri.clone(), invocation, body);
        let response = self
            .peers
            .send(peer, request)
            .await
            .map_err(SendFailure::into_error)?;
        let (parts, body) = response.into_parts();
        if parts.status != http::StatusCode::OK {
            return Err(status_of_http(parts.status).into());
        }
        if let Some(status) = status_of(&parts.headers) {
            return self.or_unary(status, peer, remote, invocation).await;
        }
        let mut messages = Messages::new(body, self.message_limit());
        let first = match messages.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(error.to_status().into()),
            None => {
                let status = messages.trailers().and_then(status_of);
                return match status {
                    Some(status) => self.or_unary(status, peer, remote, invocation).await,
                    None => Err(InvokeError::status(
                        Code::Internal,
                        "server closed the stream without sending trailers",
                    )),
                };
            }
        };
        let first = StreamMessage::read(first)
            .map_err(|error| InvokeError::status(Code::Internal, error.to_string()))?;
        let missing =
            || InvokeError::plain("response does not contain the required fields in the leading chunk");
        let response = Response::read(first.envelope.clone().ok_or_else(missing)?)
            .map_err(|error| InvokeError::status(Code::Internal, error.to_string()))?;
        let head =
            reply_head(&response, matches!(invocation.head.headers, Headers::Http(_))).ok_or_else(missing)?;
        let payloads = Payloads::of_response(messages, first).map_err(InvokeError::plain)?;
        let body = if invocation.events {
            Body::boxed(payloads)
        } else {
            payloads.settle().await
        };
        Ok(Reply { head, body })
    }

    /// A peer that does not know the streaming call is asked the old way, if the request can be sent again.
    async fn or_unary(
        &self,
        status: tonic::Status,
        peer: &Arc<Peer>,
        remote: &Remote,
        invocation: &Invocation,
    ) -> Result<Reply, InvokeError> {
        if status.code() != Code::Unimplemented {
            return Err(status.into());
        }
        let app_id = &remote.target.app_id;
        if !invocation.body.can_replay() {
            tracing::error!(
                target: "dapr.runtime.direct_messaging",
                "App {app_id} does not support streaming-based service invocation and the request cannot be sent again; upgrade the Dapr sidecar of the target app"
            );
            return Err(InvokeError::plain(format!(
                "target app '{app_id}' is running a version of Dapr that does not support streaming-based service invocation"
            )));
        }
        tracing::warn!(
            target: "dapr.runtime.direct_messaging",
            "App {app_id} does not support streaming-based service invocation (most likely because it's using an older version of Dapr); falling back to unary calls"
        );
        self.call_unary(peer, remote, invocation).await
    }

    async fn call_unary(
        &self,
        peer: &Arc<Peer>,
        remote: &Remote,
        invocation: &Invocation,
    ) -> Result<Reply, InvokeError> {
        let data = invocation
            .body
            .collect(self.options.max_body_size)
            .await
            .map_err(|error| {
                InvokeError::plain(format!("failed to read data from request object: {error}"))
            })?;
        let mut buffer = envelope::open(ENVELOPE + data.len());
        envelope::put_request(&mut buffer, &invocation.head, &self.added(remote), Some(&data));
        envelope::seal(&mut buffer, 0);
        let request = self.peer_request(
            peer.unary_uri.clone(),
            invocation,
            PeerBody::Once(Some(buffer.freeze())),
        );
        let response = self
            .peers
            .send(peer, request)
            .await
            .map_err(SendFailure::into_error)?;
        if let Some(status) = status_of(response.headers()) {
            return Err(status.into());
        }
        let mut messages = Messages::new(response.into_body(), self.message_limit());
        let message = match messages.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(error.to_status().into()),
            None => {
                let status = messages.trailers().and_then(status_of);
                return Err(
                    status.map_or_else(|| InvokeError::status(Code::Internal, "no message"), Into::into)
                );
            }
        };
        let response = Response::read(message)
            .map_err(|error| InvokeError::status(Code::Internal, error.to_string()))?;
        let head = reply_head(&response, matches!(invocation.head.headers, Headers::Http(_)))
            .ok_or_else(|| InvokeError::plain("response status is missing"))?;
        Ok(Reply {
            head,
            body: Body::whole(response.message.data),
        })
    }

    /// What this sidecar adds to an envelope.
    pub(crate) fn added<'a>(&'a self, remote: &'a Remote) -> Added<'a> {
        Added {
            caller_app_id: &self.options.app_id,
            caller_namespace: &self.options.namespace,
            callee_app_id: &remote.target.app_id,
            forwarded: &self.options.forwarded,
        }
    }

    /// The largest message taken from a peer.
    pub(crate) fn message_limit(&self) -> usize {
        // Room for the envelope beside the largest body.
        self.options.max_body_size.saturating_add(1 << 20)
    }

    fn peer_request(&self, uri: Uri, invocation: &Invocation, body: PeerBody) -> Request<PeerBody> {
        let mut request = Request::new(body);
        *request.method_mut() = Verb::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        grpc_headers(headers);
        if let Some(span) = &invocation.span {
            tracing_context::put_grpc(headers, span);
        }
        request
    }
}

/// The headers of every gRPC request.
pub(crate) fn grpc_headers(headers: &mut HeaderMap) {
    headers.reserve(8);
    headers.insert(header::CONTENT_TYPE, framing::CONTENT_TYPE);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
}

/// An envelope and a whole body: one message, if the body fits into it.
fn whole(buffer: BytesMut, bytes: &Bytes) -> PeerBody {
    if bytes.len() > CHUNK {
        return PeerBody::Framed(Framed::new(buffer, Body::whole(bytes.clone())));
    }
    PeerBody::Once(Some(one_message(buffer, bytes)))
}

/// The head of an answer; `http` says whether the caller speaks HTTP. `None` without a status.
fn reply_head(response: &Response, http: bool) -> Option<ReplyHead> {
    let (code, message, details) = response.status.clone()?;
    let headers = if http {
        let mut headers = response.headers().into_http().ok()?;
        tracing_context::put_http_of(&mut headers, None);
        Headers::Http(headers.headers)
    } else {
        Headers::Pairs(response.headers().into_pairs().ok()?)
    };
    let trailers = if code < 100 {
        response.trailers().into_pairs().ok()?
    } else {
        Pairs::default()
    };
    Some(ReplyHead {
        code,
        message,
        details,
        headers,
        trailers,
        content_type: response.message.content_type.clone(),
        type_url: response.message.type_url.clone(),
    })
}
