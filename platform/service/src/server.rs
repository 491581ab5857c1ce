//! The gRPC server of a service: its own methods behind readiness and version check, reflection and health beside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use http::{StatusCode, Uri, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use outrigger_kit::health::{Health, HealthStatus};
use outrigger_platform_wire::{API_VERSION, API_VERSION_HEADER, DESCRIPTORS, REFLECTION_BEHIND_SIDECAR};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tower_service::Service as _;

use crate::status::reasoned;

const REFLECTION_V1: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// How often the health service looks at the service's health.
const HEALTH_PERIOD: Duration = Duration::from_secs(1);
/// The head of a request over HTTP/1.1 has to come within this.
const HEADER_TIME: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether a service has recovered and takes calls.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// From now on calls are taken, or not.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether calls are taken.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The services behind the checks: calls before readiness are `UNAVAILABLE`, those of a client with another major
/// version of the contract `FAILED_PRECONDITION` with the reason `API_VERSION_MISMATCH` (E2.7).
pub fn guarded(services: Routes, readiness: &Readiness) -> Router {
    services
        .into_axum_router()
        .reset_fallback()
        .layer(from_fn_with_state(readiness.clone(), check))
}

async fn check(State(readiness): State<Readiness>, request: Request, next: Next) -> Response {
    if !readiness.is_ready() {
        return Status::unavailable("the service is not ready yet").into_http();
    }
    let version = request
        .headers()
        .get(API_VERSION_HEADER)
        .map(|version| version.to_str().unwrap_or("?"));
    match version.filter(|version| major(version) != major(API_VERSION)) {
        None => next.run(request).await,
        Some(version) => mismatch(version).into_http(),
    }
}

/// Puts a check before gRPC services: a request that does not say that it is gRPC is answered 415, as the protocol's
/// specification has it. Without that a page of any origin could call by a plain post, which browsers send without
/// asking first.
pub fn grpc_only(routes: Router) -> Router {
    routes.layer(from_fn(|request: Request, next: Next| async move {
        let kind = request.headers().get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            return next.run(request).await;
        }
        let words = "only gRPC is spoken here: content-type application/grpc";
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, words).into_response()
    }))
}

/// Puts a check before HTTP routes that are for programs: a page of another origin is refused with 403 before its
/// request does anything.
pub fn no_foreign_pages(routes: Router) -> Router {
    routes.layer(from_fn(|request: Request, next: Next| async move {
        if !request.headers().contains_key(header::ORIGIN) || is_own_page(&request) {
            return next.run(request).await;
        }
        (StatusCode::FORBIDDEN, "pages of other origins may not ask").into_response()
    }))
}

/// Whether a page asks of the host that served it.
pub fn is_own_page(request: &Request) -> bool {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let asked = text(header::HOST).or_else(|| request.uri().authority().map(http::uri::Authority::as_str));
    let page = text(header::ORIGIN).and_then(|origin| origin.parse::<Uri>().ok());
    match (asked, page.as_ref().and_then(Uri::authority)) {
        (Some(asked), Some(page)) => asked.eq_ignore_ascii_case(page.as_str()),
        _ => false,
    }
}

fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or_default()
}

fn mismatch(client: &str) -> Status {
    reasoned(
        Code::FailedPrecondition,
        "API_VERSION_MISMATCH",
        format!(
            "this service speaks version {API_VERSION} of its contract, the client {client}: use a client of the same major version"
        ),
        [("client", client.to_owned()), ("service", API_VERSION.to_owned())],
    )
}

/// Reflection over the platform's descriptors: v1, v1alpha, and v1 by the name that sidecars pass on.
///
/// # Errors
/// If the descriptors cannot be read; they are built in.
pub fn reflection(names: &[&str]) -> Result<Router, tonic_reflection::server::Error> {
    let builder = || {
        let mut builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        for name in names {
            builder = builder.with_service_name(*name);
        }
        builder
    };
    let behind_sidecar = builder().build_v1()?;
    let routes = Routes::new(builder().build_v1()?).add_service(builder().build_v1alpha()?);
    let again = post(move |mut request: Request| {
        let mut service = behind_sidecar.clone();
        async move {
            *request.uri_mut() = Uri::from_static(REFLECTION_V1);
            let Ok(answer) = service.call(request).await;
            answer
        }
    });
    Ok(routes
        .into_axum_router()
        .reset_fallback()
        .route(REFLECTION_BEHIND_SIDECAR, again))
}

/// The standard health service; it follows the service's readiness until `stop`.
pub async fn health(names: &[&str], health: Health, readiness: Readiness, stop: CancellationToken) -> Router {
    let (reporter, server) = tonic_health::server::health_reporter();
    let names: Vec<String> = names
        .iter()
        .map(|name| (*name).to_owned())
        .chain([String::new()])
        .collect();
    for name in &names {
        reporter.set_service_status(name, ServingStatus::NotServing).await;
    }
    tokio::spawn(async move {
        let mut looks = tokio::time::interval(HEALTH_PERIOD);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = stop.cancelled() => break,
            }
            let well = readiness.is_ready() && health.report(true).await.status != HealthStatus::Unhealthy;
            let status = if well {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            for name in &names {
                reporter.set_service_status(name, status).await;
            }
        }
        for name in &names {
            reporter.set_service_status(name, ServingStatus::NotServing).await;
        }
    });
    Routes::new(server).into_axum_router().reset_fallback()
}

/// What is asked of methods that there are not.
pub(crate) async fn unknown() -> Response {
    Status::unimplemented("there is no such method here").into_http()
}

/// How a connection is found to be dead whose other end went away without a word: HTTP/2 pings, and the system's own
/// probes under them for those who speak HTTP/1.1.
#[derive(Debug, Clone, Copy)]
pub struct KeepAlive {
    /// From one ping to the next.
    pub interval: Duration,
    /// The wait for a ping's answer.
    pub timeout: Duration,
}

impl Default for KeepAlive {
    /// Found within 40 seconds.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(20),
            timeout: Duration::from_secs(20),
        }
    }
}

/// Serves until `stop`; then no call is accepted, and those under way may end. HTTP/1.1 and HTTP/2 without TLS.
///
/// # Errors
/// What the listener says.
pub async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken) -> std::io::Result<()> {
    serve_with(listener, routes, stop, KeepAlive::default()).await
}

/// As [`serve`], with times of one's own.
///
/// # Errors
/// What the listener says.
pub async fn serve_with(
    listener: TcpListener,
    routes: Router,
    stop: CancellationToken,
    keep_alive: KeepAlive,
) -> std::io::Result<()> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(keep_alive.interval)
        .keep_alive_timeout(keep_alive.timeout);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME);
    let probes = TcpKeepalive::new()
        .with_time(keep_alive.interval)
        .with_interval(keep_alive.timeout / 3)
        .with_retries(3);
    let graceful = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Of one connection, or of a limit that passes; a pause keeps it from spinning.
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        // Neither option is needed to serve.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&probes);
        let service = TowerToHyperService::new(routes.clone());
        let connection = builder
            .serve_connection_with_upgrades(TokioIo::new(stream), service)
            .into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}
