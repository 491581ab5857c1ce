//! Endpoints as data.

use std::{fmt, future::Future, sync::Arc};

use futures::future::BoxFuture;
use http::{Method, Response};
use outrigger_middleware::Body;

use crate::{ApiError, ApiRequest};

/// An extension of requests whose calls are logged under obfuscated addresses: an endpoint whose name does not say
/// enough then gives a [`CallName`] to its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantsCallName;

/// How an API log with obfuscated addresses names a call (`InvokeService/orders`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallName(pub String);

/// The group of an endpoint, for API allow and deny lists (wire.md §14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// `state`, `publish`, …
    pub name: &'static str,
    /// `v1`, `v1alpha1`, …
    pub version: &'static str,
}

/// One endpoint of the HTTP API.
#[derive(Clone)]
pub struct Endpoint {
    /// The methods; empty means any.
    pub methods: &'static [Method],
    /// `v1.0`, `v1.0-alpha1`, …
    pub version: &'static str,
    /// The path below the version: literal segments, `{name}` for one segment, a last `*` for the rest (may be empty).
    pub route: &'static str,
    /// Its group.
    pub group: Group,
    /// Its name in logs and metrics (`GetState`).
    pub name: &'static str,
    /// Served whatever the allow and deny lists say.
    pub always_allowed: bool,
    /// A health check: left out of API logs when asked for.
    pub health_check: bool,
    /// Also serves what no route matches.
    pub fallback: bool,
    /// Also served on the public port.
    pub public: bool,
    /// What it does.
    pub handler: Arc<dyn EndpointHandler>,
}

impl Endpoint {
    /// An endpoint with the usual settings.
    #[must_use]
    pub fn new(
        methods: &'static [Method],
        version: &'static str,
        route: &'static str,
        group: Group,
        name: &'static str,
        handler: Arc<dyn EndpointHandler>,
    ) -> Self {
        Self {
            methods,
            version,
            route,
            group,
            name,
            always_allowed: false,
            health_check: false,
            fallback: false,
            public: false,
            handler,
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} /{}/{} ({})",
            self.methods, self.version, self.route, self.name
        )
    }
}

/// Serves one endpoint. Errors are rendered by the server.
pub trait EndpointHandler: Send + Sync + 'static {
    /// Serves one request.
    fn handle(&self, request: ApiRequest) -> BoxFuture<'static, Result<Response<Body>, ApiError>>;
}

struct FnHandler<F>(F);

impl<F, Fut> EndpointHandler for FnHandler<F>
where
    F: Fn(ApiRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<Body>, ApiError>> + Send + 'static,
{
    fn handle(&self, request: ApiRequest) -> BoxFuture<'static, Result<Response<Body>, ApiError>> {
        Box::pin((self.0)(request))
    }
}

/// Makes a handler from an async function of a service: `handler(&service, StateService::get)`.
pub fn handler<S, F, Fut>(service: &Arc<S>, function: F) -> Arc<dyn EndpointHandler>
where
    S: Send + Sync + 'static,
    F: Fn(Arc<S>, ApiRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<Body>, ApiError>> + Send + 'static,
{
    let service = Arc::clone(service);
    Arc::new(FnHandler(move |request| function(Arc::clone(&service), request)))
}
