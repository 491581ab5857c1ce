//! Fetching, redirect by redirect.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
};
use tokio_rustls::TlsConnector;

use crate::{AllowedHosts, FetchError, Resolve, SystemResolver, Target};

/// Addresses of one host that are tried.
const MOST_ADDRESSES: usize = 4;

/// What a server asks for before it shows a document. Never printed.
#[derive(Clone)]
pub struct Credential(HeaderValue);

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

impl Credential {
    /// A name and a password; `None` if the name has a colon.
    pub fn basic(username: &str, password: &str) -> Option<Self> {
        let pair = format!("{username}:{password}");
        (!username.contains(':'))
            .then(|| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
            .and_then(|text| Self::new(&text))
    }

    /// A token; `None` if it has characters that no header can have.
    pub fn bearer(token: &str) -> Option<Self> {
        Self::new(&format!("Bearer {token}"))
    }

    fn new(text: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(text).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }
}

/// What one fetch may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Hosts that may be asked wherever they are.
    pub allowed_hosts: AllowedHosts,
    /// Bytes of a document.
    pub max_bytes: usize,
    /// From the first name to the last byte.
    pub deadline: Duration,
    /// Redirects in a row.
    pub max_redirects: usize,
}

impl Default for Limits {
    /// No inner host, 1 MiB, ten seconds, five redirects.
    fn default() -> Self {
        Self {
            allowed_hosts: AllowedHosts::default(),
            max_bytes: 1 << 20,
            deadline: Duration::from_secs(10),
            max_redirects: 5,
        }
    }
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// All of it.
    pub bytes: Bytes,
    /// Where it was in the end.
    pub url: String,
    /// `Content-Type`, as the server says.
    pub content_type: Option<String>,
}

/// Fetches documents. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher<R = SystemResolver> {
    limits: Arc<Limits>,
    resolver: Arc<R>,
    tls: TlsConnector,
}

impl<R> fmt::Debug for Fetcher<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Fetcher {
    /// With the system's resolver and certificates.
    ///
    /// # Errors
    /// What rustls says of its own settings.
    pub fn new(limits: Limits) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for certificate in rustls_native_certs::load_native_certs().certs {
            // One that cannot be read is one less to trust.
            let _ = roots.add(certificate);
        }
        Self::with(limits, SystemResolver, roots)
    }
}

impl<R: Resolve> Fetcher<R> {
    /// With a resolver and the certificates to trust.
    ///
    /// # Errors
    /// What rustls says of its own settings.
    pub fn with(limits: Limits, resolver: R, roots: RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            limits: Arc::new(limits),
            resolver: Arc::new(resolver),
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }

