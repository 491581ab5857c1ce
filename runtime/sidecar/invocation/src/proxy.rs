//! The transparent gRPC proxy: any method of any service, bytes untouched (row A1.3; wire.md §3; upstream
//! `pkg/messaging/grpc_proxy.go`, `pkg/api/grpc/proxy`; pain I2).
//!
//! Without a policy a call is two bodies passed on as they are, whatever its kind: no header is needed to tell
//! streams from unary calls. With one, an attempt lasts until the first message of the answer: until then it may be
//! repeated, if it has retries and the request is a single message.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header, request::Parts};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use outrigger_middleware::{Body, BoxError};
use outrigger_sidecar_resilience::{Code as PolicyCode, Policy, Retry, Retryable, RunError};
use outrigger_telemetry::{
    Metrics,
    trace::{Span, SpanContext},
};
use outrigger_types::is_truthy;
use parking_lot::Mutex;
use tonic::{Code, Status};

use crate::{
    body::{Filled, PeerBody},
    envelope::put_message,
    framing::{Messages, code_of, raw_code_of, status_of, status_of_http, status_response},
    internal::PeerIdentity,
    metadata::{
        API_TOKEN, CALLEE_APP_ID, CALLER_APP_ID, CALLER_NAMESPACE, GRPC_TRACE, TRACEPARENT, TRACESTATE,
    },
    peers::Peer,
    resolve::{Destination, Gone, Remote},
    service::InvocationService,
    target::{APP_ID_HEADER, Method},
    tracing_context,
};

/// Says that a call is a stream whatever it looks like.
const STREAM_HEADER: &str = "dapr-stream";
const RETRY_ON_STREAM: &str = "cannot use resiliency policies with retries on streaming RPCs";

/// Who handed the call in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The app, on the public API.
    App,
    /// Another sidecar, on the internal API.
    Peer,
}

/// Why a call came to no answer, or to one that a policy may repeat.
#[derive(Debug)]
struct Failed {
    status: Box<Status>,
    /// The code on the wire, which may be none that gRPC knows.
    code: i32,
    /// The answer itself, when there was one.
    response: Option<Box<Response<Body>>>,
    permanent: bool,
}

impl Failed {
    fn new(status: Status) -> Self {
        Self {
            code: status.code() as i32,
            status: Box::new(status),
            response: None,
            permanent: false,
        }
    }

    /// An answer that says so.
    fn answered(status: Status, code: Option<i32>, response: Response<Body>) -> Self {
        let failed = Self::new(status);
        Self {
            code: code.unwrap_or(failed.code),
            response: Some(Box::new(response)),
            ..failed
        }
    }

    fn permanent(status: Status) -> Self {
        Self {
            permanent: true,
            ..Self::new(status)
        }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.status.message())
    }
}

impl Retryable for Failed {
    fn verdict(&self) -> Retry {
        if self.permanent {
            Retry::Permanent
        } else {
            Retry::Code(PolicyCode::Grpc(self.code))
        }
    }
}

impl InvocationService {
    /// Proxies a call of an unknown gRPC service that reached the public API.
    pub async fn proxy(self: &Arc<Self>, request: Request<Body>) -> Response<Body> {
        self.proxy_from(request, Origin::App).await
    }

    pub(crate) async fn proxy_from(&self, request: Request<Body>, origin: Origin) -> Response<Body> {
        match self.forward(request, origin).await {
            Ok(response) => response,
            Err(status) => status_response(&status),
        }
    }

