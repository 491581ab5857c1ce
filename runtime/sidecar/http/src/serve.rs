//! Listeners and connections.

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, time::Duration};

use futures::future::{Either, select};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use outrigger_middleware::PeerAddress;
use outrigger_sidecar_api::{Body, Switch};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    HttpService,
    h2c_upgrade::{self, Continued, FirstRequest},
    unread::Unread,
};

/// Connections that are still busy this long after the shutdown began are cut (upstream: 10 s).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to send its header (upstream: 10 s).
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Go's server takes this much beyond `MaxHeaderBytes`.
const HEADER_SLACK: usize = 4096;
/// Smallest buffer hyper takes.
const MIN_BUFFER: usize = 8192;

/// An address that is already bound: the runtime binds, servers only accept (design D13).
#[derive(Debug)]
pub enum Bound {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket; the file is removed when serving ends.
    Unix(UnixListener, PathBuf),
}

/// How connections are served.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// `--read-buffer-size` in bytes: bound of a request's header.
    pub read_buffer_size: usize,
    /// Serve HTTP/2 in clear text too (off with `DAPR_HTTP_DISABLE_H2C`).
    pub h2c: bool,
}

/// Accepts and serves until `shutdown`, then lets connections finish what they have begun, for ten seconds at most.
/// What `service` switches to answers from its next request on, also on connections that are open.
pub async fn serve(
    bound: Bound,
    service: impl Into<Switch<HttpService>>,
    options: ServeOptions,
    shutdown: CancellationToken,
) {
    let service = service.into();
    let tasks = TaskTracker::new();
    match bound {
        Bound::Tcp(listener) => loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let _ = stream.set_nodelay(true);
                    // A dual-stack listener sees IPv4 peers in IPv6 clothes.
                    let ip = address.ip().to_canonical();
                    let peer = PeerAddress::Tcp(SocketAddr::new(ip, address.port()));
                    tasks.spawn(connection(
                        stream,
                        peer,
                        service.clone(),
                        options,
                        shutdown.clone(),
                    ));
                }
                Err(error) => accept_failed(&error).await,
            }
        },
        Bound::Unix(listener, path) => {
            loop {
                let accepted = tokio::select! {
                    () = shutdown.cancelled() => break,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, _)) => {
                        let peer = PeerAddress::Unix;
                        tasks.spawn(connection(
                            stream,
                            peer,
                            service.clone(),
                            options,
                            shutdown.clone(),
                        ));
                    }
                    Err(error) => accept_failed(&error).await,
                }
            }
            let _ = std::fs::remove_file(path);
        }
    }
    tasks.close();
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, tasks.wait()).await;
}

/// Out of descriptors, most likely: wait for some to come free instead of spinning.
async fn accept_failed(error: &std::io::Error) {
    tracing::warn!(target: "dapr.runtime.http", "cannot accept a connection: {error}");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn connection<S>(
    stream: S,
    peer: PeerAddress,
    service: Switch<HttpService>,
    options: ServeOptions,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let header_bytes = options.read_buffer_size + HEADER_SLACK;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(header_bytes.max(MIN_BUFFER).max(64 * 1024))
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_concurrent_streams(1000);
    let builder = if options.h2c {
        builder
    } else {
        builder.http1_only()
    };
    let upgrades = options.h2c;
    let closing = shutdown.clone();
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        let service = service.clone();
        let closing = closing.clone();
        let peer = peer.clone();
        async move {
            if upgrades && h2c_upgrade::is_asked(&request) {
                let first = FirstRequest::of(&request);
                let upgraded = hyper::upgrade::on(&mut request);
                tokio::spawn(continue_in_http2(upgraded, first, peer, service, closing));
                return Ok(h2c_upgrade::switching());
            }
            if header_size(request.headers()) > header_bytes {
                let mut response = http::Response::new(Body::whole("431 Request Header Fields Too Large"));
                *response.status_mut() = http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                return Ok::<_, Infallible>(response);
            }
            let service = service.current();
            if service.has_pipeline() {
                request.extensions_mut().insert(peer);
            }
            let (request, unread) = Unread::of(request);
            let response = service.serve(request).await;
            unread.read().await;
            Ok(response)
        }
    });
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let finished = match select(serving.as_mut(), std::pin::pin!(shutdown.cancelled())).await {
        Either::Left((finished, _)) => finished,
        Either::Right(((), _)) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = finished {
        tracing::debug!(target: "dapr.runtime.http", "connection ended: {error}");
    }
}

/// Serves the rest of a connection that was upgraded from HTTP/1.1.
async fn continue_in_http2(
    upgraded: hyper::upgrade::OnUpgrade,
    first: FirstRequest,
    peer: PeerAddress,
    service: Switch<HttpService>,
    shutdown: CancellationToken,
) {
    let Ok(upgraded) = upgraded.await else { return };
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        let service = service.clone();
        let peer = peer.clone();
        async move {
            let service = service.current();
            if service.has_pipeline() {
                request.extensions_mut().insert(peer);
            }
            Ok::<_, Infallible>(service.serve(request.map(Body::from)).await)
        }
    });
    let io = TokioIo::new(Continued::new(upgraded, &first));
    let serving =
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service);
    let mut serving = std::pin::pin!(serving);
    let finished = match select(serving.as_mut(), std::pin::pin!(shutdown.cancelled())).await {
        Either::Left((finished, _)) => finished,
        Either::Right(((), _)) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = finished {
        tracing::debug!(target: "dapr.runtime.http", "upgraded connection ended: {error}");
    }
}

fn header_size(headers: &http::HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum()
}
