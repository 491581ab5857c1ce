//! The HTTP client under the exporters.

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};

use super::{ExportError, ExporterError};

/// The most of an answer that is read; collectors answer with a few bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How long an unused connection is kept; longer than the pause between batches.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

type Resolution = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Finds the addresses of a host name (the ports are ignored); injected, because a static binary has no
/// `getaddrinfo` (design D10).
#[derive(Clone)]
pub struct Resolver(Arc<dyn Fn(String) -> Resolution + Send + Sync>);

impl Resolver {
    /// From a function of the host name.
    pub fn new<F>(resolve: impl Fn(String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Self(Arc::new(move |host| Box::pin(resolve(host))))
    }

    /// The operating system's.
    fn system() -> Self {
        Self::new(|host: String| async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl tower_service::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolution = (self.0)(name.as_str().to_owned());
        Box::pin(async move { Ok(resolution.await?.into_iter()) })
    }
}

type Plain = Client<HttpConnector<Resolver>, Full<Bytes>>;
type Tls = Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// A client of one collector.
pub(crate) struct Transport {
    client: Either,
    timeout: Duration,
}

enum Either {
    Plain(Plain),
    Tls(Tls),
}

/// What is needed of an answer.
pub(crate) struct Answer {
    pub(crate) head: http::response::Parts,
    pub(crate) trailers: Option<http::HeaderMap>,
    pub(crate) body: Bytes,
}

impl Transport {
    /// A client for `http` or `https`; `http2` speaks HTTP/2 only, without negotiation.
    pub(crate) fn new(
        is_secure: bool,
        http2: bool,
        resolver: Option<Resolver>,
        timeout: Duration,
    ) -> Result<Self, ExporterError> {
        let mut tcp = HttpConnector::new_with_resolver(resolver.unwrap_or_else(Resolver::system));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .http2_only(http2)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(IDLE_TIMEOUT);
        let client = if is_secure {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| ExporterError::Tls(io::Error::other(error)))?
                .with_native_roots()
                .map_err(ExporterError::Tls)?
                .with_no_client_auth();
            let connector = hyper_rustls::HttpsConnectorBuilder::new()
                .with_tls_config(config)
                .https_only();
            let connector = if http2 {
                connector.enable_http2().wrap_connector(tcp)
            } else {
                connector.enable_http1().wrap_connector(tcp)
            };
            Either::Tls(builder.build(connector))
        } else {
            Either::Plain(builder.build(tcp))
        };
        Ok(Self { client, timeout })
    }

    /// Sends a request and reads its answer to the end, within the time limit.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, ExportError> {
        let exchange = async {
            let response = match &self.client {
                Either::Plain(client) => client.request(request).await,
                Either::Tls(client) => client.request(request).await,
            };
            let response: Response<_> = response.map_err(|error| ExportError::retryable(chain(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(|error| ExportError::retryable(chain(&*error)))?;
            Ok(Answer {
                head,
                trailers: body.trailers().cloned(),
                body: body.to_bytes(),
            })
        };
        tokio::time::timeout(self.timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(ExportError::retryable("the collector did not answer in time")))
    }
}

/// An error and its causes on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
