//! Binding: all addresses of a sidecar are bound here, once; servers only accept (design D13).

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use outrigger_sidecar_http::Bound;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Binds a TCP address as Go spells it: an empty host means all addresses of both families.
///
/// # Errors
/// When the address is taken or not ours.
pub(crate) fn tcp(host: &str, port: u16) -> io::Result<TcpListener> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = match bare {
        "" => vec![
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            SocketAddr::from(([0, 0, 0, 0], port)),
        ],
        "localhost" => vec![SocketAddr::from(([127, 0, 0, 1], port))],
        _ => vec![SocketAddr::new(
            bare.parse().map_err(|_| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("{host:?} is no address to listen on"),
                )
            })?,
            port,
        )],
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Binds a Unix socket, in place of one that a dead process left behind.
///
/// # Errors
/// When the folder is missing or the socket is in use.
pub(crate) fn unix(path: &Path) -> io::Result<Bound> {
    if std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
    UnixListener::bind(path).map(|listener| Bound::Unix(listener, path.to_owned()))
}

/// What was bound.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// The public HTTP API.
    pub http: Vec<SocketAddr>,
    /// The public gRPC API.
    pub grpc: Vec<SocketAddr>,
    /// The internal API.
    pub internal: Option<SocketAddr>,
    /// Health and metadata only.
    pub public: Option<SocketAddr>,
    /// Metrics.
    pub metrics: Option<SocketAddr>,
}