    async fn forward(&self, request: Request<Body>, origin: Origin) -> Result<Response<Body>, Status> {
        let (mut parts, body) = request.into_parts();
        let text = |name: &str| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let app_id = text(APP_ID_HEADER);
        let Some(target) = text(CALLEE_APP_ID).or_else(|| app_id.clone()) else {
            return Err(Status::unknown(
                "failed to proxy request: required metadata dapr-callee-app-id or dapr-app-id not found",
            ));
        };
        let is_stream = text(STREAM_HEADER).is_some_and(|value| is_truthy(&value));
        for name in [APP_ID_HEADER, API_TOKEN] {
            parts.headers.remove(name);
        }
        if origin == Origin::App {
            for name in [CALLER_APP_ID, CALLER_NAMESPACE] {
                parts.headers.remove(name);
            }
        }
        let destination = self
            .destination(&target)
            .await
            .map_err(|error| error.to_status())?;
        let own = match &*destination {
            Destination::Local => true,
            // Upstream tells its own app by the id alone.
            Destination::Remote(remote) => remote.target.app_id == self.options.app_id,
            Destination::External(_) => {
                return Err(Status::unimplemented(
                    "gRPC calls cannot be proxied to HTTP endpoints",
                ));
            }
        };
        let observed = Observed::begin(&self.options.metrics, app_id.as_deref(), is_stream);
        let (span, context) = self.span(&parts, own, origin);
        if let Some(context) = context {
            tracing_context::put_grpc(&mut parts.headers, &context);
        }
        let outcome = if own {
            self.to_app(parts, body).await
        } else if let Destination::Remote(remote) = &*destination {
            self.to_peer(&target, app_id.as_deref(), remote, parts, body, is_stream)
                .await
        } else {
            Err(Status::internal("no destination"))
        };
        Ok(match outcome {
            Ok(response) => observe(response.map(|body| Body::boxed(Filled(body))), observed, span),
            Err(status) => {
                if let Some(observed) = observed {
                    observed.end(status.code());
                }
                return Err(status);
            }
        })
    }

    /// The span of a call: the public server's, or one of our own on the internal API.
    fn span(&self, parts: &Parts, own: bool, origin: Origin) -> (Option<Span>, Option<SpanContext>) {
        if origin == Origin::App {
            return (None, tracing_context::of_request(&parts.extensions));
        }
        let has_context = [TRACEPARENT, TRACESTATE, GRPC_TRACE]
            .iter()
            .any(|name| parts.headers.contains_key(*name));
        let parent = if has_context {
            tracing_context::of_grpc(&parts.headers)
        } else {
            SpanContext::default()
        };
        let span = self.options.tracer.grpc_api(parts.uri.path(), Some(own), &parent);
        let context = Some(span.context().clone()).filter(SpanContext::is_valid);
        (Some(span), context)
    }

    /// Hands a call to the own app.
    async fn to_app(&self, mut parts: Parts, body: Body) -> Result<Response<Body>, Status> {
        let method = Method::parse(parts.uri.path())
            .map_err(|error| Status::invalid_argument(format!("invalid method: {error}")))?;
        let Some(app) = self.app() else {
            return Err(Status::internal("app channel is not initialized"));
        };
        self.allow(
            &app,
            parts.extensions.get::<PeerIdentity>(),
            method.as_str(),
            0,
            false,
            &parts.headers,
        )?;
        // What the policy saw is what is sent (X1).
        if method.as_str() != parts.uri.path() {
            parts.uri = Uri::try_from(method.as_str())
                .map_err(|error| Status::invalid_argument(format!("invalid method: {error}")))?;
        }
        let Some(grpc) = app.grpc() else {
            return Err(Status::unavailable("the target app does not speak gRPC"));
        };
        parts.extensions = http::Extensions::new();
        grpc.send(Request::from_parts(parts, body))
            .await
            .map_err(|error| {
                Status::unavailable(format!(
                    "connection error: desc = \"transport: Error while dialing: {error}\""
                ))
            })
    }

