//! One component instance behind a socket: its connection, made again with a new Init when it was lost.

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use outrigger_component::{Error, ErrorKind, Spec};
use outrigger_wire::dapr::proto::components::v1::MetadataRequest;
use parking_lot::RwLock;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::Mutex,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::INSTANCE_HEADER;

/// How long making a lost connection again, with its Init, may take.
const RECONNECT: Duration = Duration::from_secs(10);

/// Adds the name of the instance to every call.
#[derive(Debug, Clone)]
pub(crate) struct Named(MetadataValue<Ascii>);

impl Interceptor for Named {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(INSTANCE_HEADER, self.0.clone());
        Ok(request)
    }
}

/// What clients of the generated services call through.
pub(crate) type Wire = InterceptedService<Channel, Named>;
/// Calls the Init of one service.
pub(crate) type Init = fn(Wire, MetadataRequest) -> BoxFuture<'static, Result<(), Status>>;

/// A component instance in another process.
pub(crate) struct Link {
    socket: PathBuf,
    name: Named,
    properties: HashMap<String, String>,
    init: Init,
    session: RwLock<Option<Session>>,
    /// Held while connecting: all calls wait for one Init.
    connecting: Mutex<()>,
    closed: AtomicBool,
}

#[derive(Clone)]
struct Session {
    wire: Wire,
    lost: Arc<AtomicBool>,
}

impl fmt::Debug for Link {
    /// Without the properties: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Connects and initialises.
    ///
    /// # Errors
    /// `Unavailable` when nobody listens at the socket; `Status` when the component refuses.
    pub(crate) async fn open(
        socket: PathBuf,
        spec: &Spec,
        properties: HashMap<String, String>,
        init: Init,
    ) -> Result<Arc<Self>, Error> {
        let name = spec.name.as_str().parse().map_err(|_| {
            Error::configuration(format!(
                "the component's name {:?} cannot be sent to a pluggable component",
                spec.name.as_str()
            ))
        })?;
        let link = Arc::new(Self {
            socket,
            name: Named(name),
            properties,
            init,
            session: RwLock::new(None),
            connecting: Mutex::new(()),
            closed: AtomicBool::new(false),
        });
        link.connect().await?;
        Ok(link)
    }

    /// The way to the component, connecting anew where the last connection was lost.
    ///
    /// # Errors
    /// `Closed` after [`Link::close`]; as [`Link::open`].
    pub(crate) async fn wire(&self) -> Result<Wire, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the component is closed"));
        }
        if let Some(wire) = self.current() {
            return Ok(wire);
        }
        let connecting = async {
            let _turn = self.connecting.lock().await;
            match self.current() {
                Some(wire) => Ok(wire),
                None => self.connect().await,
            }
        };
        tokio::time::timeout(RECONNECT, connecting).await.map_err(|_| {
            Error::unavailable(format!(
                "the component at {} did not come back in time",
                self.socket.display()
            ))
        })?
    }

    /// Lets go of the connection; later calls answer `Closed`.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        *self.session.write() = None;
    }

    fn current(&self) -> Option<Wire> {
        let session = self.session.read();
        session
            .as_ref()
            .filter(|session| !session.lost.load(Ordering::Acquire))
            .map(|session| session.wire.clone())
    }

    async fn connect(&self) -> Result<Wire, Error> {
        let stream = dial(&self.socket).await?;
        let lost = Arc::new(AtomicBool::new(false));
        let channel = connect(Watched {
            stream,
            lost: Arc::clone(&lost),
        })
        .await?;
        let wire = InterceptedService::new(channel, self.name.clone());
        let metadata = MetadataRequest {
            properties: self.properties.clone(),
        };
        (self.init)(wire.clone(), metadata)
            .await
            .map_err(|status| crate::status::error(&status))?;
        *self.session.write() = Some(Session {
            wire: wire.clone(),
            lost,
        });
        Ok(wire)
    }
}

/// Connects to a socket.
///
/// # Errors
/// `Unavailable` when nobody listens there.
pub(crate) async fn dial(socket: &Path) -> Result<UnixStream, Error> {
    UnixStream::connect(socket).await.map_err(|error| {
        Error::unavailable(format!(
            "cannot reach the pluggable component at {}",
            socket.display()
        ))
        .with_source(error)
    })
}

/// HTTP/2 on one connection, which is never replaced behind our back: a new one needs an Init.
///
/// # Errors
/// `Unavailable` when the other end is no HTTP/2 server.
pub(crate) async fn connect(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<Channel, Error> {
    let mut once = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = once.take();
        std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .map_err(|error| Error::unavailable("the pluggable component does not speak gRPC").with_source(error))
}

/// A connection that tells when it is let go of, which is when its end was seen.
struct Watched {
    stream: UnixStream,
    lost: Arc<AtomicBool>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.lost.store(true, Ordering::Release);
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
