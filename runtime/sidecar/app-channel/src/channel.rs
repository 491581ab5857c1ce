//! The channel itself.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, Uri, header::HeaderName, uri::PathAndQuery};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{self, Client},
    rt::{TokioExecutor, TokioTimer},
};
use outrigger_middleware::{Body, Next};
use outrigger_telemetry::Metrics;
use outrigger_wire::dapr::proto::runtime::v1::{
    app_callback_alpha_client::AppCallbackAlphaClient, app_callback_client::AppCallbackClient,
    app_callback_health_check_client::AppCallbackHealthCheckClient,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{
    AppChannelOptions, AppHealth, Protocol,
    connector::{TcpConnector, tls_without_verification},
    lanes::Lanes,
};

/// Upstream dials the app for at most this long.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections kept idle towards the app (upstream: 64).
const MAX_IDLE: usize = 64;
/// How long a request waits for what the first health probe says. Upstream refuses while that probe is under way and
/// its own health answers 204 only just before; ours is served earlier, so a caller that saw the 204 could be refused.
const FIRST_VERDICT: Duration = Duration::from_secs(1);
/// Header that carries the app's API token.
const TOKEN: HeaderName = HeaderName::from_static("dapr-api-token");

/// Why the app did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The app's health probes fail (A9.8).
    #[error("app is not in a healthy state")]
    Unhealthy,
    /// The call needs an HTTP app, or a gRPC one.
    #[error("the app speaks {actual}, this needs {needed}")]
    Protocol {
        /// What it speaks.
        actual: Protocol,
        /// What it should speak.
        needed: &'static str,
    },
    /// The request cannot be formed.
    #[error("invalid request")]
    Request(#[from] http::Error),
    /// No connection, or it broke.
    #[error("{text}")]
    Transport {
        /// The chain of causes on one line.
        text: String,
        /// Whether no connection came about at all, so nothing was sent.
        connect: bool,
    },
    /// The sidecar is shutting down.
    #[error("the app channel is closed")]
    Closed,
}

impl AppError {
    pub(crate) fn transport(error: &legacy::Error) -> Self {
        let connect = error.is_connect();
        let mut text = String::new();
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
        if cause.is_none() {
            text = error.to_string();
        }
        while let Some(error) = cause {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Self::Transport { text, connect }
    }
}

#[derive(Clone)]
enum Transport {
    Plain(Client<TcpConnector, Body>),
    Tls(Client<HttpsConnector<TcpConnector>, Body>),
}

impl Transport {
    async fn request(&self, request: Request<Body>) -> Result<Response<Body>, AppError> {
        let response = match self {
            Self::Plain(client) => client.request(request).await,
            Self::Tls(client) => client.request(request).await,
        };
        response
            .map(|response| response.map(Body::from))
            .map_err(|error| AppError::transport(&error))
    }
}

/// The channel to the sidecar's own app. Cheap to clone.
#[derive(Clone)]
pub struct AppChannel(Arc<Inner>);

struct Inner {
    options: AppChannelOptions,
    transport: Transport,
    /// Connections of proxied and callback calls to a gRPC app.
    lanes: Lanes<Transport>,
    scheme: http::uri::Scheme,
    authority: http::uri::Authority,
    limit: Option<Arc<Semaphore>>,
    token: Option<HeaderValue>,
    health: watch::Receiver<AppHealth>,
}

impl AppChannel {
    /// Makes the channel; connects lazily. `health` is what the probes say ([`AppHealth::Healthy`] where there are
    /// none).
    ///
    /// # Errors
    /// When address or token cannot be part of a request.
    pub fn new(options: AppChannelOptions, health: watch::Receiver<AppHealth>) -> Result<Self, http::Error> {
        let host = if options.address.contains(':') && !options.address.starts_with('[') {
            format!("[{}]", options.address)
        } else {
            options.address.clone()
        };
        let authority = format!("{host}:{}", options.port)
            .parse()
            .map_err(http::Error::from)?;
        let token = options
            .api_token
            .as_ref()
            .map(|token| {
                HeaderValue::from_str(token.expose()).map(|mut value| {
                    value.set_sensitive(true);
                    value
                })
            })
            .transpose()?;
        let limit = options.max_concurrency.map(|max| Arc::new(Semaphore::new(max)));
        let scheme = if options.protocol.is_tls() {
            http::uri::Scheme::HTTPS
        } else {
            http::uri::Scheme::HTTP
        };
        let lane_options = options.clone();
        let lanes = Lanes::new(move || transport(&lane_options));
        let transport = transport(&options);
        Ok(Self(Arc::new(Inner {
            options,
            transport,
            lanes,
            scheme,
            authority,
            limit,
            token,
            health,
        })))
    }

    /// How the app is reached.
    #[must_use]
    pub fn options(&self) -> &AppChannelOptions {
        &self.0.options
    }

    /// What the app speaks.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.0.options.protocol
    }

    /// What its requests and probes are counted with.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.options.metrics
    }

    /// What the app's health probes say now.
    #[must_use]
    pub fn health(&self) -> AppHealth {
        self.0.health.borrow().clone()
    }

    /// Follows the app's health.
    #[must_use]
    pub fn watch_health(&self) -> watch::Receiver<AppHealth> {
        self.0.health.clone()
    }

    /// Whether a request may go to the app. Where no probe has ended yet, waits for the first one, at most a second.
    /// Cancel-safe.
    pub async fn admits(&self) -> bool {
        let known = |health: &AppHealth| !matches!(health, AppHealth::Unknown);
        {
            let now = self.0.health.borrow();
            if known(&now) {
                return now.is_healthy();
            }
        }
        let mut health = self.0.health.clone();
        let verdict = tokio::time::timeout(FIRST_VERDICT, health.wait_for(known)).await;
        matches!(verdict, Ok(Ok(health)) if health.is_healthy())
    }

    /// Sends a request to an HTTP app. Only path and query of the URI count; scheme, authority and the API token are
    /// set here. The concurrency permit is held until the response body has ended.
    ///
    /// # Errors
    /// See [`AppError`]; any status of the app is a success here.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Body>, AppError> {
        if !self.protocol().is_http() {
            return Err(AppError::Protocol {
                actual: self.protocol(),
                needed: "HTTP",
            });
        }
        if !self.admits().await {
            return Err(AppError::Unhealthy);
        }
        self.send_unchecked(request).await
    }

    /// Like [`AppChannel::send`], whatever the app's health: for the probes themselves.
    pub(crate) async fn send_unchecked(&self, request: Request<Body>) -> Result<Response<Body>, AppError> {
        let permit = self.permit().await?;
        let request = self.address(request)?;
        let measured = self
            .0
            .options
            .metrics
            .is_enabled()
            .then(|| Measured::begin(self, &request));
        let pipeline = &self.0.options.pipeline;
        let sent = if pipeline.is_empty() {
            self.0.transport.request(request).await
        } else {
            self.through_pipeline(request).await
        };
        if let Some(measured) = measured {
            measured.end(self, &sent);
        }
        Ok(hold(sent?, permit))
    }

    async fn through_pipeline(&self, request: Request<Body>) -> Result<Response<Body>, AppError> {
        let failure = Arc::new(std::sync::OnceLock::new());
        let last = Terminal {
            transport: self.0.transport.clone(),
            failure: Arc::clone(&failure),
        };
        let response = self.0.options.pipeline.run(request, Box::new(last)).await;
        match Arc::into_inner(failure).and_then(std::sync::OnceLock::into_inner) {
            Some(error) => Err(error),
            None => Ok(response),
        }
    }

    fn address(&self, mut request: Request<Body>) -> Result<Request<Body>, AppError> {
        let path = request
            .uri()
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::builder()
            .scheme(self.0.scheme.clone())
            .authority(self.0.authority.clone())
            .path_and_query(path)
            .build()?;
        if let Some(token) = &self.0.token {
            request.headers_mut().insert(TOKEN, token.clone());
        }
        *request.version_mut() = if matches!(self.protocol(), Protocol::Http | Protocol::Https) {
            http::Version::HTTP_11
        } else {
            http::Version::HTTP_2
        };
        Ok(request)
    }

    async fn permit(&self) -> Result<Option<OwnedSemaphorePermit>, AppError> {
        match &self.0.limit {
            None => Ok(None),
            Some(limit) => Arc::clone(limit)
                .acquire_owned()
                .await
                .map(Some)
                .map_err(|_| AppError::Closed),
        }
    }

    /// The gRPC side of a gRPC app; `None` for HTTP apps.
    #[must_use]
    pub fn grpc(&self) -> Option<GrpcApp> {
        (!self.protocol().is_http()).then(|| GrpcApp(self.clone()))
    }
}

