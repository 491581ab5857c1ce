//! How a connection is made: names through our own resolver, by the environment's proxies, a deadline for TCP and TLS
//! together.

mod dial;

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use hickory_resolver::{TokioResolver, config::ResolverConfig, net::runtime::TokioRuntimeProvider};
use http::{Request, Uri, header};
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

use self::dial::Dialer;
use crate::{ClientError, Proxies};

/// How long reaching a host may take (Go's clients in upstream components: 15 s for the connection, 15 s for TLS).
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections are kept this long (Go's default).
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// `http` in the clear, `https` as configured.
type Connector = Deadline<HttpsConnector<Dialer>>;

/// A pooling client that goes by the environment's proxies; cheap to clone.
#[derive(Clone, Debug)]
pub struct Pool<B> {
    client: legacy::Client<Connector, B>,
    proxies: Proxies,
}

impl<B> Pool<B>
where
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Sends a request. Cancel-safe: dropping the future gives the request up.
    pub fn request(&self, mut request: Request<B>) -> legacy::ResponseFuture {
        if let Some(value) = self.proxies.authorization(request.uri()) {
            let value = value.clone();
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, value);
        }
        self.client.request(request)
    }
}

/// A pooling client with so many idle connections per host.
///
/// # Errors
/// When a proxy is reached by TLS and that cannot be set up.
pub fn pool<B>(tls: ClientConfig, dns: Dns, max_idle: usize, proxies: Proxies) -> Result<Pool<B>, ClientError>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    named_pool(tls, dns, max_idle, proxies, None)
}

/// As [`pool`], asking servers for this name whatever the address says.
pub(crate) fn named_pool<B>(
    tls: ClientConfig,
    dns: Dns,
    max_idle: usize,
    proxies: Proxies,
    server_name: Option<ServerName<'static>>,
) -> Result<Pool<B>, ClientError>
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
    let dialer = Dialer::new(http, proxies.clone())?;
    let connector = builder.enable_all_versions().wrap_connector(dialer);
    let client = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(max_idle)
        // As Go writes them: some servers compare header names with case.
        .http1_title_case_headers(true)
        .build(Deadline(connector));
    Ok(Pool { client, proxies })
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
struct Deadline<C>(C);

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
