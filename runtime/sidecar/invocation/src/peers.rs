//! Connections to other sidecars: one HTTP/2 connection per address, shared by all calls (design D1: more were
//! slower), made when first needed, replaced when broken, closed when idle.

use std::{
    collections::HashMap,
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, Uri, uri::Authority};
use http_body::{Frame, SizeHint};
use outrigger_middleware::{Body, BoxError};
use outrigger_sidecar_app_channel::TcpConnector;
use parking_lot::RwLock;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use crate::{
    body::PeerBody,
    connection::{Answer, Connection},
    status::InvokeError,
};

/// Upstream dials peers for at most this long.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections idle for longer are closed (upstream `maxConnIdle`).
pub(crate) const MAX_IDLE: Duration = Duration::from_secs(3 * 60);
/// How often idle connections are looked for.
pub(crate) const COLLECT_INTERVAL: Duration = Duration::from_secs(45);
/// The sidecar at the other end.
#[derive(Debug, Clone, Copy)]
pub struct PeerName<'a> {
    /// `host:port` of its internal API.
    pub address: &'a str,
    /// Its app id, for checking its certificate.
    pub app_id: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
}

/// A connection to a peer: plain TCP, or TLS on it.
pub trait PeerStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> PeerStream for T {}

/// Opens connections to peers. Plain TCP is [`PlainPeers`]; mTLS comes from the identity layer.
pub trait PeerConnector: fmt::Debug + Send + Sync + 'static {
    /// Opens one, ready for HTTP/2.
    fn connect<'a>(&'a self, peer: PeerName<'a>) -> BoxFuture<'a, Result<Box<dyn PeerStream>, BoxError>>;
}

/// Peers in clear text.
#[derive(Debug, Clone)]
pub struct PlainPeers(TcpConnector);

impl Default for PlainPeers {
    fn default() -> Self {
        Self(TcpConnector::new(DIAL_TIMEOUT))
    }
}

impl PeerConnector for PlainPeers {
    fn connect<'a>(&'a self, peer: PeerName<'a>) -> BoxFuture<'a, Result<Box<dyn PeerStream>, BoxError>> {
        Box::pin(async move {
            let (host, port) = host_and_port(peer.address)?;
            let stream = self.0.connect(host, port).await?;
            Ok(Box::new(stream) as Box<dyn PeerStream>)
        })
    }
}

/// Splits `host:port`; a `dns:///` in front, as Go's gRPC writes it, is accepted.
fn host_and_port(address: &str) -> Result<(&str, u16), io::Error> {
    let address = address.strip_prefix("dns:///").unwrap_or(address);
    address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)))
        .filter(|(host, _)| !host.is_empty())
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no host and port in {address:?}"),
            )
        })
}

/// All connections to peers, by address.
#[derive(Debug)]
pub(crate) struct Peers {
    connector: Arc<dyn PeerConnector>,
    by_address: RwLock<HashMap<Box<str>, Arc<Peer>>>,
    epoch: Instant,
}

/// One address.
pub(crate) struct Peer {
    address: Box<str>,
    app_id: Box<str>,
    namespace: Box<str>,
    authority: Authority,
    pub(crate) stream_uri: Uri,
    pub(crate) unary_uri: Uri,
    connection: ArcSwapOption<Connection>,
    /// Held while connecting, so that one connection comes of many calls.
    connecting: tokio::sync::Mutex<()>,
    in_flight: AtomicUsize,
    /// Milliseconds since [`Peers::epoch`] of the last call's end.
    last_used: AtomicU64,
}

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) struct SendFailure {
    pub(crate) error: InvokeError,
    /// The request, when not a byte of it was sent.
    pub(crate) unsent: Option<Box<Request<PeerBody>>>,
    /// Whether the peer said that it did nothing with what it may have got.
    unprocessed: bool,
}

