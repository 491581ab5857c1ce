//! Delivery to the sidecar's own app (upstream `pkg/channel/{http,grpc}`): the last hop of every invocation.

use base64::Engine as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header, uri::PathAndQuery};
use outrigger_middleware::Body;
use outrigger_sidecar_app_channel::{AppChannel, AppError};
use outrigger_telemetry::trace::SpanContext;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use prost::Message as _;
use tonic::{Code, Status};

use crate::{
    envelope::{
        self, Headers, HttpHeaders, PREFIX, ReplyHead, RequestHead, pairs_from_http, pairs_to_http, verb_of,
    },
    framing::{Messages, status_of, status_of_http},
    metadata::{self, BINARY, Nominated, Pairs},
    remote::{Reply, grpc_headers},
    service::{Invocation, InvocationService},
    status::InvokeError,
    target::Method,
    tracing_context,
};

const PROTOBUF: &str = "application/x-protobuf";
const ON_INVOKE: PathAndQuery = PathAndQuery::from_static("/dapr.proto.runtime.v1.AppCallback/OnInvoke");
/// Bytes that no request line takes; gRPC callers may put anything into a query.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'#').add(b'<').add(b'>').add(b'"');

/// A request as the app's channel takes it.
#[derive(Debug)]
pub(crate) struct AppRequest<'a> {
    pub(crate) method: &'a Method,
    pub(crate) verb: Option<i32>,
    pub(crate) query: &'a str,
    pub(crate) content_type: &'a Bytes,
    pub(crate) type_url: &'a str,
}

impl<'a> From<&'a RequestHead> for AppRequest<'a> {
    fn from(head: &'a RequestHead) -> Self {
        Self {
            method: &head.method,
            verb: head.verb,
            query: &head.query,
            content_type: &head.content_type,
            type_url: &head.type_url,
        }
    }
}

impl AppRequest<'_> {
    /// As an HTTP request; `headers` are filtered already.
    pub(crate) fn to_http(&self, headers: HeaderMap, body: Body) -> Result<Request<Body>, InvokeError> {
        let Some(verb) = self.verb else {
            return Err(InvokeError::status(
                Code::InvalidArgument,
                "missing HTTP extension field",
            ));
        };
        let verb =
            verb_of(verb).ok_or_else(|| InvokeError::status(Code::InvalidArgument, "invalid HTTP verb"))?;
        let path = self.method.to_path().map_err(|error| {
            InvokeError::plain(format!("parse {:?}: {error}", format!("/{}", self.method)))
        })?;
        let mut target = BytesMut::with_capacity(path.len() + self.query.len() + 2);
        if !path.starts_with('/') {
            target.put_u8(b'/');
        }
        target.put_slice(path.as_bytes());
        if !self.query.is_empty() {
            target.put_u8(b'?');
            target.put_slice(self.query.as_bytes());
        }
        let target = PathAndQuery::from_maybe_shared(target.freeze()).or_else(|_| {
            let query = utf8_percent_encode(self.query, QUERY);
            PathAndQuery::from_maybe_shared(Bytes::from(format!("/{}?{query}", path.trim_start_matches('/'))))
        });
        let target =
            target.map_err(|error| InvokeError::plain(format!("parse \"/{}\": {error}", self.method)))?;
        let mut request = Request::new(body);
        *request.method_mut() = verb;
        *request.uri_mut() = target.into();
        *request.headers_mut() = headers;
        let content_type = if self.type_url.is_empty() {
            HeaderValue::from_maybe_shared(self.content_type.clone())
                .ok()
                .filter(|value| !value.is_empty())
        } else {
            Some(HeaderValue::from_static(PROTOBUF))
        };
        if let Some(content_type) = content_type {
            request.headers_mut().insert(header::CONTENT_TYPE, content_type);
        }
        Ok(request)
    }
}

/// The HTTP request of an invocation that stays in this sidecar.
pub(crate) fn http_request(invocation: &Invocation) -> Result<Request<Body>, InvokeError> {
    let mut headers = match &invocation.head.headers {
        Headers::Http(headers) => filtered(headers),
        Headers::Pairs(pairs) => {
            let mut message = pairs_to_http(pairs);
            tracing_context::put_http_of(&mut message, None);
            message.headers
        }
    };
    if let Some(span) = &invocation.span {
        tracing_context::put_http(&mut headers, span);
    }
    AppRequest::from(&invocation.head).to_http(headers, invocation.body.reader())
}

