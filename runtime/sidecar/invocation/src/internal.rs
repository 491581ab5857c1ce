//! The internal API: what other sidecars call (wire.md §5; upstream `pkg/api/grpc/daprinternal.go`).
//!
//! `CallLocalStream`, `CallLocal` and unknown services are served raw (design D1); reflection is tonic's; actor calls
//! go to whoever was given for them.

use std::{convert::Infallible, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use outrigger_batching::{Crowd, after_others};
use outrigger_middleware::Body;
use outrigger_resources::access_control::Caller;
use outrigger_sidecar_api::{Switch, errors};
use outrigger_sidecar_app_channel::AppChannel;
use outrigger_telemetry::{
    audit::{AuditActor, AuditDecision, AuditRecord},
    trace::SpanContext,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Status, service::Routes};
use tower_service::Service as _;

use crate::{
    body::{CHUNK, Forgiving, Framed, FramedReply, Payloads, one_message},
    delivery::{AppRequest, app_headers, call_http_app, http_reply},
    envelope::{self, HttpHeaders, ReplyHead, StreamMessage},
    framing::{CONTENT_TYPE, Messages, status_response, unary_response},
    metadata::{self, Pairs},
    proxy::Origin,
    remote::Reply,
    replay::collect,
    service::InvocationService,
    status::InvokeError,
    target::Method,
    tracing_context,
};

const PREFIX: &str = "/dapr.proto.internals.v1.ServiceInvocation/";
/// `MaxConcurrentStreams`: Go's server has no bound; this one keeps a flood from exhausting memory.
const MAX_STREAMS: u32 = 16_384;
/// Pings of the server (upstream `pkg/api/grpc/server.go`).
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 4 << 20;
const MAX_FRAME: u32 = 64 * 1024;
/// Upstream takes the read buffer's kilobytes for a factor: 4 MiB by default.
const MAX_HEADER_LIST: u32 = 4 << 20;
/// What the parts of a request's head may take, so that one message cannot hold more than streams need.
const MAX_HEAD: usize = 1 << 20;

/// Who is at the other end of a connection, from its SPIFFE id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The trust domain.
    pub trust_domain: Arc<str>,
    /// The namespace.
    pub namespace: Arc<str>,
    /// The app id.
    pub app_id: Arc<str>,
}

/// Serves whole gRPC calls by path: the seam for actor calls.
pub(crate) type RawHandler = Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// The internal API as a service of requests. Cheap to clone.
#[derive(Clone)]
pub struct InternalService {
    service: Arc<InvocationService>,
    reflection: Routes,
    actors: Option<RawHandler>,
}

impl fmt::Debug for InternalService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InternalService")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl InvocationService {
    /// The internal API. Actor calls are answered as by a daprd without actors until
    /// [`InternalService::with_actors`] says otherwise.
    #[must_use]
    pub fn internal_service(self: &Arc<Self>) -> InternalService {
        InternalService {
            service: Arc::clone(self),
            reflection: reflection(),
            actors: None,
        }
    }
}

/// Reflection over everything the wire crate knows, both versions.
fn reflection() -> Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(outrigger_wire::DESCRIPTORS)
            .with_service_name("dapr.proto.internals.v1.ServiceInvocation")
    };
    // The descriptors are compiled in and known to be valid.
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => Routes::new(v1).add_service(v1alpha),
        _ => Routes::default(),
    }
}

