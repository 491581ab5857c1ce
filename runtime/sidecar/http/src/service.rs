//! From a request to its answer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::HeaderName};
use http_body::{Body as _, Frame, SizeHint};
use outrigger_component::SecretString;
use outrigger_middleware::{Next, Pipeline};
use outrigger_sidecar_api::{
    ApiRequest, Body, BoxError, CallName, Endpoint, RenderedError, Reply, WantsCallName,
};
use outrigger_telemetry::{
    Metrics,
    audit::{Audit, AuditActor, AuditDecision, AuditRecord},
    metrics::HttpServerRequest,
    trace::{LogIds, SpanContext},
};
use tokio::sync::Semaphore;

use crate::{Cors, LimitedBody, Router, clean, limit::until_sent, query_unescape};

const TOKEN: HeaderName = HeaderName::from_static("dapr-api-token");

/// Requests under way in one server before further ones are answered 503. Far above what the app behind a sidecar
/// can take, low enough that a flood cannot exhaust memory.
pub const MAX_IN_FLIGHT: usize = 16_384;

/// Between two looks whether requests are under way.
const IDLE_LOOK: Duration = Duration::from_millis(20);

/// `spec.logging.apiLogging` and `--enable-api-logging`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApiLogOptions {
    /// Log endpoint names in place of paths.
    pub obfuscate_urls: bool,
    /// Leave health checks out.
    pub omit_health_checks: bool,
}

/// What surrounds the endpoints.
#[derive(Debug, Clone, Default)]
pub struct HttpServiceOptions {
    /// `--max-body-size` in bytes; `None` for no bound.
    pub max_body_size: Option<u64>,
    /// `DAPR_API_TOKEN`.
    pub api_token: Option<SecretString>,
    /// Keeps records of requests without the token.
    pub audit: Audit,
    /// `--allowed-origins`.
    pub cors: Option<Cors>,
    /// `spec.httpPipeline`.
    pub pipeline: Arc<Pipeline>,
    /// API logging; `None` when off.
    pub api_log: Option<ApiLogOptions>,
    /// Where requests are counted.
    pub metrics: Metrics,
    /// Traces requests; `None` when tracing is off.
    pub tracing: Option<crate::TracingLayer>,
}

/// Serves requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpService(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    router: Arc<Router>,
    options: HttpServiceOptions,
    in_flight: Arc<Semaphore>,
}

/// Which endpoint served a request; left in the response's extensions for the layers outside.
#[derive(Debug, Clone)]
pub(crate) struct Served(pub(crate) Arc<Endpoint>);

impl HttpService {
    /// A service of these endpoints.
    #[must_use]
    pub fn new(endpoints: impl IntoIterator<Item = Endpoint>, options: HttpServiceOptions) -> Self {
        Self(Arc::new(Inner {
            router: Arc::new(Router::new(endpoints)),
            options,
            in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
        }))
    }

    /// Whether anybody asks who is at the other end.
    pub(crate) fn has_pipeline(&self) -> bool {
        !self.0.options.pipeline.is_empty()
    }

    /// Serves one request.
    pub async fn serve(&self, request: Request<Body>) -> Response<Body> {
        let Ok(permit) = Arc::clone(&self.0.in_flight).try_acquire_owned() else {
            return overloaded();
        };
        let options = &self.0.options;
        let mut request = match options.max_body_size {
            Some(limit) => request.map(|body| LimitedBody::bound(body, limit)),
            None => request,
        };
        let observed =
            (options.metrics.is_enabled() || options.api_log.is_some()).then(|| Observed::begin(&request));
        if options.api_log.is_some_and(|log| log.obfuscate_urls) {
            request.extensions_mut().insert(WantsCallName);
        }
        let mut log_ids = LogIds::default();
        let mut response = match &options.tracing {
            None => self.guarded(request).await,
            Some(tracing) => match tracing.begin(request) {
                Ok((request, span)) => {
                    log_ids = span.log_ids();
                    let response = log_ids.around(self.guarded(request)).await;
                    let served = response.extensions().get::<Served>().cloned();
                    tracing.end(span, response, served.as_ref().map(|served| &*served.0))
                }
                Err(refusal) => *refusal,
            },
        };
        if let Some(observed) = observed {
            response = log_ids.within(|| observed.end(response, options));
        }
        response.map(|body| until_sent(body, permit))
    }

    /// Waits until no request is under way, bodies included. Others may come at any time: this is for services that
    /// were switched off. Cancel-safe.
    pub async fn idle(&self) {
        // A permit that was waited for would be kept from requests that come after all. The first look comes after a
        // pause: a request may have been given this service just before it was switched off.
        loop {
            tokio::time::sleep(IDLE_LOOK).await;
            if self.0.in_flight.available_permits() >= MAX_IN_FLIGHT {
                return;
            }
        }
    }