/// Headers of an HTTP message that may go on.
pub(crate) fn filtered(headers: &HeaderMap) -> HeaderMap {
    let nominated = Nominated::of(headers);
    let mut out = HeaderMap::with_capacity(headers.len() + 4);
    for (name, value) in headers {
        // The body knows its length; the content type has its own place.
        if metadata::travels(name.as_str(), &nominated)
            && *name != header::CONTENT_LENGTH
            && *name != header::CONTENT_TYPE
        {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

/// An app's HTTP answer as a reply to an HTTP caller.
pub(crate) fn http_reply(response: Response<Body>) -> Reply {
    let (parts, body) = response.into_parts();
    let content_type = parts.headers.get(header::CONTENT_TYPE);
    let content_type = content_type
        .map(|value| Bytes::copy_from_slice(value.as_bytes()))
        .unwrap_or_default();
    let head = ReplyHead {
        code: i32::from(parts.status.as_u16()),
        message: String::new(),
        details: Vec::new(),
        headers: Headers::Http(filtered(&parts.headers)),
        trailers: Pairs::default(),
        content_type,
        type_url: String::new(),
    };
    Reply { head, body }
}

/// A failure of the app's channel, in Go's words: `Post "http://…": …`.
pub(crate) fn app_failure(
    app: &AppChannel,
    verb: &http::Method,
    target: &str,
    error: AppError,
) -> InvokeError {
    match error {
        AppError::Unhealthy => InvokeError::status(Code::Internal, "app is not in a healthy state"),
        AppError::Transport { text, .. } => {
            let options = app.options();
            let scheme = if options.protocol.is_tls() {
                "https"
            } else {
                "http"
            };
            let (first, rest) = verb.as_str().split_at(1);
            let rest = rest.to_ascii_lowercase();
            InvokeError::plain(format!(
                "{first}{rest} \"{scheme}://{}:{}{target}\": {text}",
                options.address, options.port
            ))
        }
        other => InvokeError::plain(other.to_string()),
    }
}

/// Sends a request to an HTTP app.
pub(crate) async fn call_http_app(
    app: &AppChannel,
    request: Request<Body>,
) -> Result<Response<Body>, InvokeError> {
    // The text of a failure names the request, which is gone by then: both parts are cheap to keep.
    let verb = request.method().clone();
    let uri = request.uri().clone();
    match app.send(request).await {
        Ok(response) => Ok(response),
        Err(error) => Err(app_failure(app, &verb, uri.path(), error)),
    }
}

impl InvocationService {
    /// Invokes the sidecar's own app, without a hop.
    pub(crate) async fn deliver_own(&self, invocation: &Invocation) -> Result<Reply, InvokeError> {
        let Some(app) = self.app() else {
            return Err(InvokeError::plain(
                "cannot invoke local endpoint: app channel not initialized",
            ));
        };
        let reply = if app.protocol().is_http() {
            let mut request = http_request(invocation)?;
            self.stamp(request.headers_mut());
            http_reply(call_http_app(&app, request).await?)
                .settled(invocation.events)
                .await
        } else {
            let (pairs, from_http) = match &invocation.head.headers {
                Headers::Http(headers) => (pairs_from_http(headers), true),
                Headers::Pairs(pairs) => (pairs.clone(), false),
            };
            let data = self.collect(&invocation.body).await?;
            let mut metadata = pairs.to_grpc(true);
            self.stamp(&mut metadata);
            self.call_grpc_app(
                &app,
                &(&invocation.head).into(),
                metadata,
                &pairs,
                from_http,
                invocation.span.as_ref(),
                data,
            )
            .await?
        };
        Ok(reply)
    }

    /// Says who calls: this sidecar. What an app wrote there itself was dropped before.
    fn stamp(&self, headers: &mut HeaderMap) {
        let options = &self.options;
        for (name, value) in [
            (metadata::CALLER_APP_ID, options.app_id.as_str()),
            (metadata::CALLER_NAMESPACE, options.namespace.as_str()),
            (metadata::CALLEE_APP_ID, options.app_id.as_str()),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
    }

    async fn collect(&self, body: &crate::replay::RequestBody) -> Result<Bytes, InvokeError> {
        let limit = self.options.max_body_size;
        body.collect(limit)
            .await
            .map_err(|error| InvokeError::status(Code::ResourceExhausted, error.to_string()))
    }

    /// Invokes a gRPC app by `OnInvoke`. `pairs` is where the trace context of the message is, if any.
    #[expect(clippy::too_many_arguments, reason = "a message in parts, from two places")]
    pub(crate) async fn call_grpc_app(
        &self,
        app: &AppChannel,
        request: &AppRequest<'_>,
        mut metadata: HeaderMap,
        pairs: &Pairs,
        from_http: bool,
        span: Option<&SpanContext>,
        data: Bytes,
    ) -> Result<Reply, InvokeError> {
        let Some(grpc) = app.grpc() else {
            return Err(InvokeError::plain("the app does not speak gRPC"));
        };
        if !app.admits().await {
            return Err(InvokeError::status(
                Code::Internal,
                "app is not in a healthy state",
            ));
        }
        let context = span
            .filter(|span| span.is_valid())
            .cloned()
            .or_else(|| trace_of(pairs, from_http))
            .or_else(|| span.filter(|span| span.is_sent_on()).cloned());
        if let Some(context) = context {
            tracing_context::put_grpc(&mut metadata, &context);
        }
        let message = on_invoke(request, &data);
        let mut call = Request::new(Body::whole(message));
        *call.method_mut() = http::Method::POST;
        *call.uri_mut() = ON_INVOKE.into();
        *call.headers_mut() = metadata;
        grpc_headers(call.headers_mut());
        let response = match grpc.send(call).await {
            Ok(response) => response,
            // Whatever keeps the app from answering is its answer, as upstream has it.
            Err(error) => {
                let text = format!("connection error: desc = \"transport: Error while dialing: {error}\"");
                return Ok(status_reply(
                    &Status::unavailable(text),
                    Pairs::default(),
                    Pairs::default(),
                ));
            }
        };
        let (parts, body) = response.into_parts();
        let headers = Pairs::from_grpc(&parts.headers);
        if parts.status != http::StatusCode::OK {
            return Ok(status_reply(
                &status_of_http(parts.status),
                headers,
                Pairs::default(),
            ));
        }
        if let Some(status) = status_of(&parts.headers) {
            return Ok(status_reply(&status, Pairs::default(), headers));
        }
        let mut messages = Messages::new(body, self.message_limit());
        let first = match messages.next().await {
            Some(Ok(message)) => Some(message),
            Some(Err(error)) => return Ok(status_reply(&error.to_status(), headers, Pairs::default())),
            None => None,
        };
        if first.is_some() {
            // The trailers follow.
            while let Some(Ok(_)) = messages.next().await {}
        }
        let trailers = messages.trailers().map(Pairs::from_grpc).unwrap_or_default();
        if let Some(status) = messages.trailers().and_then(status_of) {
            return Ok(status_reply(&status, headers, trailers));
        }
        let Some(first) = first else {
            return Ok(status_reply(
                &Status::internal("the app sent no message"),
                headers,
                trailers,
            ));
        };
        let message = envelope::Message::read_response(first)
            .map_err(|error| InvokeError::status(Code::Internal, error.to_string()))?;
        let head = ReplyHead {
            code: Code::Ok as i32,
            message: String::new(),
            details: Vec::new(),
            headers: Headers::Pairs(headers),
            trailers,
            content_type: message.content_type,
            type_url: message.type_url,
        };
        Ok(Reply {
            head,
            body: Body::whole(message.data),
        })
    }
}

/// An app's failure as a reply: it is an answer, not an error of the call.
fn status_reply(status: &Status, headers: Pairs, trailers: Pairs) -> Reply {
    let details = tonic_types::pb::Status::decode(status.details())
        .map(|status| status.details)
        .unwrap_or_default();
    let head = ReplyHead {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details,
        headers: Headers::Pairs(headers),
        trailers,
        content_type: Bytes::new(),
        type_url: String::new(),
    };
    Reply {
        head,
        body: Body::Empty,
    }
}

/// `InvokeRequest` as a gRPC message.
fn on_invoke(request: &AppRequest<'_>, data: &[u8]) -> Bytes {
    let mut buffer = envelope::open(PREFIX + 256 + data.len());
    envelope::put_invoke_request(&mut buffer, request, data);
    envelope::seal(&mut buffer, 0);
    buffer.freeze()
}

/// The trace context within a message's metadata (upstream `processHTTPToGRPCTraceHeader` and its twin).
fn trace_of(pairs: &Pairs, from_http: bool) -> Option<SpanContext> {
    let is_grpc = !from_http
        && pairs
            .first("content-type")
            .is_some_and(|value| value.starts_with(b"application/grpc"));
    let text = |name| {
        pairs
            .first(name)
            .and_then(|value| std::str::from_utf8(value).ok())
    };
    if is_grpc {
        let binary = pairs
            .first(metadata::GRPC_TRACE)
            .and_then(|value| BINARY.decode(value).ok());
        if let Some(context) = binary.as_deref().and_then(SpanContext::from_binary) {
            return Some(context);
        }
    }
    SpanContext::from_headers(text(metadata::TRACEPARENT), text(metadata::TRACESTATE))
}

/// Metadata for an HTTP app, with the trace context in place.
pub(crate) fn app_headers(mut message: HttpHeaders, span: Option<&SpanContext>) -> HeaderMap {
    tracing_context::put_http_of(&mut message, span);
    message.headers
}