impl InternalService {
    /// Serves `CallActor`, `CallActorReminder` and `CallActorStream` by `handler`, which gets the raw request and
    /// finds the method in its path.
    #[must_use]
    pub fn with_actors<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(Request<Body>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response<Body>> + Send + 'static,
    {
        self.actors = Some(Arc::new(move |request| Box::pin(handler(request))));
        self
    }

    /// Serves one request. The caller's [`PeerIdentity`] is an extension of it, if the connection has one.
    pub async fn serve(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        match path.strip_prefix(PREFIX) {
            Some("CallLocalStream") => self.service.call_local_stream(request).await,
            Some("CallLocal") => self.service.call_local(request).await,
            Some("CallActor" | "CallActorReminder" | "CallActorStream") => match &self.actors {
                Some(actors) => actors(request).await,
                None => status_response(&errors::actor_no_placement().to_status()),
            },
            Some(method) => {
                let text =
                    format!("unknown method {method} for service dapr.proto.internals.v1.ServiceInvocation");
                status_response(&Status::unimplemented(text))
            }
            None if path.starts_with("/grpc.reflection.") => self.reflect(request).await,
            None => self.service.proxy_from(request, Origin::Peer).await,
        }
    }

    async fn reflect(&self, request: Request<Body>) -> Response<Body> {
        let mut routes = self.reflection.clone();
        match routes.call(request.map(tonic::body::Body::new)).await {
            Ok(response) => response.map(Body::boxed_unsync),
            Err(never) => match never {},
        }
    }

    /// Serves connections of a listener until `shutdown`, then lets calls end. What `service` switches to answers
    /// from its next call on, also on connections that are open.
    pub async fn serve_listener(
        service: impl Into<Switch<Self>>,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) {
        let service = service.into();
        let tracker = TaskTracker::new();
        // Connections are told to leave after the port is closed: a peer that is told calls elsewhere or dials anew, and
        // must not get through to a port that takes nobody any more.
        let leaving = CancellationToken::new();
        loop {
            let stream = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of descriptors, or the peer is gone already.
                        tracing::debug!(target: "dapr.runtime.grpc.internal", "cannot accept a connection: {error}");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        continue;
                    }
                },
            };
            let _ = stream.set_nodelay(true);
            tracker.spawn(Self::serve_connection(
                service.clone(),
                stream,
                None,
                leaving.clone(),
            ));
        }
        drop(listener);
        leaving.cancel();
        tracker.close();
        tracker.wait().await;
    }

    /// Serves one connection, plain or after its TLS handshake, until it ends; after `shutdown` it takes no further
    /// calls.
    pub async fn serve_connection<S>(
        service: impl Into<Switch<Self>>,
        stream: S,
        identity: Option<PeerIdentity>,
        shutdown: CancellationToken,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service.into();
        let calls = Crowd::default();
        let crowd = calls.clone();
        let serve = hyper::service::service_fn(move |request: Request<Incoming>| {
            let service = service.clone();
            let identity = identity.clone();
            let call = calls.join();
            async move {
                let _call = call;
                let mut request = request.map(Body::from);
                if let Some(identity) = identity {
                    request.extensions_mut().insert(identity);
                }
                Ok::<_, Infallible>(service.current().serve(request).await)
            }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_concurrent_streams(MAX_STREAMS)
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        let connection = builder.serve_connection(TokioIo::new(stream), serve);
        let outcome = after_others(crowd, async {
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                outcome = connection.as_mut() => outcome,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        })
        .await;
        if let Err(error) = outcome {
            tracing::debug!(target: "dapr.runtime.grpc.internal", "connection of a peer ended: {error}");
        }
    }
}

impl hyper::service::Service<Request<Body>> for InternalService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.serve(request).await) })
    }
}

/// A call for the own app, read and allowed.
struct Accepted {
    app: AppChannel,
    method: Method,
    message: envelope::Message,
    metadata: AppMetadata,
    caller: Option<String>,
    events: bool,
    span: SpanContext,
    /// Ends when the answer's head is out.
    _recording: outrigger_telemetry::trace::Span,
}

/// The metadata in the form the app takes.
enum AppMetadata {
    Http(HttpHeaders),
    Grpc(Pairs),
}