    /// CORS, then the API token, then the pipeline.
    async fn guarded(&self, mut request: Request<Body>) -> Response<Body> {
        let options = &self.0.options;
        let cors = options.cors.as_ref();
        let mut decoration = None;
        if let Some(cors) = cors {
            if Cors::is_preflight(request.method(), request.headers()) {
                let mut response = Reply::status(StatusCode::OK);
                *response.headers_mut() = cors.preflight(request.headers());
                return response;
            }
            let mut headers = http::HeaderMap::new();
            cors.decorate(request.method(), request.headers(), &mut headers);
            decoration = Some(headers);
        }
        let mut response = if self.admits(&request) {
            request.headers_mut().remove(&TOKEN);
            if options.pipeline.is_empty() {
                dispatch(&self.0.router, request).await
            } else {
                let last = Box::new(Terminal(Arc::clone(&self.0.router)));
                options.pipeline.run(request, last).await
            }
        } else {
            Reply::text(StatusCode::UNAUTHORIZED, "invalid api token")
        };
        if let Some(decoration) = decoration {
            response.headers_mut().extend(decoration);
        }
        response
    }

    /// Whether the API token fits (B5). Compared in constant time; only the two health checks do without, by their
    /// exact path (pains X2).
    fn admits(&self, request: &Request<Body>) -> bool {
        let Some(token) = &self.0.options.api_token else {
            return true;
        };
        let given = request
            .headers()
            .get(&TOKEN)
            .map_or(&b""[..], HeaderValue::as_bytes);
        if constant_time_eq(given, token.expose().as_bytes()) {
            return true;
        }
        let is_health = request.method() == Method::GET
            && matches!(
                request.uri().path().trim_matches('/'),
                "v1.0/healthz" | "v1.0/healthz/outbound"
            );
        if !is_health && self.0.options.audit.is_enabled() {
            let text = |name| {
                let value = request.headers().get(name)?;
                value.to_str().ok()
            };
            self.0.options.audit.record(&AuditRecord {
                actor: AuditActor::Unproven,
                action: "authenticate",
                target: &format!("{} {}", request.method(), request.uri().path()),
                decision: AuditDecision::Denied,
                policy: "DAPR_API_TOKEN",
                trace: &SpanContext::from_headers(text("traceparent"), text("tracestate"))
                    .unwrap_or_default(),
            });
        }
        is_health
    }
}

fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

fn overloaded() -> Response<Body> {
    let mut response = Reply::text(StatusCode::SERVICE_UNAVAILABLE, "too many requests are under way");
    response
        .headers_mut()
        .insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

struct Terminal(Arc<Router>);

impl Next for Terminal {
    fn run(self: Box<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move { dispatch(&self.0, request).await })
    }
}

async fn dispatch(router: &Router, request: Request<Body>) -> Response<Body> {
    let found = router.find(request.method(), &clean(request.uri().path()));
    let Some(mut found) = found else {
        return Reply::text(StatusCode::NOT_FOUND, "404 page not found");
    };
    if found.endpoint.route.contains('{') && !found.fallback {
        for (name, value) in found.params.iter_mut() {
            match query_unescape(value) {
                Ok(unescaped) => *value = unescaped,
                Err(error) => {
                    let text = format!("failed to unescape request parameter {name:?}. Error: {error}");
                    return Reply::text(StatusCode::BAD_REQUEST, &text);
                }
            }
        }
    }
    let (head, body) = request.into_parts();
    let handled = found.endpoint.handler.handle(ApiRequest {
        head,
        params: found.params,
        body,
    });
    let mut response = handled.await.unwrap_or_else(|error| {
        tracing::debug!(target: "dapr.runtime.http", "{error}");
        error.to_response()
    });
    response.extensions_mut().insert(Served(found.endpoint));
    response
}

/// What is known of a request before it is served, for metrics and the API log.
struct Observed {
    method: Method,
    path: String,
    user_agent: Option<HeaderValue>,
    request_bytes: u64,
    began: Instant,
}

impl Observed {
    fn begin(request: &Request<Body>) -> Self {
        Self {
            method: request.method().clone(),
            path: percent_encoding::percent_decode_str(request.uri().path())
                .decode_utf8_lossy()
                .into_owned(),
            user_agent: request.headers().get(http::header::USER_AGENT).cloned(),
            request_bytes: request.body().size_hint().exact().unwrap_or(0),
            began: Instant::now(),
        }
    }

    fn end(self, response: Response<Body>, options: &HttpServiceOptions) -> Response<Body> {
        if let Some(error) = response.extensions().get::<RenderedError>() {
            options.metrics.error_code(&error.code, error.category.as_str());
        }
        let status = response.status().as_u16();
        let served = response.extensions().get::<Served>().cloned();
        let log = options.api_log.filter(|log| {
            served
                .as_ref()
                .is_some_and(|served| !(served.0.health_check && log.omit_health_checks))
        });
        let name = response.extensions().get::<CallName>().cloned();
        let metrics = options.metrics.clone();
        let finish = move |response_bytes: u64| {
            let elapsed = self.began.elapsed();
            metrics.http_server_request(&HttpServerRequest {
                method: self.method.as_str(),
                path: &self.path,
                status,
                request_bytes: self.request_bytes,
                response_bytes,
                elapsed,
            });
            if let (Some(log), Some(served)) = (log, &served) {
                let name = name.as_ref().map_or(served.0.name, |name| name.0.as_str());
                self.log(log, name, status, response_bytes, elapsed);
            }
        };
        match response.body().size_hint().exact() {
            Some(size) => {
                finish(size);
                response
            }
            None => response.map(|body| {
                Body::boxed(Counted {
                    body,
                    size: 0,
                    finish: std::sync::Mutex::new(Some(Box::new(finish))),
                })
            }),
        }
    }