impl fmt::Debug for AppChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppChannel")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

/// A request to the app, for `http/client/*` (wire.md §16).
struct Measured {
    method: http::Method,
    path: String,
    began: std::time::Instant,
}

impl Measured {
    fn begin(channel: &AppChannel, request: &Request<Body>) -> Self {
        let sent = http_body::Body::size_hint(request.body()).exact().unwrap_or(0);
        let measured = Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            began: std::time::Instant::now(),
        };
        channel
            .0
            .options
            .metrics
            .http_client_started(measured.method.as_str(), &measured.path, sent);
        measured
    }

    /// Upstream counts a request that failed on the way as a 500.
    fn end(self, channel: &AppChannel, sent: &Result<Response<Body>, AppError>) {
        let (status, received) = match sent {
            Ok(response) => (
                response.status().as_u16(),
                http_body::Body::size_hint(response.body()).exact().unwrap_or(0),
            ),
            Err(_) => (500, 0),
        };
        channel.0.options.metrics.http_client_completed(
            self.method.as_str(),
            &self.path,
            status,
            received,
            self.began.elapsed(),
        );
    }
}

fn transport(options: &AppChannelOptions) -> Transport {
    let http1 = matches!(options.protocol, Protocol::Http | Protocol::Https);
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_max_idle_per_host(MAX_IDLE)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .set_host(true)
        // Go writes canonical header names, and apps exist that compare them as written.
        .http1_title_case_headers(true)
        .http2_only(!http1)
        .http2_adaptive_window(false)
        .http2_initial_stream_window_size(1 << 20)
        .http2_initial_connection_window_size(4 << 20);
    let tcp = TcpConnector::new(DIAL_TIMEOUT);
    if options.protocol.is_tls() {
        // `https` is HTTP/1.1 only, `grpcs` HTTP/2 only.
        let tls = tls_without_verification(&[]);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only();
        let connector = if http1 {
            connector.enable_http1().wrap_connector(tcp)
        } else {
            connector.enable_http2().wrap_connector(tcp)
        };
        Transport::Tls(builder.build(connector))
    } else {
        Transport::Plain(builder.build(tcp))
    }
}

