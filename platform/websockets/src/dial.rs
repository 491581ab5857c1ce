//! From a URL to an open WebSocket: name, address, TCP, TLS, handshake.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Error};

use crate::machine::Failure;
use crate::target::{Target, TargetError};

/// Addresses of one host that are tried.
const MOST_ADDRESSES: usize = 4;
/// A thousand connections shall not take more than some megabytes.
const BUFFER: usize = 16 * 1024;

/// What bytes go over: TCP, or TLS on it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open WebSocket.
pub(crate) type Socket = WebSocketStream<Box<dyn Stream>>;

/// Makes connections.
#[derive(Clone)]
pub struct Dialer {
    tls: TlsConnector,
    timeout: Duration,
    max_message: usize,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer")
            .field("timeout", &self.timeout)
            .field("max_message", &self.max_message)
            .finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DialError {
    /// It may not be connected to.
    #[error(transparent)]
    Refused(#[from] TargetError),
    /// It could not be.
    #[error("{}", .0.message)]
    Failed(Failure),
}

impl Dialer {
    /// Trusts the system's certificates. A handshake takes at most `timeout`, a message has at most `max_message`
    /// bytes.
    ///
    /// # Errors
    /// What rustls says of its own settings.
    pub fn new(timeout: Duration, max_message: usize) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for certificate in rustls_native_certs::load_native_certs().certs {
            // One that cannot be read is one less to trust.
            let _ = roots.add(certificate);
        }
        Self::trusting(roots, timeout, max_message)
    }

    /// As [`new`](Self::new), but trusts these certificates.
    ///
    /// # Errors
    /// What rustls says of its own settings.
    pub fn trusting(
        roots: RootCertStore,
        timeout: Duration,
        max_message: usize,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(tls)),
            timeout,
            max_message,
        })
    }

    /// Connects. Dropping the future closes what is open by then.
    pub(crate) async fn dial(&self, target: &Target) -> Result<Socket, DialError> {
        match tokio::time::timeout(self.timeout, self.dial_slowly(target)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(failed(
                "timeout",
                format!("no connection to {} within {:?}", target.host, self.timeout),
            )),
        }
    }

    async fn dial_slowly(&self, target: &Target) -> Result<Socket, DialError> {
        let addresses = match target.address {
            Some(address) => vec![address],
            None => resolve(target).await?,
        };
        let tcp = connect(target, &addresses).await?;
        // Requests are small and wait for their answers.
        let _ = tcp.set_nodelay(true);
        let stream: Box<dyn Stream> = if target.is_secure {
            let name = match target.address {
                Some(address) => ServerName::IpAddress(address.into()),
                None => ServerName::try_from(target.host.clone())
                    .map_err(|error| failed("tls", format!("{}: {error}", target.host)))?,
            };
            let tls = self.tls.connect(name, tcp).await;
            Box::new(tls.map_err(|error| failed("tls", format!("TLS with {}: {error}", target.host)))?)
        } else {
            Box::new(tcp)
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(self.max_message))
            .max_frame_size(Some(self.max_message))
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER);
        let url = target.url.as_str();
        match tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(answer)) => Err(failed(
                "handshake",
                format!(
                    "{} answers {} instead of switching to WebSocket",
                    target.host,
                    answer.status()
                ),
            )),
            Err(error) => Err(failed(
                "handshake",
                format!("the WebSocket handshake with {}: {error}", target.host),
            )),
        }
    }
}

/// All addresses of a name. Every one of them must be allowed: one inner address among public ones refuses all.
async fn resolve(target: &Target) -> Result<Vec<IpAddr>, DialError> {
    let unknown = |error: io::Error| failed("dns", format!("host {} is not known: {error}", target.host));
    let found = tokio::net::lookup_host((target.host.as_str(), target.port))
        .await
        .map_err(unknown)?;
    let addresses: Vec<_> = found.map(|address| address.ip()).collect();
    if addresses.is_empty() {
        return Err(failed("dns", format!("host {} has no address", target.host)));
    }
    for address in &addresses {
        target.check(*address)?;
    }
    Ok(addresses)
}

/// Connects to an address that was checked, never to the name again.
async fn connect(target: &Target, addresses: &[IpAddr]) -> Result<TcpStream, DialError> {
    let mut last = None;
    for address in addresses.iter().take(MOST_ADDRESSES) {
        match TcpStream::connect(SocketAddr::new(*address, target.port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    let why = last.map_or_else(String::new, |error| error.to_string());
    Err(failed(
        "connect",
        format!("{}:{} cannot be connected to: {why}", target.host, target.port),
    ))
}

fn failed(kind: &'static str, message: String) -> DialError {
    DialError::Failed(Failure { kind, message })
}

/// What an error of an open connection stands for.
pub(crate) fn failure(error: &Error) -> Failure {
    let kind = match error {
        Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => "timeout",
        Error::Io(_) | Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            "reset"
        }
        Error::Capacity(_) => "too_large",
        Error::Tls(_) => "tls",
        _ => "protocol",
    };
    Failure {
        kind,
        message: error.to_string(),
    }
}
