//! Who is at the other end of the connection that a request came by.

use std::{fmt, net::SocketAddr};

/// An extension of requests that came from outside. Requests on their way to the app have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAddress {
    /// A socket address.
    Tcp(SocketAddr),
    /// A Unix socket, whose other end has no name.
    Unix,
}

impl fmt::Display for PeerAddress {
    /// As Go writes a request's `RemoteAddr`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("@"),
        }
    }
}
