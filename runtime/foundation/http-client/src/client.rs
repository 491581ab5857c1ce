//! One request, one whole answer.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use rustls_pki_types::ServerName;
use url::Url;

use crate::{
    ClientError, Proxies,
    connect::{Dns, Pool, named_pool, pool},
    tls::{TlsOptions, no_roots},
};

/// As many redirects as Go's client follows.
const MAX_REDIRECTS: usize = 10;
/// A component talks to one or two hosts.
const MAX_IDLE: usize = 4;

/// What bounds a client.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// From the first byte sent to the last received, redirects included.
    pub timeout: Duration,
    /// Bytes of an answer; a larger one is an error.
    pub max_response: usize,
    /// TLS.
    pub tls: TlsOptions,
    /// Where requests go by a proxy; none unless said otherwise.
    pub proxies: Proxies,
}

impl Default for ClientOptions {
    /// Thirty seconds, a mebibyte, the system's roots, no proxies.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            max_response: 1 << 20,
            tls: TlsOptions::default(),
            proxies: Proxies::default(),
        }
    }
}

/// A client with its pool; cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    options: ClientOptions,
    dns: Dns,
    plain: Pool<Full<Bytes>>,
    /// Made at the first `https` address.
    tls: OnceLock<Pool<Full<Bytes>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.0.options).finish()
    }
}

/// An address as it may be shown: user, password, query and fragment stay out.
fn shown(url: &Url) -> String {
    format!(
        "{}://{}{}",
        url.scheme(),
        url.host_str().unwrap_or_default(),
        url.port().map(|port| format!(":{port}")).unwrap_or_default()
    ) + url.path()
}

fn secure(options: &ClientOptions, dns: Dns) -> Result<Pool<Full<Bytes>>, ClientError> {
    let name = options
        .tls
        .server_name
        .clone()
        .map(ServerName::try_from)
        .transpose()
        .map_err(|error| ClientError::Tls(error.to_string()))?;
    named_pool(
        options.tls.config()?,
        dns,
        MAX_IDLE,
        options.proxies.clone(),
        name,
    )
}

impl Client {
    /// A client; no connection is made yet.
    ///
    /// # Errors
    /// When given certificates cannot be used, or the system's name resolution cannot.
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        let dns = Dns::open().map_err(|source| ClientError::Connection {
            url: "the system's name resolution".to_owned(),
            source,
        })?;
        let tls = OnceLock::new();
        if options.tls.roots.is_some() || options.tls.identity.is_some() {
            // Says at once whether what was given can be used.
            let _ = tls.set(secure(&options, dns.clone())?);
        }
        Ok(Self(Arc::new(Inner {
            plain: pool(no_roots()?, dns.clone(), MAX_IDLE, options.proxies.clone())?,
            options,
            dns,
            tls,
        })))
    }

    fn pool(&self, url: &Url) -> Result<&Pool<Full<Bytes>>, ClientError> {
        if url.scheme() != "https" {
            return Ok(&self.0.plain);
        }
        if let Some(pool) = self.0.tls.get() {
            return Ok(pool);
        }
        let made = secure(&self.0.options, self.0.dns.clone())?;
        Ok(self.0.tls.get_or_init(|| made))
    }

    /// Reads an address that this client can call.
    ///
    /// # Errors
    /// When it is not absolute or neither `http` nor `https`.
    pub fn parse(url: &str) -> Result<Url, ClientError> {
        let parsed = Url::parse(url).map_err(|error| ClientError::Url(error.to_string()))?;
        if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() {
            Ok(parsed)
        } else {
            Err(ClientError::Url(
                "it must begin with http:// or https://".to_owned(),
            ))
        }
    }

    /// Gets a document: follows redirects, wants status 200.
    ///
    /// # Errors
    /// When no such answer comes in time. A redirect from `https` to `http` is refused.
    pub async fn get(&self, url: &Url) -> Result<Response<Bytes>, ClientError> {
        self.within(url, self.0.options.timeout, async {
            let mut at = url.clone();
            for _ in 0..=MAX_REDIRECTS {
                let request = Request::get(at.as_str()).body(Bytes::new())?;
                let response = self.exchange(&at, request).await?;
                match response.status() {
                    StatusCode::OK => return Ok(response),
                    StatusCode::MOVED_PERMANENTLY
                    | StatusCode::FOUND
                    | StatusCode::SEE_OTHER
                    | StatusCode::TEMPORARY_REDIRECT
                    | StatusCode::PERMANENT_REDIRECT => at = redirected(&at, &response)?,
                    status => {
                        return Err(ClientError::Status {
                            url: shown(&at),
                            status: status.as_u16(),
                        });
                    }
                }
            }
            Err(ClientError::Redirect {
                url: shown(url),
                reason: "without end",
            })
        })
        .await
    }

    /// Sends a request as it is and gives the answer as it is, whatever its status; nothing is followed.
    ///
    /// # Errors
    /// When no answer comes in time or it is too large.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ClientError> {
        self.send_within(request, self.0.options.timeout).await
    }

    /// As [`Client::send`], with a deadline of its own: for calls that wait on purpose.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_within(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Response<Bytes>, ClientError> {
        let url = Self::parse(&request.uri().to_string())?;
        self.within(&url, timeout, self.exchange(&url, request)).await
    }

    async fn within<T>(
        &self,
        url: &Url,
        timeout: Duration,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
            Err(ClientError::Timeout {
                url: shown(url),
                seconds: timeout.as_secs_f64(),
            })
        })
    }

    async fn exchange(&self, url: &Url, request: Request<Bytes>) -> Result<Response<Bytes>, ClientError> {
        let failed = |source| ClientError::Connection {
            url: shown(url),
            source,
        };
        let limit = self.0.options.max_response;
        let (mut head, body) = request.into_parts();
        if head.method != Method::GET && !head.headers.contains_key(header::CONTENT_LENGTH) {
            head.headers.insert(header::CONTENT_LENGTH, body.len().into());
        }
        let request = Request::from_parts(head, Full::new(body));
        let response = self
            .pool(url)?
            .request(request)
            .await
            .map_err(|error| failed(error.into()))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, limit).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                ClientError::TooLarge {
                    url: shown(url),
                    limit,
                }
            } else {
                failed(error)
            }
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