    fn log(&self, log: ApiLogOptions, name: &str, status: u16, size: u64, elapsed: Duration) {
        let method = if log.obfuscate_urls {
            name.to_owned()
        } else {
            format!("{} {}", self.method, self.path)
        };
        let duration = elapsed.as_millis();
        match self
            .user_agent
            .as_ref()
            .and_then(|value| value.to_str().ok())
            .filter(|agent| !agent.is_empty())
        {
            Some(useragent) => tracing::info!(
                target: "dapr.runtime.http-info",
                code = status, duration, method, size, useragent,
                "HTTP API Called"
            ),
            None => tracing::info!(
                target: "dapr.runtime.http-info",
                code = status, duration, method, size,
                "HTTP API Called"
            ),
        }
    }
}

type Finish = Box<dyn FnOnce(u64) + Send>;

/// A streaming body that counts its bytes and reports when it ends or is dropped.
struct Counted {
    body: Body,
    size: u64,
    /// In a mutex only to be `Sync`; there is never more than one user.
    finish: std::sync::Mutex<Option<Finish>>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.size += data.len() as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Ok(finish) = self.finish.get_mut()
            && let Some(finish) = finish.take()
        {
            finish(self.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use outrigger_sidecar_api::{ApiError, Group, handler};

    async fn echo(_: Arc<()>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let body = request.bytes().await?;
        let mut response = Response::new(Body::whole(body));
        response
            .headers_mut()
            .insert("x-key", request.param("key").parse().unwrap());
        response
            .headers_mut()
            .insert("x-token", request.header("dapr-api-token").parse().unwrap());
        Ok(response)
    }

    fn service(options: HttpServiceOptions) -> HttpService {
        let group = Group {
            name: "state",
            version: "v1",
        };
        let methods: &'static [Method] = &[Method::GET, Method::POST];
        HttpService::new(
            [
                Endpoint::new(
                    methods,
                    "v1.0",
                    "state/{store}/{key}",
                    group,
                    "GetState",
                    handler(&Arc::new(()), echo),
                ),
                Endpoint::new(
                    methods,
                    "v1.0",
                    "healthz",
                    group,
                    "Health",
                    handler(&Arc::new(()), echo),
                ),
            ],
            options,
        )
    }

    async fn call(
        options: HttpServiceOptions,
        request: Request<Body>,
    ) -> (StatusCode, http::HeaderMap, String) {
        let (head, body) = service(options).serve(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (
            head.status,
            head.headers,
            String::from_utf8_lossy(&body).into_owned(),
        )
    }

    fn get(path: &str) -> Request<Body> {
        Request::builder().uri(path).body(Body::Empty).unwrap()
    }

    #[tokio::test]
    async fn parameters_are_unescaped_after_routing() {
        let (status, headers, _) = call(HttpServiceOptions::default(), get("/v1.0//state/s/a%2Fb+c/")).await;
        assert_eq!(
            (status, headers["x-key"].as_bytes()),
            (StatusCode::OK, &b"a/b c"[..])
        );
        let (status, _, body) = call(HttpServiceOptions::default(), get("/v1.0/state/s/a%zz")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(
            body,
            "failed to unescape request parameter \"key\". Error: invalid URL escape \"%zz\"\n"
        );
    }

    #[tokio::test]
    async fn the_token_guards_all_but_the_exact_health_paths() {
        let options = || HttpServiceOptions {
            api_token: Some("secret".into()),
            ..Default::default()
        };
        assert_eq!(
            call(options(), get("/v1.0/state/s/healthz")).await.0,
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(call(options(), get("/v1.0/healthz")).await.0, StatusCode::OK);
        let mut request = get("/v1.0/state/s/k");
        request
            .headers_mut()
            .insert("dapr-api-token", "secret".parse().unwrap());
        let (status, headers, _) = call(options(), request).await;
        assert_eq!(
            (status, headers["x-token"].as_bytes()),
            (StatusCode::OK, &b""[..])
        );
    }

    #[tokio::test]
    async fn a_body_over_the_bound_is_refused() {
        let options = HttpServiceOptions {
            max_body_size: Some(4),
            ..Default::default()
        };
        let request = Request::builder()
            .method("POST")
            .uri("/v1.0/state/s/k")
            .body(Body::whole("hello"))
            .unwrap();
        let (status, _, body) = call(options, request).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(body.contains("ERR_BODY_READ"), "{body}");
    }
}