    async fn to_peer(
        &self,
        target: &str,
        app_id: Option<&str>,
        remote: &Remote,
        mut parts: Parts,
        body: Body,
        is_stream: bool,
    ) -> Result<Response<Body>, Status> {
        let callee = remote.target.app_id.as_str();
        for (name, value) in [
            (CALLER_APP_ID, self.options.app_id.as_str()),
            (CALLEE_APP_ID, callee),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                parts.headers.insert(name, value);
            }
        }
        parts
            .headers
            .insert(header::TE, HeaderValue::from_static("trailers"));
        // Upstream looks for the policy by `dapr-app-id` only.
        let path = parts.uri.path().to_owned();
        let policy = app_id.map_or_else(Policy::none, |app_id| {
            self.policy(app_id, || format!("{app_id}:{path}"))
        });
        if policy.is_none() {
            let sent = self.send_raw(target, remote, &parts, body).await;
            if sent.is_err() {
                self.destinations.forget(target);
            }
            return sent.map_err(|failed| *failed.status);
        }
        let replay = Replay::new(body, !is_stream && policy.has_retries(), self.message_limit());
        let outcome = policy
            .run(async |attempt| {
                let found;
                let remote = if attempt == 1 {
                    remote
                } else {
                    found = self.destination(target).await.ok();
                    match found.as_deref() {
                        Some(Destination::Remote(remote)) => remote,
                        _ => remote,
                    }
                };
                let sent = self.send_raw(target, remote, &parts, replay.body()).await;
                let outcome = match sent {
                    Ok(response) => committed(response).await,
                    Err(failed) => {
                        self.destinations.forget(target);
                        Err(failed)
                    }
                };
                if replay.is_stream() && outcome.is_err() {
                    return Err(Failed::permanent(Status::failed_precondition(RETRY_ON_STREAM)));
                }
                outcome.map_err(|failed| Failed {
                    permanent: failed.permanent || !replay.can_replay(),
                    ..failed
                })
            })
            .await;
        match outcome {
            Ok(response) => Ok(response),
            Err(RunError::Op(Failed {
                response: Some(response),
                ..
            })) => Ok(*response),
            Err(RunError::Op(failed)) => Err(*failed.status),
            Err(RunError::Timeout) => Err(Status::deadline_exceeded("context deadline exceeded")),
            Err(error) => Err(Status::unknown(error.to_string())),
        }
    }

    /// Sends a call to a peer as it is. Where nothing was sent another instance is asked, or, when there is none, the
    /// connection made anew once (upstream's reconnection).
    async fn send_raw(
        &self,
        target: &str,
        remote: &Remote,
        parts: &Parts,
        body: Body,
    ) -> Result<Response<Body>, Failed> {
        let path = parts
            .uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
        let uri = |peer: &Peer| {
            peer.uri(path.clone())
                .map_err(|error| Failed::permanent(Status::invalid_argument(error.to_string())))
        };
        let mut peer = Arc::clone(remote.peer());
        let mut request = Request::new(PeerBody::Raw(body));
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = uri(&peer)?;
        request.headers_mut().clone_from(&parts.headers);
        let mut gone = Gone::default();
        let mut reconnected = false;
        loop {
            let failure = match self.peers.send(&peer, request).await {
                Ok(response) if response.status() != http::StatusCode::OK => {
                    return Err(Failed::new(status_of_http(response.status())));
                }
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            self.report_failure(remote, &peer);
            let Some(unsent) = failure.unsent else {
                return Err(Failed::new(failure.error.to_status()));
            };
            request = *unsent;
            if let Some(other) = self.elsewhere(target, &peer, &mut gone).await {
                *request.uri_mut() = uri(&other)?;
                peer = other;
            } else if reconnected {
                return Err(Failed::new(failure.error.to_status()));
            } else {
                reconnected = true;
            }
        }
    }
}

/// Reads up to the first message: an answer that has one is a success for the policy, one without is its status.
async fn committed(response: Response<Body>) -> Result<Response<Body>, Failed> {
    if let Some(status) = status_of(response.headers()) {
        let code = raw_code_of(response.headers());
        return Err(Failed::answered(status, code, response));
    }
    let (parts, mut body) = response.into_parts();
    let first = match body.frame().await {
        Some(Ok(frame)) => frame,
        Some(Err(error)) => return Err(Failed::new(Status::unavailable(error.to_string()))),
        None => {
            return Err(Failed::new(Status::internal(
                "server closed the stream without sending trailers",
            )));
        }
    };
    let status = first.trailers_ref().and_then(status_of);
    let code = first.trailers_ref().and_then(raw_code_of);
    let response = Response::from_parts(
        parts,
        Body::boxed(Resumed {
            first: Some(first),
            rest: body,
        }),
    );
    match status {
        Some(status) => Err(Failed::answered(status, code, response)),
        None => Ok(response),
    }
}

/// A body of which one frame was read.
struct Resumed {
    first: Option<Frame<Bytes>>,
    rest: Body,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }
}

/// A request for several attempts: its one message is kept; a second one shows that it is a stream.
struct Replay(Arc<Mutex<ReplayState>>);

struct ReplayState {
    source: Source,
    message: Option<Bytes>,
    is_stream: bool,
    generation: u32,
}

enum Source {
    /// Sent once, as it comes.
    Raw(Option<Body>),
    /// Read message by message.
    Messages { messages: Box<Messages>, ended: bool },
}