impl InvocationService {
    async fn call_local_stream(self: &Arc<Self>, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let mut messages = Messages::new(body, self.message_limit());
        let first = match messages.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return status_response(&error.to_status()),
            None => return status_response(&Status::unknown("EOF")),
        };
        let reply = match StreamMessage::read(first) {
            Err(error) => Err(Status::internal(error.to_string())),
            Ok(first) => self.stream(&parts, messages, first).await,
        };
        reply.unwrap_or_else(|status| status_response(&status))
    }

    async fn stream(
        &self,
        parts: &http::request::Parts,
        messages: Messages,
        mut first: StreamMessage,
    ) -> Result<Response<Body>, Status> {
        let incomplete = || malformed(&"request does not contain the required fields in the leading chunk");
        let envelope = first.envelope.take().ok_or_else(incomplete)?;
        if envelope.len() > MAX_HEAD {
            return Err(Status::resource_exhausted("the head of the request is too large"));
        }
        let request =
            envelope::Request::read(envelope).map_err(|error| Status::internal(error.to_string()))?;
        if !request.has_metadata || request.message.is_none() {
            return Err(incomplete());
        }
        let accepted = self.accept(parts, request, true)?;
        let length = match &accepted.metadata {
            AppMetadata::Http(headers) => headers.content_length,
            AppMetadata::Grpc(_) => None,
        };
        let payloads = Payloads::of_request(messages, first, length).map_err(Status::unknown)?;
        let body = payloads.settle().await;
        let (caller, events) = (
            accepted.caller.clone(),
            accepted.events && accepted.app.protocol().is_http(),
        );
        let reply = self.deliver(accepted, body).await;
        let mut reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                self.sent(caller.as_deref(), 0);
                return Err(Status::internal(format!("error invoking app channel: {error}")));
            }
        };
        if events {
            // Server-sent events travel with a gRPC code; anything but a success is an error of the call.
            if !(200..300).contains(&reply.head.code) {
                self.sent(caller.as_deref(), 0);
                return Err(Status::internal(
                    "error invoking app channel: no response received from stream",
                ));
            }
            reply.head.code = Code::Ok as i32;
        }
        self.sent(caller.as_deref(), reply.head.code);
        Ok(framed(&reply.head, reply.body).await)
    }

    async fn call_local(self: &Arc<Self>, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let mut messages = Messages::new(body, self.message_limit());
        let message = match messages.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return status_response(&error.to_status()),
            None => return status_response(&Status::internal("no message")),
        };
        self.unary(&parts, message)
            .await
            .unwrap_or_else(|status| status_response(&status))
    }

    async fn unary(&self, parts: &http::request::Parts, message: Bytes) -> Result<Response<Body>, Status> {
        let request =
            envelope::Request::read(message).map_err(|error| Status::internal(error.to_string()))?;
        if request.message.is_none() {
            return Err(malformed(&"field Message is nil"));
        }
        let mut accepted = self.accept(parts, request, false)?;
        let body = Body::whole(std::mem::take(&mut accepted.message.data));
        let caller = accepted.caller.clone();
        let reply = match self.deliver(accepted, body).await {
            Ok(reply) => reply,
            Err(error) => {
                self.sent(caller.as_deref(), Code::Internal as i32);
                return Err(Status::internal(format!("error invoking app channel: {error}")));
            }
        };
        self.sent(caller.as_deref(), reply.head.code);
        let data = collect(reply.body, self.options.max_body_size)
            .await
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let mut buffer = envelope::open(512 + data.len());
        envelope::put_reply(&mut buffer, &reply.head, Some(&data));
        envelope::seal(&mut buffer, 0);
        Ok(unary_response(buffer.freeze()))
    }

    fn sent(&self, caller: Option<&str>, code: i32) {
        self.options
            .metrics
            .invocation_response_sent(caller.unwrap_or("unknown"), code);
    }

    /// Reads a call's head, checks the policy and starts its span.
    fn accept(
        &self,
        parts: &http::request::Parts,
        mut request: envelope::Request,
        stream: bool,
    ) -> Result<Accepted, Status> {
        let Some(app) = self.app() else {
            return Err(Status::internal("app channel is not initialized"));
        };
        // 1 is V1, which upstream checks in the app's channel.
        if request.version != 1 {
            return Err(Status::internal(format!(
                "error invoking app channel: rpc error: code = Unimplemented desc = Unsupported spec version: {}",
                request.version
            )));
        }
        let message = request.message.take().unwrap_or_default();
        let method = Method::parse(&message.method)
            .map_err(|error| Status::invalid_argument(format!("invalid method: {error}")))?;
        let bad = |error: crate::protobuf::Malformed| Status::internal(error.to_string());
        let (metadata, caller, events) = if app.protocol().is_http() {
            let headers = request.metadata().into_http().map_err(bad)?;
            let text = |name: &str| {
                headers
                    .headers
                    .get(name)
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned)
            };
            let events = stream
                && text("accept")
                    .is_some_and(|accept| accept.trim().eq_ignore_ascii_case("text/event-stream"));
            let caller = text(metadata::CALLER_APP_ID);
            (AppMetadata::Http(headers), caller, events)
        } else {
            let pairs = request.metadata().into_pairs().map_err(bad)?;
            let caller = pairs.first(metadata::CALLER_APP_ID);
            let caller = caller.map(|value| String::from_utf8_lossy(value).into_owned());
            (AppMetadata::Grpc(pairs), caller, false)
        };
        let verb = message.extension.as_ref().map_or(0, |(verb, _)| *verb);
        self.allow(
            &app,
            parts.extensions.get::<PeerIdentity>(),
            method.as_str(),
            verb,
            app.protocol().is_http(),
            &parts.headers,
        )?;
        self.options
            .metrics
            .invocation_request_received(caller.as_deref().unwrap_or("unknown"));
        let parent = tracing_context::of_grpc(&parts.headers);
        let mut recording = self.options.tracer.grpc_api(parts.uri.path(), None, &parent);
        if let Some(record) = recording.recording() {
            record.set_name(format!("CallLocal/{}/{method}", self.options.app_id));
            record.set("rpc.service", "ServiceInvocation");
            record.set("dapr.invoke_method", method.as_str());
            record.set("dapr.protocol", "grpc");
            record.set("dapr.api", parts.uri.path());
        }
        let span = recording.context().clone();
        Ok(Accepted {
            app,
            method,
            message,
            metadata,
            caller,
            events,
            span,
            _recording: recording,
        })
    }

    /// Asks the access policy (X1: about the very bytes that are delivered).
    pub(crate) fn allow(
        &self,
        app: &AppChannel,
        identity: Option<&PeerIdentity>,
        operation: &str,
        verb: i32,
        is_http: bool,
        headers: &http::HeaderMap,
    ) -> Result<(), Status> {
        let Some(policy) = &self.options.access_control else {
            return Ok(());
        };
        let _ = app;
        let verb = envelope::verb_of(verb);
        let verb_name = verb.as_ref().map_or("NONE", http::Method::as_str);
        let caller = identity.map(|identity| Caller {
            trust_domain: &identity.trust_domain,
            namespace: &identity.namespace,
            app_id: &identity.app_id,
        });
        let decision = policy.decide(
            caller,
            operation,
            if is_http {
                verb.as_ref().map(http::Method::as_str)
            } else {
                None
            },
        );
        let scope = match decision.scope {
            outrigger_resources::access_control::PolicyScope::App => {
                outrigger_telemetry::metrics::PolicyScope::App
            }
            outrigger_resources::access_control::PolicyScope::Global => {
                outrigger_telemetry::metrics::PolicyScope::Global
            }
        };
        let (app_id, trust_domain, namespace) = caller.map_or(("", "", ""), |caller| {
            (caller.app_id, caller.trust_domain, caller.namespace)
        });
        self.options
            .metrics
            .access_control(scope, decision.allowed, app_id, trust_domain, namespace);
        if decision.allowed && !self.options.audit.is_enabled() {
            return Ok(());
        }
        let id = caller.map_or_else(String::new, |caller| {
            format!(
                "spiffe://{}/ns/{}/{}",
                caller.trust_domain, caller.namespace, caller.app_id
            )
        });
        self.options.audit.record(&AuditRecord {
            actor: caller.map_or(AuditActor::Unproven, |_| AuditActor::Peer(&id)),
            action: "invoke",
            target: &format!("{verb_name} {operation}"),
            decision: if decision.allowed {
                AuditDecision::Allowed
            } else {
                AuditDecision::Denied
            },
            policy: match decision.scope {
                outrigger_resources::access_control::PolicyScope::App => "accessControl.policies",
                outrigger_resources::access_control::PolicyScope::Global => "accessControl.defaultAction",
            },
            trace: &tracing_context::of_grpc(headers),
        });
        if decision.allowed {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "access control policy has denied access to id: {id} operation: {operation} verb: {verb_name}"
        )))
    }

    async fn deliver(&self, accepted: Accepted, body: Body) -> Result<Reply, InvokeError> {
        let Accepted {
            app,
            method,
            message,
            metadata,
            events,
            span,
            _recording,
            ..
        } = accepted;
        let (verb, query) = match &message.extension {
            Some((verb, query)) => (Some(*verb), query.as_str()),
            None => (None, ""),
        };
        let request = AppRequest {
            method: &method,
            verb,
            query,
            content_type: &message.content_type,
            type_url: &message.type_url,
        };
        match metadata {
            AppMetadata::Http(headers) => {
                let mut headers: HeaderMap = app_headers(headers, Some(&span));
                if events {
                    headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
                }
                let request = request.to_http(headers, body)?;
                Ok(http_reply(call_http_app(&app, request).await?))
            }
            AppMetadata::Grpc(pairs) => {
                let data = collect(body, self.options.max_body_size)
                    .await
                    .map_err(|error| InvokeError::status(Code::ResourceExhausted, error.to_string()))?;
                let from_http = !pairs
                    .first("content-type")
                    .is_some_and(|value| value.starts_with(b"application/grpc"));
                let metadata = pairs.to_grpc(true);
                self.call_grpc_app(&app, &request, metadata, &pairs, from_http, Some(&span), data)
                    .await
            }
        }
    }
}

fn malformed(error: &dyn fmt::Display) -> Status {
    Status::invalid_argument(format!("parsing InternalInvokeRequest error: {error}"))
}

/// An answer in chunks: the first message has the head and what of the body is here.
async fn framed(head: &ReplyHead, body: Body) -> Response<Body> {
    use http_body::Body as _;
    let mut buffer = envelope::open(512);
    envelope::put_first(&mut buffer, |reply| envelope::put_reply(reply, head, None));
    let body = Forgiving::settle(body).await;
    let whole = match body.as_whole() {
        _ if body.is_end_stream() => Some(Bytes::new()),
        Some(whole) if whole.len() <= CHUNK => Some(whole),
        _ => None,
    };
    if let Some(whole) = whole {
        return unary_response(one_message(buffer, &whole));
    }
    let mut response = Response::new(Body::boxed(FramedReply::new(Framed::of_response(buffer, body))));
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}
