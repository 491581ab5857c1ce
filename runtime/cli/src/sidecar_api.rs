//! Calls of the command line to a sidecar's HTTP API, over loopback or a socket.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// Limit of a call about the sidecar itself.
const LIMIT: Duration = Duration::from_secs(5);

/// Limit of connecting: it is this machine.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Largest answer kept in memory.
const MAX_ANSWER: usize = 64 << 20;

/// What cannot stand in a request target. A method may bring its own slashes, escapes and query.
const TARGET: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What stays as it is in one segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Where a sidecar's HTTP API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A port on loopback.
    Port(u16),
    /// A Unix domain socket.
    Socket(PathBuf),
}

impl Address {
    /// From the values of `--dapr-http-port` and `--unix-domain-socket`.
    pub(crate) fn of(http_port: u16, socket: Option<&Path>, app_id: &str) -> Self {
        match socket {
            Some(path) => Self::Socket(socket_path(path, app_id, "http")),
            None => Self::Port(http_port),
        }
    }

    /// Whether something listens there.
    pub(crate) async fn accepts(&self) -> bool {
        let connected = async {
            match self {
                Self::Port(port) => TcpStream::connect(("127.0.0.1", *port)).await.is_ok(),
                Self::Socket(path) => UnixStream::connect(path).await.is_ok(),
            }
        };
        timeout(Duration::from_secs(1), connected).await.unwrap_or(false)
    }
}

/// Name of a sidecar's socket in its folder (upstream `utils.GetSocket`).
pub(crate) fn socket_path(folder: &Path, app_id: &str, protocol: &str) -> PathBuf {
    folder.join(format!("dapr-{app_id}-{protocol}.socket"))
}

/// One part of a path, escaped.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// One sidecar's HTTP API.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SidecarApi {
    address: Address,
    token: Option<String>,
}

/// The token stays out.
impl std::fmt::Debug for SidecarApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SidecarApi")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// The part of the metadata answer that is used here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Metadata {
    /// Free attributes, set by whoever started the sidecar.
    #[serde(default)]
    pub(crate) extended: BTreeMap<String, String>,
    /// The components it has open.
    #[serde(default)]
    pub(crate) components: Vec<LoadedComponent>,
}

/// A component of a running sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct LoadedComponent {
    pub(crate) name: String,
    pub(crate) r#type: String,
    #[serde(default)]
    pub(crate) version: String,
}

/// A call; the body is empty unless set.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    /// A call of a path with its query; what cannot stand there is escaped.
    pub(crate) fn new(method: Method, path: &str) -> Self {
        Self {
            method,
            path: utf8_percent_encode(path, TARGET).to_string(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// With a body.
    pub(crate) fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static(content_type),
        );
        self.body = body.into();
        self
    }

    /// With one more header.
    pub(crate) fn header(mut self, name: header::HeaderName, value: &str) -> Result<Self> {
        let value = value
            .parse()
            .with_context(|| format!("{name} cannot be {value:?}"))?;
        self.headers.insert(name, value);
        Ok(self)
    }
}