impl Replay {
    fn new(body: Body, keep: bool, limit: usize) -> Self {
        let source = if keep {
            Source::Messages {
                messages: Box::new(Messages::new(body, limit)),
                ended: false,
            }
        } else {
            Source::Raw(Some(body))
        };
        Self(Arc::new(Mutex::new(ReplayState {
            source,
            message: None,
            is_stream: false,
            generation: 0,
        })))
    }

    /// The body of the next attempt.
    fn body(&self) -> Body {
        let mut state = self.0.lock();
        state.generation += 1;
        if let Source::Raw(body) = &mut state.source {
            return body.take().unwrap_or_default();
        }
        Body::boxed(ReplayBody {
            state: Arc::clone(&self.0),
            generation: state.generation,
            sent: false,
        })
    }

    fn can_replay(&self) -> bool {
        let state = self.0.lock();
        match &state.source {
            Source::Raw(body) => body.is_some(),
            Source::Messages { .. } => !state.is_stream,
        }
    }

    fn is_stream(&self) -> bool {
        self.0.lock().is_stream
    }
}

struct ReplayBody {
    state: Arc<Mutex<ReplayState>>,
    generation: u32,
    sent: bool,
}

impl http_body::Body for ReplayBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut state = this.state.lock();
        let state = &mut *state;
        if state.generation != this.generation {
            return Poll::Ready(Some(Err("the call is being retried".into())));
        }
        if !this.sent
            && let Some(message) = &state.message
        {
            this.sent = true;
            return Poll::Ready(Some(Ok(Frame::data(message.clone()))));
        }
        let Source::Messages { messages, ended } = &mut state.source else {
            return Poll::Ready(None);
        };
        if *ended {
            return Poll::Ready(None);
        }
        match messages.poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                *ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(Some(Ok(message))) => {
                if state.message.is_some() {
                    state.is_stream = true;
                    return Poll::Ready(Some(Err(RETRY_ON_STREAM.into())));
                }
                this.sent = true;
                let framed = put_message(&message);
                state.message = Some(framed.clone());
                Poll::Ready(Some(Ok(Frame::data(framed))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// A call that is counted when it ends.
struct Observed {
    metrics: Metrics,
    app_id: String,
    is_stream: bool,
    started: Instant,
}

impl Observed {
    fn begin(metrics: &Metrics, app_id: Option<&str>, is_stream: bool) -> Option<Self> {
        let app_id = app_id.filter(|_| metrics.is_enabled())?;
        metrics.invocation_request_sent(app_id, is_stream);
        Some(Self {
            metrics: metrics.clone(),
            app_id: app_id.to_owned(),
            is_stream,
            started: Instant::now(),
        })
    }

    fn end(self, code: Code) {
        if self.is_stream {
            self.metrics
                .invocation_stream_response_received(&self.app_id, code as i32);
        } else {
            self.metrics
                .invocation_response_received(&self.app_id, code as i32, self.started.elapsed());
        }
    }
}

/// Counts the call and ends its span with the trailers. Costs nothing where nobody looks.
fn observe(response: Response<Body>, observed: Option<Observed>, mut span: Option<Span>) -> Response<Body> {
    if span.as_mut().is_some_and(|span| span.recording().is_none()) {
        span = None;
    }
    if observed.is_none() && span.is_none() {
        return response;
    }
    let (parts, body) = response.into_parts();
    let mut watched = Watched { body, observed, span };
    if let Some(code) = code_of(&parts.headers) {
        watched.end(code, &parts.headers);
    }
    Response::from_parts(parts, Body::boxed(watched))
}

struct Watched {
    body: Body,
    observed: Option<Observed>,
    span: Option<Span>,
}

impl Watched {
    fn end(&mut self, code: Code, trailers: &HeaderMap) {
        if let Some(observed) = self.observed.take() {
            observed.end(code);
        }
        if let Some(mut span) = self.span.take()
            && let (Some(record), Some(status)) = (span.recording(), status_of(trailers))
        {
            record.set_error(status.message().to_owned());
        }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            let code = code_of(trailers).unwrap_or(Code::Unknown);
            self.end(code, trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(observed) = self.observed.take() {
            observed.end(Code::Cancelled);
        }
    }
}
