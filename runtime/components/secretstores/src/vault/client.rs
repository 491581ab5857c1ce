//! Requests to Vault: a deadline, bounded answers, redirects to the active node.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header::LOCATION};
use outrigger_component::{Error, ErrorKind, SecretString};
use outrigger_http_client::{ClientError, ClientOptions, Proxies, TlsOptions};

use super::tls;

/// For one request, redirects included.
const DEADLINE: Duration = Duration::from_secs(30);
/// Larger answers are refused: Vault itself stores no secret above a mebibyte.
const MAX_BODY: usize = 16 << 20;
/// A standby node sends to the active one; more hops than this are a ring.
const REDIRECTS: usize = 5;

/// A client of one Vault.
#[derive(Debug, Clone)]
pub(super) struct Client(outrigger_http_client::Client);

/// What Vault answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Client {
    /// A client that speaks `http` in the clear and `https` as configured.
    pub(super) fn new(tls: TlsOptions) -> Result<Self, Error> {
        let options = ClientOptions {
            timeout: DEADLINE,
            max_response: MAX_BODY,
            tls,
            // Upstream's transport has none.
            proxies: Proxies::default(),
        };
        let client = outrigger_http_client::Client::new(options).map_err(failed)?;
        Ok(Self(client))
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
            .map_err(|_| silent())?
    }

    async fn follow(
        &self,
        method: &Method,
        address: &str,
        token: &SecretString,
        body: Bytes,
    ) -> Result<Answer, Error> {
        let mut uri: Uri = address.parse().map_err(malformed::<http::uri::InvalidUri>)?;
        let mut secret = HeaderValue::from_str(token.expose())
            .map_err(|_| Error::configuration("the vault token has characters that no header can carry"))?;
        secret.set_sensitive(true);
        for _ in 0..=REDIRECTS {
            let request = Request::builder()
                .method(method)
                .uri(&uri)
                .header("X-Vault-Token", &secret)
                .header("X-Vault-Request", "true")
                .body(body.clone())
                .map_err(malformed)?;
            let response = self.0.send(request).await.map_err(failed)?;
            match redirect(&uri, &response) {
                Some(next) => uri = next,
                None => {
                    return Ok(Answer {
                        status: response.status(),
                        body: response.into_body(),
                    });
                }
            }
        }
        Err(Error::unavailable("couldn't get secret").with_source("stopped after too many redirects"))
    }
}

fn silent() -> Error {
    Error::new(ErrorKind::Timeout, "couldn't get secret").with_source("vault does not answer")
}

fn malformed<E: std::error::Error + Send + Sync + 'static>(error: E) -> Error {
    Error::configuration("couldn't generate request").with_source(error)
}

fn failed(error: ClientError) -> Error {
    match error {
        ClientError::Timeout { .. } => silent(),
        ClientError::TooLarge { .. } => {
            Error::new(ErrorKind::Exhausted, "couldn't read response").with_source(error)
        }
        ClientError::Connection { source, .. } => {
            Error::unavailable("couldn't get secret").with_source(source)
        }
        ClientError::Tls(why) => tls::failed(why),
        ClientError::Url(_) | ClientError::Request(_) => malformed(error),
        _ => Error::unavailable("couldn't get secret").with_source(error),
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