impl SidecarApi {
    /// `token` is the sidecar's `DAPR_API_TOKEN`, if it asks for one.
    pub(crate) fn new(address: Address, token: Option<String>) -> Self {
        Self {
            address,
            token: token.filter(|token| !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic())),
        }
    }

    /// Where it is, for messages.
    pub(crate) fn place(&self) -> String {
        match &self.address {
            Address::Port(port) => format!("127.0.0.1:{port}"),
            Address::Socket(path) => path.display().to_string(),
        }
    }

    /// Reads the metadata.
    pub(crate) async fn metadata(&self) -> Result<Metadata> {
        let (status, _, body) = self.own(Call::new(Method::GET, "/v1.0/metadata")).await?;
        if status != StatusCode::OK {
            bail!("the sidecar answered {}", status.as_u16());
        }
        serde_json::from_slice(&body).context("the sidecar's metadata is not readable")
    }

    /// Sets one attribute.
    pub(crate) async fn put_metadata(&self, key: &str, value: &str) -> Result<()> {
        let call =
            Call::new(Method::PUT, &format!("/v1.0/metadata/{key}")).body("text/plain", value.to_owned());
        let (status, _, _) = self.own(call).await?;
        if !status.is_success() {
            bail!("the sidecar answered {}", status.as_u16());
        }
        Ok(())
    }

    /// Whether the sidecar says it is healthy.
    pub(crate) async fn healthy(&self) -> bool {
        let answer = self.own(Call::new(Method::GET, "/v1.0/healthz")).await;
        matches!(answer, Ok((status, _, _)) if status.is_success())
    }

    /// A call about the sidecar itself, which answers at once.
    async fn own(&self, call: Call) -> Result<(StatusCode, HeaderMap, Bytes)> {
        timeout(LIMIT, self.answer(call))
            .await
            .context("the sidecar does not answer")?
    }

    /// A call with its whole answer.
    ///
    /// # Errors
    /// When the sidecar cannot be reached, or the answer is above 64 MiB.
    pub(crate) async fn answer(&self, call: Call) -> Result<(StatusCode, HeaderMap, Bytes)> {
        let (head, body) = self.send(call).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
        Ok((head.status, head.headers, body.to_bytes()))
    }

    /// A call; the answer's body streams. The connection is this call's own and ends with it.
    ///
    /// # Errors
    /// When the sidecar cannot be reached.
    pub(crate) async fn send(&self, call: Call) -> Result<Response<Incoming>> {
        let Call {
            method,
            path,
            headers,
            body,
        } = call;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "127.0.0.1")
            .body(Full::new(body))
            .context("no valid request")?;
        request.headers_mut().extend(headers);
        if let Some(token) = &self.token {
            request
                .headers_mut()
                .insert("dapr-api-token", token.parse().context("no valid API token")?);
        }
        let reach = || format!("cannot reach the sidecar at {}", self.place());
        let connecting = async {
            match &self.address {
                Address::Port(port) => {
                    exchange(
                        TcpStream::connect(("127.0.0.1", *port))
                            .await
                            .with_context(reach)?,
                        request,
                    )
                    .await
                }
                Address::Socket(path) => {
                    exchange(UnixStream::connect(path).await.with_context(reach)?, request).await
                }
            }
        };
        connecting.await
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = timeout(CONNECT_LIMIT, handshake)
        .await
        .context("the sidecar does not answer")?
        .context("no HTTP answer")?;
    // Ends with the answer's body: nothing keeps the sender.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender.send_request(request).await.context("no HTTP answer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A server that gives one answer, and the API that leads to it.
    async fn once(answer: &'static [u8]) -> SidecarApi {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut start = [0; 1024];
            let _ = stream.read(&mut start).await;
            let _ = stream.write_all(answer).await;
        });
        SidecarApi::new(Address::Port(port), None)
    }

    #[tokio::test]
    async fn answers_are_read_with_and_without_chunks() {
        let plain = b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"extended\":{}}";
        assert_eq!(once(plain).await.metadata().await.unwrap(), Metadata::default());
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n";
        let (status, _, body) = once(chunked)
            .await
            .answer(Call::new(Method::GET, "/a b"))
            .await
            .unwrap();
        assert_eq!((status.as_u16(), &body[..]), (200, &b"abcd"[..]));
        assert!(once(b"HTTP/1.1 204 No Content\r\n\r\n").await.healthy().await);
    }

    #[tokio::test]
    async fn broken_answers_are_errors() {
        for answer in [
            &b""[..],
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
        ] {
            assert!(once(answer).await.metadata().await.is_err());
        }
    }

    #[test]
    fn segments_are_escaped_and_targets_keep_their_form() {
        assert_eq!(segment("a/b ü"), "a%2Fb%20%C3%BC");
        assert_eq!(
            Call::new(Method::GET, "/a b/%2F?x={1}").path,
            "/a%20b/%2F?x=%7B1%7D"
        );
    }
}