impl SendFailure {
    /// The error alone, which knows whether the peer has anything of the request.
    pub(crate) fn into_error(self) -> InvokeError {
        if self.unsent.is_some() || self.unprocessed {
            self.error.unsent()
        } else {
            self.error
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Peers {
    pub(crate) fn new(connector: Arc<dyn PeerConnector>) -> Self {
        Self {
            connector,
            by_address: RwLock::default(),
            epoch: Instant::now(),
        }
    }

    /// The peer of an address; not connected yet, perhaps.
    pub(crate) fn get(&self, name: PeerName<'_>) -> Result<Arc<Peer>, InvokeError> {
        if let Some(peer) = self.by_address.read().get(name.address) {
            return Ok(Arc::clone(peer));
        }
        let peer = Arc::new(Peer::new(name)?);
        let mut peers = self.by_address.write();
        Ok(Arc::clone(peers.entry(name.address.into()).or_insert(peer)))
    }

    /// Sends a request. A connection that turns out closed before anything was sent is replaced once.
    pub(crate) async fn send(
        &self,
        peer: &Arc<Peer>,
        request: Request<PeerBody>,
    ) -> Result<Response<Body>, SendFailure> {
        let in_flight = InFlight::new(peer, self.epoch);
        let mut request = request;
        let mut fresh = false;
        loop {
            let connection = match self.connection(peer).await {
                Ok((connection, is_new)) => {
                    fresh |= is_new;
                    connection
                }
                Err(error) => {
                    return Err(SendFailure {
                        error,
                        unsent: Some(Box::new(request)),
                        unprocessed: true,
                    });
                }
            };
            match connection.send(request).await {
                Ok(response) => return Ok(response.map(|body| held(body, in_flight))),
                Err(failure) => {
                    let error = InvokeError::unavailable(chain(&failure.error));
                    let unprocessed = failure.refused || is_unprocessed(&failure.error);
                    if failure.refused || connection.is_closed() {
                        peer.forget(&connection);
                    }
                    match failure.unsent {
                        Some(unsent) if !fresh => {
                            fresh = true;
                            request = unsent;
                        }
                        unsent => {
                            return Err(SendFailure {
                                error,
                                unsent: unsent.map(Box::new),
                                unprocessed,
                            });
                        }
                    }
                }
            }
        }
    }

    /// The connection of a peer and whether it was made just now.
    async fn connection(&self, peer: &Arc<Peer>) -> Result<(Arc<Connection>, bool), InvokeError> {
        if let Some(connection) = peer.open_connection() {
            return Ok((connection, false));
        }
        let _guard = peer.connecting.lock().await;
        if let Some(connection) = peer.open_connection() {
            return Ok((connection, false));
        }
        let name = PeerName {
            address: &peer.address,
            app_id: &peer.app_id,
            namespace: &peer.namespace,
        };
        let failed = |error: &dyn fmt::Display| {
            InvokeError::unavailable(format!(
                "connection error: desc = \"transport: Error while dialing: {error}\""
            ))
        };
        let stream = tokio::time::timeout(DIAL_TIMEOUT, self.connector.connect(name))
            .await
            .map_err(|_| failed(&"i/o timeout"))?
            .map_err(|error| failed(&chain(&*error)))?;
        let connection = Connection::open(stream, peer.address.clone())
            .await
            .map_err(|error| failed(&chain(&error)))?;
        let connection = Arc::new(connection);
        peer.connection.store(Some(Arc::clone(&connection)));
        Ok((connection, true))
    }

    /// Closes connections that nobody has used for longer than `max_idle`.
    pub(crate) fn collect(&self, max_idle: Duration) {
        let now = self.epoch.elapsed();
        let mut expired = 0_usize;
        self.by_address.write().retain(|_, peer| {
            let idle = now.saturating_sub(Duration::from_millis(peer.last_used.load(Relaxed)));
            let keep = peer.in_flight.load(Relaxed) > 0 || idle <= max_idle || Arc::strong_count(peer) > 2;
            if peer.in_flight.load(Relaxed) == 0 && idle > max_idle && peer.connection.swap(None).is_some() {
                expired += 1;
            }
            keep
        });
        if expired > 0 {
            tracing::debug!(target: "dapr.runtime.grpc.internal", "closed {expired} idle connections to other sidecars");
        }
    }

    /// Closes every connection once its calls have ended.
    pub(crate) fn close(&self) {
        for (_, peer) in self.by_address.write().drain() {
            peer.connection.store(None);
        }
    }
}

impl Peer {
    fn new(name: PeerName<'_>) -> Result<Self, InvokeError> {
        let bad = |error: &dyn fmt::Display| {
            InvokeError::unavailable(format!("invalid peer address {:?}: {error}", name.address))
        };
        host_and_port(name.address).map_err(|error| bad(&error))?;
        let plain = name.address.strip_prefix("dns:///").unwrap_or(name.address);
        let authority: Authority = plain.parse().map_err(|error| bad(&error))?;
        let uri = |path: &'static str| {
            Uri::builder()
                .scheme("http")
                .authority(authority.clone())
                .path_and_query(path)
                .build()
                .map_err(|error| bad(&error))
        };
        Ok(Self {
            address: name.address.into(),
            app_id: name.app_id.into(),
            namespace: name.namespace.into(),
            stream_uri: uri("/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream")?,
            unary_uri: uri("/dapr.proto.internals.v1.ServiceInvocation/CallLocal")?,
            authority,
            connection: ArcSwapOption::empty(),
            connecting: tokio::sync::Mutex::default(),
            in_flight: AtomicUsize::new(0),
            last_used: AtomicU64::new(0),
        })
    }

    /// Its address.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The URI of a proxied call.
    pub(crate) fn uri(&self, path: http::uri::PathAndQuery) -> Result<Uri, http::Error> {
        Uri::builder()
            .scheme("http")
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
    }

    fn open_connection(&self) -> Option<Arc<Connection>> {
        self.connection
            .load_full()
            .filter(|connection| !connection.is_closed())
    }

    /// Lets go of a broken connection, unless another has taken its place.
    fn forget(&self, broken: &Arc<Connection>) {
        self.connection.compare_and_swap(broken, None);
    }

    /// Makes the next call open a new connection (upstream's `teardown(true)`).
    pub(crate) fn destroy(&self) {
        self.connection.store(None);
    }
}

/// Whether a peer promises to have done nothing with a request: it refused the stream, or was leaving before it came
/// (RFC 9113 §8.7). A peer that leaves in order does that to what crosses its farewell on the way.
fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_remote()
        && match error.reason() {
            Some(h2::Reason::REFUSED_STREAM) => true,
            Some(h2::Reason::NO_ERROR) => error.is_go_away(),
            _ => false,
        }
}

/// The text of an error and its causes on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Counts a call for as long as its answer is read.
struct InFlight {
    peer: Arc<Peer>,
    epoch: Instant,
}

impl InFlight {
    fn new(peer: &Arc<Peer>, epoch: Instant) -> Self {
        peer.in_flight.fetch_add(1, Relaxed);
        Self {
            peer: Arc::clone(peer),
            epoch,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.peer.last_used.store(now, Relaxed);
        self.peer.in_flight.fetch_sub(1, Relaxed);
    }
}

fn held(body: Answer, in_flight: InFlight) -> Body {
    Body::boxed(Held {
        body,
        _in_flight: in_flight,
    })
}

struct Held {
    body: Answer,
    _in_flight: InFlight,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
