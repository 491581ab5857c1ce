//! How a connection is made: names through our own resolver, a deadline for TCP and TLS together.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use hickory_resolver::{TokioResolver, config::ResolverConfig, net::runtime::TokioRuntimeProvider};
use http::Uri;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tower_service::Service;

/// How long reaching a host may take (Go's clients in upstream components: 15 s for the connection, 15 s for TLS).
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections are kept this long (Go's default).
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// `http` in the clear, `https` as configured.
pub type Connector = Deadline<HttpsConnector<HttpConnector<Dns>>>;

/// A pooling client over [`Connector`].
pub type Pool<B> = legacy::Client<Connector, B>;

/// A pooling client with so many idle connections per host.
pub fn pool<B>(tls: ClientConfig, dns: Dns, max_idle: usize) -> Pool<B>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    named_pool(tls, dns, max_idle, None)
}

/// As [`pool`], asking servers for this name whatever the address says.
pub(crate) fn named_pool<B>(
    tls: ClientConfig,
    dns: Dns,
    max_idle: usize,
    server_name: Option<ServerName<'static>>,
) -> Pool<B>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    let mut http = HttpConnector::new_with_resolver(dns);
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(DIAL_TIMEOUT));
    http.set_keepalive(Some(DIAL_TIMEOUT));
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let builder = match server_name {
        Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(name)),
        None => builder,
    };
    let connector = builder.enable_all_versions().wrap_connector(http);
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(max_idle)
        // As Go writes them: some servers compare header names with case.
        .http1_title_case_headers(true)
        .build(Deadline(connector))
}

/// Resolves names by the system's configuration without its C library (design D10).
#[derive(Debug, Clone)]
pub struct Dns(Arc<TokioResolver>);

impl Dns {
    /// Reads the system's configuration; without one there are still addresses and the hosts file.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn open() -> Result<Self, BoxError> {
        let builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
            TokioResolver::builder_with_config(
                ResolverConfig::from_parts(None, Vec::new(), Vec::new()),
                TokioRuntimeProvider::default(),
            )
        });
        Ok(Self(Arc::new(builder.build()?)))
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
pub struct Deadline<C>(C);

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