fn redirected(at: &Url, response: &Response<Bytes>) -> Result<Url, ClientError> {
    let refused = |reason| ClientError::Redirect {
        url: shown(at),
        reason,
    };
    let location = response
        .headers()
        .get(header::LOCATION)
        .and_then(|location| location.to_str().ok())
        .ok_or_else(|| refused("without a location"))?;
    let next = at
        .join(location)
        .map_err(|_| refused("to an address that cannot be read"))?;
    match (at.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => Ok(next),
        ("https", "http") => Err(refused("from https to http")),
        _ => Err(refused("to another scheme")),
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing};

    use super::*;

    async fn serve(router: Router) -> Url {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Url::parse(&url).unwrap()
    }

    fn client(timeout: Duration) -> Client {
        Client::new(ClientOptions {
            timeout,
            max_response: 16,
            ..ClientOptions::default()
        })
        .unwrap()
    }

    #[tokio::test]
    async fn an_answer_has_a_bound_a_deadline_and_a_last_redirect() {
        let router = Router::new()
            .route("/ok", routing::get(|| async { "hello" }))
            .route("/long", routing::get(|| async { "x".repeat(17) }))
            .route("/silent", routing::get(std::future::pending::<()>))
            .route(
                "/on",
                routing::get(|| async { axum::response::Redirect::temporary("ok") }),
            )
            .route(
                "/loop",
                routing::get(|| async { axum::response::Redirect::to("loop") }),
            )
            .route(
                "/away",
                routing::get(|| async { axum::response::Redirect::to("ftp://h/") }),
            );
        let base = serve(router).await;
        let client = client(Duration::from_secs(20));
        let get = async |path: &str| client.get(&base.join(path).unwrap()).await;
        assert_eq!(get("ok").await.unwrap().body(), "hello");
        assert_eq!(get("on").await.unwrap().body(), "hello");
        assert!(matches!(
            get("long").await,
            Err(ClientError::TooLarge { limit: 16, .. })
        ));
        assert!(matches!(
            get("none").await,
            Err(ClientError::Status { status: 404, .. })
        ));
        assert!(matches!(get("loop").await, Err(ClientError::Redirect { .. })));
        assert!(matches!(get("away").await, Err(ClientError::Redirect { .. })));
        let silent = Request::get(base.join("silent").unwrap().as_str())
            .body(Bytes::new())
            .unwrap();
        let error = client
            .send_within(silent, Duration::from_millis(50))
            .await
            .unwrap_err();
        assert!(matches!(error, ClientError::Timeout { .. }));
    }

    #[test]
    fn a_redirect_never_leaves_tls() {
        let at = Url::parse("https://h/a").unwrap();
        let to = |location: &str| {
            redirected(
                &at,
                &Response::builder()
                    .header("location", location)
                    .body(Bytes::new())
                    .unwrap(),
            )
        };
        assert!(to("http://h/a").is_err());
        assert_eq!(to("/b").unwrap().as_str(), "https://h/b");
    }

    #[test]
    fn what_is_shown_has_no_secret() {
        let url = Client::parse("http://me:secret@h:8/p?token=secret#secret").unwrap();
        assert_eq!(shown(&url), "http://h:8/p");
        assert!(Client::parse("file:///etc/passwd").is_err());
        assert!(Client::parse("h/p").is_err());
    }
}