/// The end of the app pipeline: the app. Its transport failure travels beside the pipeline, whose handlers only know
/// responses.
struct Terminal {
    transport: Transport,
    failure: Arc<std::sync::OnceLock<AppError>>,
}

impl Next for Terminal {
    fn run(self: Box<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            match self.transport.request(request).await {
                Ok(response) => response,
                Err(error) => {
                    let mut response = Response::new(Body::whole(error.to_string()));
                    *response.status_mut() = http::StatusCode::BAD_GATEWAY;
                    let _ = self.failure.set(error);
                    response
                }
            }
        })
    }
}

fn hold(response: Response<Body>, permit: Option<OwnedSemaphorePermit>) -> Response<Body> {
    match permit {
        None => response,
        Some(permit) => response.map(|body| body.holding(permit)),
    }
}

/// The gRPC side of a gRPC app.
#[derive(Debug, Clone)]
pub struct GrpcApp(AppChannel);

impl GrpcApp {
    /// The service for tonic clients; limited, with the API token on every call.
    #[must_use]
    pub fn service(&self) -> GrpcService {
        GrpcService(self.0.clone())
    }

    /// `dapr.proto.runtime.v1.AppCallback`.
    #[must_use]
    pub fn callback(&self) -> AppCallbackClient<GrpcService> {
        AppCallbackClient::new(self.service())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    /// `dapr.proto.runtime.v1.AppCallbackAlpha`.
    #[must_use]
    pub fn callback_alpha(&self) -> AppCallbackAlphaClient<GrpcService> {
        AppCallbackAlphaClient::new(self.service())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    /// `dapr.proto.runtime.v1.AppCallbackHealthCheck`.
    #[must_use]
    pub fn health_check(&self) -> AppCallbackHealthCheckClient<GrpcService> {
        AppCallbackHealthCheckClient::new(self.service())
    }

    /// Sends a raw gRPC request: for the transparent proxy.
    ///
    /// # Errors
    /// See [`AppError`].
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Body>, AppError> {
        let permit = self.0.permit().await?;
        let request = self.0.address(request)?;
        let place = self.0.0.lanes.place();
        let response = place.client().request(request).await?;
        Ok(response.map(|body| body.holding((permit, place))))
    }
}

/// The app as a service of tonic's clients.
#[derive(Debug, Clone)]
pub struct GrpcService(AppChannel);

impl tower_service::Service<Request<tonic::body::Body>> for GrpcService {
    type Response = Response<Body>;
    type Error = AppError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, AppError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AppError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let app = GrpcApp(self.0.clone());
        Box::pin(async move { app.send(request.map(Body::boxed_unsync)).await })
    }
}
