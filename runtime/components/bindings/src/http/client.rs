//! The HTTP client: names through our own resolver, connections in a pool, a deadline for making one.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use hickory_resolver::{TokioResolver, config::ResolverConfig, net::runtime::TokioRuntimeProvider};
use http::Uri;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use outrigger_component::Error;
use rustls::ClientConfig;
use tower_service::Service;

/// How long reaching a host may take (upstream `bindings/http`: 15 s for the connection, 15 s for TLS).
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections are kept this long, so many per host (Go's defaults; more than its two per host, because an
/// endpoint is one host).
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
const MAX_IDLE: usize = 32;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A client with its pool.
pub(super) type Client = legacy::Client<Deadline<HttpsConnector<HttpConnector<Dns>>>, Full<Bytes>>;

/// A client that speaks `http` in the clear and `https` as configured.
pub(super) fn new(tls: ClientConfig, dns: Dns) -> Client {
    let mut http = HttpConnector::new_with_resolver(dns);
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(DIAL_TIMEOUT));
    http.set_keepalive(Some(DIAL_TIMEOUT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(http);
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE)
        // As Go writes them: some servers compare header names with case.
        .http1_title_case_headers(true)
        .build(Deadline(connector))
}

/// Resolves names by the system's configuration without its C library (design D10).
#[derive(Debug, Clone)]
pub(super) struct Dns(Arc<TokioResolver>);

impl Dns {
    pub(super) fn open() -> Result<Self, Error> {
        let failed =
            |error| Error::unavailable("cannot read the system's name resolution").with_source(error);
        // Without `/etc/resolv.conf` there are still addresses and `/etc/hosts`.
        let builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
            TokioResolver::builder_with_config(
                ResolverConfig::from_parts(None, Vec::new(), Vec::new()),
                TokioRuntimeProvider::default(),
            )
        });
        Ok(Self(Arc::new(builder.build().map_err(failed)?)))
    }
}

impl Service<Name> for Dns {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = Arc::clone(&self.0);
        Box::pin(async move {
            let found = resolver.lookup_ip(name.as_str()).await?;
            Ok(found
                .iter()
                .map(|address| SocketAddr::new(address, 0))
                .collect::<Vec<_>>()
                .into_iter())
        })
    }
}

/// A connector that gives up in time, TLS included.
#[derive(Debug, Clone)]
pub(super) struct Deadline<C>(C);

impl<C> Service<Uri> for Deadline<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<C::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            tokio::time::timeout(CONNECT_TIMEOUT, connecting)
                .await?
                .map_err(Into::into)
        })
    }
}
