//! The few calls the command line makes to a sidecar: metadata and health, over loopback or a socket.

use std::{collections::BTreeMap, path::Path, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// Limit of one call.
const LIMIT: Duration = Duration::from_secs(5);

/// Largest answer read.
const MAX_ANSWER: u64 = 4 << 20;

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

/// One sidecar's HTTP API.
#[derive(Clone)]
pub(crate) struct SidecarApi {
    address: Address,
    token: Option<String>,
}

impl std::fmt::Debug for SidecarApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SidecarApi")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// The part of the metadata answer that is used here.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Metadata {
    /// Free attributes, set by whoever started the sidecar.
    #[serde(default)]
    pub(crate) extended: BTreeMap<String, String>,
}

impl SidecarApi {
    /// `token` is the sidecar's `DAPR_API_TOKEN`, if it asks for one.
    pub(crate) fn new(address: Address, token: Option<String>) -> Self {
        Self {
            address,
            token: token.filter(|token| !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic())),
        }
    }

    /// Reads the metadata.
    pub(crate) async fn metadata(&self) -> Result<Metadata> {
        let (status, body) = self.call("GET", "/v1.0/metadata", "").await?;
        if status != 200 {
            bail!("the sidecar answered {status}");
        }
        serde_json::from_slice(&body).context("the sidecar's metadata is not readable")
    }

    /// Sets one attribute.
    pub(crate) async fn put_metadata(&self, key: &str, value: &str) -> Result<()> {
        let (status, _) = self.call("PUT", &format!("/v1.0/metadata/{key}"), value).await?;
        if !(200..300).contains(&status) {
            bail!("the sidecar answered {status}");
        }
        Ok(())
    }

    /// Whether the sidecar says it is healthy.
    pub(crate) async fn healthy(&self) -> bool {
        matches!(self.call("GET", "/v1.0/healthz", "").await, Ok((200..=299, _)))
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Result<(u16, Vec<u8>)> {
        let token = self
            .token
            .as_deref()
            .map_or_else(String::new, |token| format!("dapr-api-token: {token}\r\n"));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{token}Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let exchange = async {
            match &self.address {
                Address::Port(port) => {
                    exchange(TcpStream::connect(("127.0.0.1", *port)).await?, &request).await
                }
                Address::Socket(path) => exchange(UnixStream::connect(path).await?, &request).await,
            }
        };
        let answer = timeout(LIMIT, exchange)
            .await
            .context("the sidecar does not answer")??;
        parse(&answer)
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> std::io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Takes an HTTP/1.1 answer apart; the connection was closed, so it is complete.
fn parse(answer: &[u8]) -> Result<(u16, Vec<u8>)> {
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("no HTTP answer")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let body = &answer[end + 4..];
    let status = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1)?.parse().ok())
        .context("no HTTP answer")?;
    let chunked = head.lines().skip(1).any(|line| {
        let line = line.to_ascii_lowercase();
        line.strip_prefix("transfer-encoding:")
            .is_some_and(|value| value.contains("chunked"))
    });
    Ok((status, if chunked { unchunk(body)? } else { body.to_vec() }))
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest
            .windows(2)
            .position(|window| window == b"\r\n")
            .context("broken chunk")?;
        let size = std::str::from_utf8(&rest[..end]).context("broken chunk")?;
        let size =
            usize::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16).context("broken chunk")?;
        if size == 0 {
            return Ok(body);
        }
        let start = end + 2;
        let stop = start.checked_add(size).context("broken chunk")?;
        body.extend_from_slice(rest.get(start..stop).context("broken chunk")?);
        rest = rest.get(stop + 2..).context("broken chunk")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_with_and_without_chunks() {
        let plain = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse(plain).unwrap(), (200, b"{}".to_vec()));
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap(), (200, b"abcd".to_vec()));
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().0, 204);
    }

    #[test]
    fn broken_answers_are_errors() {
        for answer in [
            &b""[..],
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
        ] {
            assert!(parse(answer).is_err());
        }
    }
}
