//! Requests to Vault: names through our own resolver, a deadline, bounded bodies, redirects to the active node.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use hickory_resolver::{TokioResolver, config::ResolverConfig, net::runtime::TokioRuntimeProvider};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header::LOCATION};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use outrigger_component::{Error, ErrorKind, SecretString};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tower_service::Service;

/// For one request, redirects included.
const DEADLINE: Duration = Duration::from_secs(30);
/// Idle connections are kept this long.
const IDLE: Duration = Duration::from_secs(90);
/// Larger answers are refused: Vault itself stores no secret above a mebibyte.
const MAX_BODY: usize = 16 << 20;
/// A standby node sends to the active one; more hops than this are a ring.
const REDIRECTS: usize = 5;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A client of one Vault.
#[derive(Debug, Clone)]
pub(super) struct Client(legacy::Client<HttpsConnector<HttpConnector<Dns>>, Full<Bytes>>);

/// What Vault answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Client {
    /// A client that speaks `http` in the clear and `https` as configured.
    pub(super) fn new(tls: ClientConfig, server_name: Option<&str>) -> Result<Self, Error> {
        let mut http = HttpConnector::new_with_resolver(Dns::open()?);
        http.enforce_http(false);
        http.set_nodelay(true);
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let builder = match server_name {
            Some(name) => {
                let name = ServerName::try_from(name.to_owned())
                    .map_err(|error| Error::configuration("tlsServerName is no name").with_source(error))?;
                builder.with_server_name_resolver(FixedServerNameResolver::new(name))
            }
            None => builder,
        };
        let connector = builder.enable_all_versions().wrap_connector(http);
        Ok(Self(
            legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .build(connector),
        ))
    }

    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// `Timeout`, `Unavailable`, `Exhausted` when the answer is too large; with upstream's words before the cause.
    pub(super) async fn call(
        &self,
        method: &Method,
        address: &str,
        token: &SecretString,
        body: Bytes,
    ) -> Result<Answer, Error> {
        tokio::time::timeout(DEADLINE, self.follow(method, address, token, body))
            .await
            .map_err(|_| {
                Error::new(ErrorKind::Timeout, "couldn't get secret").with_source("vault does not answer")
            })?
    }

    async fn follow(
        &self,
        method: &Method,
        address: &str,
        token: &SecretString,
        body: Bytes,
    ) -> Result<Answer, Error> {
        let unavailable = |error: BoxError| Error::unavailable("couldn't get secret").with_source(error);
        let malformed =
            |error: BoxError| Error::configuration("couldn't generate request").with_source(error);
        let mut uri: Uri = address
            .parse()
            .map_err(|error: http::uri::InvalidUri| malformed(error.into()))?;
        let mut secret = HeaderValue::from_str(token.expose())
            .map_err(|_| Error::configuration("the vault token has characters that no header can carry"))?;
        secret.set_sensitive(true);
        for _ in 0..=REDIRECTS {
            let request = Request::builder()
                .method(method)
                .uri(&uri)
                .header("X-Vault-Token", &secret)
                .header("X-Vault-Request", "true")
                .body(Full::new(body.clone()))
                .map_err(|error| malformed(error.into()))?;
            let response = self
                .0
                .request(request)
                .await
                .map_err(|error| unavailable(error.into()))?;
            match redirect(&uri, &response) {
                Some(next) => uri = next,
                None => return answer(response).await,
            }
        }
        Err(unavailable("stopped after too many redirects".into()))
    }
}

/// Where a redirect leads; never from `https` to `http`, which would show the token.
fn redirect<B>(from: &Uri, response: &Response<B>) -> Option<Uri> {
    if !matches!(response.status().as_u16(), 301 | 302 | 307 | 308) {
        return None;
    }
    let to: Uri = response.headers().get(LOCATION)?.to_str().ok()?.parse().ok()?;
    let mut parts = to.into_parts();
    if parts.scheme.is_none() || parts.authority.is_none() {
        parts.scheme = from.scheme().cloned();
        parts.authority = from.authority().cloned();
    }
    let to = Uri::from_parts(parts).ok()?;
    (from.scheme_str() != Some("https") || to.scheme_str() == Some("https")).then_some(to)
}

async fn answer(response: Response<hyper::body::Incoming>) -> Result<Answer, Error> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY)
        .collect()
        .await
        .map_err(|error| {
            let kind = if error.is::<http_body_util::LengthLimitError>() {
                ErrorKind::Exhausted
            } else {
                ErrorKind::Unavailable
            };
            Error::new(kind, "couldn't read response").with_source(error)
        })?
        .to_bytes();
    Ok(Answer { status, body })
}

/// Resolves names by the system's configuration without its C library (design D10).
#[derive(Debug, Clone)]
struct Dns(Arc<TokioResolver>);

impl Dns {
    fn open() -> Result<Self, Error> {
        // Without `/etc/resolv.conf` there are still addresses and `/etc/hosts`.
        let builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
            TokioResolver::builder_with_config(
                ResolverConfig::from_parts(None, Vec::new(), Vec::new()),
                TokioRuntimeProvider::default(),
            )
        });
        let resolver = builder.build().map_err(|error| {
            Error::unavailable("cannot read the system's name resolution").with_source(error)
        })?;
        Ok(Self(Arc::new(resolver)))
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
            let addresses: Vec<_> = found.iter().map(|address| SocketAddr::new(address, 0)).collect();
            Ok(addresses.into_iter())
        })
    }
}
