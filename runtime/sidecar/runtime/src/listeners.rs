//! Binding: all addresses of a sidecar are bound here, once; servers only accept (design D13).

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use outrigger_sidecar_http::Bound;

use crate::{assembly::AssemblyError, host, options::SidecarOptions};

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

/// Bound addresses, until the servers take them.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    pub(crate) http: Vec<Bound>,
    pub(crate) grpc: Vec<Bound>,
    pub(crate) internal: Option<TcpListener>,
    pub(crate) public: Option<Bound>,
    pub(crate) metrics: Option<TcpListener>,
    pub(crate) profile: Option<TcpListener>,
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

/// Binds everything.
///
/// # Errors
/// With the first address that cannot be had and that the sidecar cannot do without.
pub(crate) fn bind_all(options: &SidecarOptions) -> Result<(Listeners, Addresses), AssemblyError> {
    let mut listeners = Listeners::default();
    let mut addresses = Addresses::default();
    let failed = |what: &'static str, host: &str, port: u16| {
        let address = format!("{host}:{port}");
        move |source| AssemblyError::Listen {
            what,
            address,
            source,
        }
    };

    let host = options.internal_grpc_listen_address.as_str();
    let internal = if options.internal_grpc_port == 0 {
        let folder = options.base_dir.to_string_lossy();
        let port = host::stable_port(&options.app_id, &folder, options.user_id, &options.hostname);
        tcp(host, port)
            .or_else(|_| tcp(host, 0))
            .map_err(failed("the internal gRPC API", host, 0))?
    } else {
        let port = options.internal_grpc_port;
        tcp(host, port).map_err(failed("the internal gRPC API", host, port))?
    };
    let internal_address = internal
        .local_addr()
        .map_err(failed("the internal gRPC API", host, 0))?;
    addresses.internal = Some(internal_address);
    listeners.internal = Some(internal);

    if let Some(folder) = &options.unix_domain_socket {
        let folder = options.base_dir.join(folder);
        for (kind, list) in [("http", &mut listeners.http), ("grpc", &mut listeners.grpc)] {
            let path = folder.join(format!("dapr-{}-{kind}.socket", options.app_id));
            let bound = unix(&path).map_err(|source| AssemblyError::Listen {
                what: "the API",
                address: path.display().to_string(),
                source,
            })?;
            list.push(bound);
        }
    } else {
        let apis: [(&'static str, u16, &mut Vec<Bound>, &mut Vec<SocketAddr>); 2] = [
            (
                "the HTTP API",
                options.http_port,
                &mut listeners.http,
                &mut addresses.http,
            ),
            (
                "the gRPC API",
                options.grpc_port,
                &mut listeners.grpc,
                &mut addresses.grpc,
            ),
        ];
        for (what, port, list, bound) in apis {
            let mut last = None;
            for host in &options.listen_addresses {
                // One address that fails is no harm as long as another serves (upstream).
                match tcp(host, port) {
                    Ok(listener) => {
                        bound.extend(listener.local_addr().ok());
                        list.push(Bound::Tcp(listener));
                    }
                    Err(source) => last = Some((host.clone(), source)),
                }
            }
            if let (true, Some((host, source))) = (list.is_empty(), last) {
                return Err(failed(what, &host, port)(source));
            }
        }
    }
    if let Some(port) = options.public_port {
        let host = options.public_listen_address.as_str();
        let listener = tcp(host, port).map_err(failed("the public port", host, port))?;
        addresses.public = listener.local_addr().ok();
        listeners.public = Some(Bound::Tcp(listener));
    }
    if let Some(metrics) = &options.metrics {
        let host = metrics.address.as_str();
        match tcp(host, metrics.port) {
            Ok(listener) => {
                addresses.metrics = listener.local_addr().ok();
                listeners.metrics = Some(listener);
            }
            Err(source) => return Err(failed("metrics", host, metrics.port)(source)),
        }
    }
    if let Some(port) = options.profile_port {
        let host = options.listen_addresses.first().map_or("", String::as_str);
        listeners.profile = Some(tcp(host, port).map_err(failed("profiles", host, port))?);
    }
    Ok((listeners, addresses))
}