    /// Fetches a document with `GET`. Dropping the future closes the connection.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn get(&self, url: &str) -> Result<Fetched, FetchError> {
        self.get_as(url, None).await
    }

    /// Fetches a document with a credential, which is shown to the host of `url` and to no other that it sends on to.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn get_as(&self, url: &str, credential: Option<&Credential>) -> Result<Fetched, FetchError> {
        let deadline = self.limits.deadline;
        tokio::time::timeout(deadline, self.follow(url, credential))
            .await
            .map_err(|_| FetchError::Timeout(deadline))?
    }

    async fn follow(&self, url: &str, credential: Option<&Credential>) -> Result<Fetched, FetchError> {
        let mut target = Target::parse(url, &self.limits.allowed_hosts)?;
        let origin = target.url().origin();
        for _ in 0..=self.limits.max_redirects {
            let credential = credential.filter(|_| target.url().origin() == origin);
            let asked = self.ask(&target, credential).await?;
            let status = asked.response.status();
            if let Some(location) = location(&asked.response) {
                target = target.redirected(&location, &self.limits.allowed_hosts)?;
                continue;
            }
            if status != StatusCode::OK {
                return Err(FetchError::Status(status));
            }
            return self.read(&target, asked).await;
        }
        Err(FetchError::Redirects(self.limits.max_redirects))
    }

    /// The addresses of a host, each of them checked.
    async fn addresses(&self, target: &Target) -> Result<Vec<IpAddr>, FetchError> {
        if let Some(address) = target.address() {
            return Ok(vec![address]);
        }
        let found = self.resolver.resolve(target.host()).await;
        let found = found.unwrap_or_default();
        for address in &found {
            target.check(*address)?;
        }
        if found.is_empty() {
            return Err(FetchError::Unknown(target.host().to_owned()));
        }
        Ok(found)
    }

    async fn ask(&self, target: &Target, credential: Option<&Credential>) -> Result<Asked, FetchError> {
        let mut failure: Box<dyn std::error::Error + Send + Sync> = "no address".into();
        for address in self.addresses(target).await?.into_iter().take(MOST_ADDRESSES) {
            let connected = TcpStream::connect(SocketAddr::new(address, target.port())).await;
            let asked = match connected {
                Err(error) => Err(error.into()),
                Ok(stream) if target.is_https() => self.encrypted(target, credential, stream).await,
                Ok(stream) => request(target, credential, stream).await,
            };
            match asked {
                Ok(asked) => return Ok(asked),
                Err(error) => failure = error,
            }
        }
        Err(unreachable(target, failure))
    }

    async fn encrypted(
        &self,
        target: &Target,
        credential: Option<&Credential>,
        stream: TcpStream,
    ) -> Result<Asked, Failure> {
        let name = match target.address() {
            Some(address) => ServerName::IpAddress(address.into()),
            None => ServerName::try_from(target.host().to_owned())?,
        };
        request(target, credential, self.tls.connect(name, stream).await?).await
    }

    async fn read(&self, target: &Target, asked: Asked) -> Result<Fetched, FetchError> {
        let limit = self.limits.max_bytes;
        let (head, mut body) = asked.response.into_parts();
        let declared = hyper::body::Body::size_hint(&body).lower();
        if usize::try_from(declared).unwrap_or(usize::MAX) > limit {
            return Err(FetchError::TooLarge(limit));
        }
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| unreachable(target, error.into()))?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > limit {
                    return Err(FetchError::TooLarge(limit));
                }
                bytes.extend_from_slice(data);
            }
        }
        let content_type = head.headers.get(header::CONTENT_TYPE);
        Ok(Fetched {
            bytes: bytes.freeze(),
            url: target.url().to_string(),
            content_type: content_type.and_then(|value| Some(value.to_str().ok()?.to_owned())),
        })
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An answer and the task of its connection, which ends with it.
struct Asked {
    response: Response<Incoming>,
    _connection: Connection,
}

struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn request<S>(target: &Target, credential: Option<&Credential>, stream: S) -> Result<Asked, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(64 * 1024)
        .handshake(TokioIo::new(stream))
        .await?;
    let connection = tokio::spawn(async move {
        // What breaks off is told to who reads.
        let _ = connection.await;
    });
    let connection = Connection(connection.abort_handle());
    let url = target.url();
    let mut path = url.path().to_owned();
    if let Some(query) = url.query() {
        path.push('?');
        path.push_str(query);
    }
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut request = Request::get(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "*/*")
        .header(
            header::USER_AGENT,
            concat!("outrigger/", env!("CARGO_PKG_VERSION")),
        )
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    if let Some(Credential(value)) = credential {
        request.headers_mut().insert(header::AUTHORIZATION, value.clone());
    }
    let response = sender.send_request(request).await?;
    Ok(Asked {
        response,
        _connection: connection,
    })
}

fn unreachable(target: &Target, source: Failure) -> FetchError {
    FetchError::Unreachable {
        host: target.host().to_owned(),
        source,
    }
}

/// Where an answer sends on to.
fn location(response: &Response<Incoming>) -> Option<String> {
    matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
        .then(|| response.headers().get(header::LOCATION))
        .flatten()
        .and_then(|value| Some(value.to_str().ok()?.to_owned()))
}
