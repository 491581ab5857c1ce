//! Connections in clear text and TLS for hyper's client.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use outrigger_tls::AnyCertificate;
use rustls::ClientConfig;
use tokio::net::TcpStream;

/// A plain connection.
pub type Connection = TokioIo<TcpStream>;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address names no host or port.
    #[error("no host and port in {0}")]
    Address(Uri),
    /// The host has no address.
    #[error("cannot resolve {host}")]
    Resolve {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody answers.
    #[error("dial tcp {address}: connect: connection refused")]
    Refused {
        /// The last address tried.
        address: SocketAddr,
    },
    /// The connection failed otherwise.
    #[error("dial tcp {address}")]
    Dial {
        /// The last address tried.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// It took longer than the connector allows.
    #[error("dial tcp {0}: i/o timeout")]
    Timeout(String),
}

/// Opens TCP connections: literal addresses and `localhost` without any look-up, other names by the system.
#[derive(Debug, Clone)]
pub struct TcpConnector {
    timeout: Duration,
}

impl TcpConnector {
    /// A connector that gives up after `timeout`.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { timeout }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        tokio::time::timeout(self.timeout, dial(host, port))
            .await
            .unwrap_or_else(|_| Err(ConnectError::Timeout(format!("{host}:{port}"))))
    }
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut last = None;
    let addresses: Vec<SocketAddr> = if let Ok(ip) = bare.parse::<IpAddr>() {
        vec![SocketAddr::new(ip, port)]
    } else if bare.eq_ignore_ascii_case("localhost") {
        vec![
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
            SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port),
        ]
    } else {
        tokio::net::lookup_host((bare, port))
            .await
            .map_err(|source| ConnectError::Resolve {
                host: bare.to_owned(),
                source,
            })?
            .collect()
    };
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            // The first family's error says more than the second's.
            Err(source) => {
                last.get_or_insert((address, source));
            }
        }
    }
    Err(match last {
        Some((address, source)) if source.kind() == io::ErrorKind::ConnectionRefused => {
            ConnectError::Refused { address }
        }
        Some((address, source)) => ConnectError::Dial { address, source },
        None => ConnectError::Resolve {
            host: host.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        },
    })
}

impl tower_service::Service<Uri> for TcpConnector {
    type Response = Connection;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Connection, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let host = uri.host().ok_or_else(|| ConnectError::Address(uri.clone()))?;
            let port = uri.port_u16().or_else(|| match uri.scheme_str() {
                Some("https") => Some(443),
                Some("http") => Some(80),
                _ => None,
            });
            let port = port.ok_or_else(|| ConnectError::Address(uri.clone()))?;
            connector.connect(host, port).await.map(TokioIo::new)
        })
    }
}

/// TLS towards the sidecar's own app: encrypted, not authenticated (upstream sets `InsecureSkipVerify`).
#[must_use]
pub fn tls_without_verification(alpn: &[&[u8]]) -> ClientConfig {
    // The provider always offers TLS 1.2 and 1.3.
    let Ok(builder) = outrigger_tls::client() else {
        unreachable!("aws-lc-rs serves TLS 1.2 and 1.3")
    };
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(AnyCertificate::verifier())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}
