//! How the first byte gets to a host: directly, or by a proxy.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Uri, uri::Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{
        Connected, Connection, HttpConnector,
        proxy::{SocksV5, Tunnel},
    },
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

use super::{BoxError, Dns};
use crate::{
    ClientError, Proxies, TlsOptions,
    proxy::{Proxy, ProxyKind},
    tls::no_roots,
};

/// Connects to hosts, by the proxy that stands before each. TLS to the host comes on top of it; TLS to a proxy is its
/// own business and trusts the system's roots.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    direct: HttpConnector<Dns>,
    proxies: Proxies,
    /// Where there are proxies.
    hop: Option<HttpsConnector<HttpConnector<Dns>>>,
}

/// A connection to a host, or to the proxy that hands requests in the clear on.
#[derive(Debug)]
pub(super) struct Dialed {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// Requests name the whole address.
    forwards: bool,
}

/// A proxy did not make the connection. Tells where it is, without its credentials.
#[derive(Debug, thiserror::Error)]
#[error("no connection by the proxy at {}", .proxy.authority().map_or("", |at| at.as_str()))]
struct ProxyError {
    proxy: Uri,
    source: BoxError,
}

impl Dialer {
    pub(super) fn new(direct: HttpConnector<Dns>, proxies: Proxies) -> Result<Self, ClientError> {
        let hop = match proxies.any() {
            (false, _) => None,
            (true, tls) => {
                let config = if tls {
                    TlsOptions::default().config()?
                } else {
                    no_roots()?
                };
                let builder = HttpsConnectorBuilder::new()
                    .with_tls_config(config)
                    .https_or_http();
                Some(builder.enable_http1().wrap_connector(direct.clone()))
            }
        };
        Ok(Self { direct, proxies, hop })
    }
}

impl Service<Uri> for Dialer {
    type Response = Dialed;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Dialed, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, host: Uri) -> Self::Future {
        match (self.proxies.of(&host), &self.hop) {
            (Some(proxy), Some(hop)) => Box::pin(by(hop.clone(), proxy.clone(), host)),
            _ => {
                let connecting = self.direct.call(host);
                Box::pin(async move {
                    Ok(Dialed {
                        stream: MaybeHttpsStream::Http(connecting.await?),
                        forwards: false,
                    })
                })
            }
        }
    }
}

async fn by(
    mut hop: HttpsConnector<HttpConnector<Dns>>,
    proxy: Proxy,
    host: Uri,
) -> Result<Dialed, BoxError> {
    let at = proxy.uri.clone();
    let failed = |source: BoxError| ProxyError {
        proxy: at.clone(),
        source,
    };
    let forwards = proxy.kind != ProxyKind::Socks5 && host.scheme() == Some(&Scheme::HTTP);
    let stream = if forwards {
        hop.call(proxy.uri).await.map_err(failed)?
    } else if proxy.kind == ProxyKind::Socks5 {
        let mut socks = SocksV5::new(proxy.uri, hop);
        if let Some((name, password)) = proxy.user {
            socks = socks.with_auth(name, password);
        }
        socks.call(host).await.map_err(|error| failed(error.into()))?
    } else {
        let mut tunnel = Tunnel::new(proxy.uri, hop);
        if let Some(value) = proxy.authorization {
            tunnel = tunnel.with_auth(value);
        }
        tunnel.call(host).await.map_err(|error| failed(error.into()))?
    };
    Ok(Dialed { stream, forwards })
}

impl Connection for Dialed {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.forwards)
    }
}

impl Read for Dialed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Dialed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}
