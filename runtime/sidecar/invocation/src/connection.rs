//! An HTTP/2 connection to a peer, on `h2` itself.
//!
//! hyper's client passes a request through two more tasks and sends its head before its body is looked at: two system
//! calls here, two at the peer, and wake-ups in between. A call whose message is known when it starts goes out as one
//! write, together with what other calls have at that moment.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::{Either, select};
use h2::{
    Ping, PingPong, Reason, RecvStream, SendStream,
    client::{self, SendRequest},
};
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use outrigger_batching::{Crowd, Member, after_others};
use outrigger_middleware::BoxError;
use tokio::task::AbortHandle;

use crate::{
    body::PeerBody,
    peers::{PeerStream, chain},
};

/// A peer that does not answer a ping this long after the last byte is gone (upstream `connectRemote`).
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that one answer may be ahead of its reader.
const STREAM_WINDOW: u32 = 512 * 1024;
/// The same for all answers of one connection.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// A chunk and its head fit into one frame.
const MAX_FRAME: u32 = 64 * 1024;
/// Bytes of heads that a peer may send with an answer.
const MAX_HEADER_LIST: u32 = 16 * 1024;
/// Bytes that wait for a peer to make room.
const MAX_SEND_BUFFER: usize = 1 << 20;
/// A first piece of a body up to this size does not wait until the peer has room.
const AT_ONCE: usize = 64 * 1024;

/// An open connection. Its task ends when it is dropped and all calls have ended, or when the peer goes away.
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    calls: Crowd,
    closed: Arc<AtomicBool>,
}

/// Why a request got no answer.
pub(crate) struct Failure {
    pub(crate) error: h2::Error,
    /// The request, when not a byte of it was sent.
    pub(crate) unsent: Option<Request<PeerBody>>,
    /// Whether the request did not get as far as the connection.
    pub(crate) refused: bool,
}

impl Connection {
    /// Speaks HTTP/2 on a stream. `address` is for the log.
    ///
    /// # Errors
    /// The stream's.
    pub(crate) async fn open(stream: Box<dyn PeerStream>, address: Box<str>) -> Result<Self, h2::Error> {
        let (sender, mut connection) = client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_send_buffer_size(MAX_SEND_BUFFER)
            .handshake(stream)
            .await?;
        let closed = Arc::new(AtomicBool::new(false));
        let ended = Ended(Arc::clone(&closed));
        let pings = connection.ping_pong();
        let calls = Crowd::default();
        let driven = async move {
            let _ended = ended;
            let answers = std::pin::pin!(keep_alive(pings));
            match select(connection, answers).await {
                Either::Left((Ok(()), _)) => {}
                Either::Left((Err(error), _)) => tracing::debug!(
                    target: "dapr.runtime.grpc.internal",
                    "connection to {address} ended: {}", chain(&error)
                ),
                Either::Right(_) => tracing::debug!(
                    target: "dapr.runtime.grpc.internal",
                    "connection to {address} ended: no answer to a ping"
                ),
            }
        };
        tokio::spawn(after_others(calls.clone(), driven));
        Ok(Self {
            sender,
            calls,
            closed,
        })
    }

    /// Whether no further request gets through.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Sends a request and waits for the head of its answer. Dropping the future, or the answer's body, ends the call
    /// at the peer too.
    pub(crate) async fn send(&self, request: Request<PeerBody>) -> Result<Response<Answer>, Failure> {
        let call = self.calls.join();
        let mut sender = self.sender.clone();
        if let Err(error) = poll_fn(|cx| sender.poll_ready(cx)).await {
            return Err(Failure {
                error,
                unsent: Some(request),
                refused: true,
            });
        }
        let (head, body) = request.into_parts();
        let is_empty = body.is_end_stream();
        let (answer, stream) = sender
            .send_request(Request::from_parts(head, ()), is_empty)
            .map_err(|error| Failure {
                error,
                unsent: None,
                refused: true,
            })?;
        // Held so that the rest of a request is not sent on when nobody waits for its answer any more.
        let sending = match is_empty {
            true => None,
            false => send_body(stream, body).await,
        };
        let response = answer.await.map_err(|error| Failure {
            error,
            unsent: None,
            refused: false,
        })?;
        Ok(response.map(|stream| Answer {
            stream,
            data_ended: false,
            _sending: sending,
            _call: call,
        }))
    }
}

/// Tells that a connection's task is over, however it ends.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Ends when the peer does not answer.
async fn keep_alive(pings: Option<PingPong>) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(KEEP_ALIVE_INTERVAL).await;
        match tokio::time::timeout(KEEP_ALIVE_TIMEOUT, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection itself says what is the matter.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}

/// A task that ends with who wants it.
struct Sending(AbortHandle);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends what is there of a body; the rest goes out from a task of its own.
async fn send_body(stream: SendStream<Bytes>, body: PeerBody) -> Option<Sending> {
    let mut rest = Outgoing {
        stream,
        body,
        piece: Bytes::new(),
        is_first: true,
    };
    match poll_fn(|cx| Poll::Ready(rest.poll_send(cx))).await {
        Poll::Ready(()) => None,
        Poll::Pending => Some(Sending(
            tokio::spawn(async move { poll_fn(|cx| rest.poll_send(cx)).await }).abort_handle(),
        )),
    }
}

/// A body on its way out.
struct Outgoing {
    stream: SendStream<Bytes>,
    body: PeerBody,
    /// What the peer has no room for yet.
    piece: Bytes,
    is_first: bool,
}

impl Outgoing {
    /// Ready when there is nothing more to send, for whatever reason: failures reach the caller by the answer.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if !self.piece.is_empty() {
                let room = if std::mem::take(&mut self.is_first) && self.piece.len() <= AT_ONCE {
                    self.piece.len()
                } else {
                    self.stream.reserve_capacity(self.piece.len());
                    match self.stream.poll_capacity(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Some(Ok(room))) => room,
                        Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                    }
                };
                let part = self.piece.split_to(room.min(self.piece.len()));
                let is_last = self.piece.is_empty() && self.body.is_end_stream();
                if self.stream.send_data(part, is_last).is_err() || is_last {
                    return Poll::Ready(());
                }
                continue;
            }
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            let sent = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => self.stream.send_data(Bytes::new(), true),
                Poll::Ready(Some(Err(error))) => {
                    self.stream.send_reset(reason(&*error));
                    Ok(())
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.piece = data;
                        if self.piece.is_empty() && self.body.is_end_stream() {
                            self.stream.send_data(Bytes::new(), true)
                        } else {
                            continue;
                        }
                    }
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) => self.stream.send_trailers(trailers),
                        Err(_) => continue,
                    },
                },
            };
            drop(sent);
            return Poll::Ready(());
        }
    }
}

/// What a peer is told of a body that broke off: the reason why its own stream was reset, if it had one.
fn reason(error: &(dyn std::error::Error + 'static)) -> Reason {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(reason) = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason) {
            return reason;
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}

/// The body of an answer, trailers included.
pub(crate) struct Answer {
    stream: RecvStream,
    data_ended: bool,
    _sending: Option<Sending>,
    _call: Member,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let ended = |error: h2::Error| match error.reason() {
            // An end without complaint; who needs trailers misses them.
            Some(Reason::NO_ERROR | Reason::CANCEL) => Poll::Ready(None),
            _ => Poll::Ready(Some(Err(error.into()))),
        };
        if !self.data_ended {
            match self.stream.poll_data(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(data))) => {
                    // Fails only for what was released before.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => return ended(error),
                Poll::Ready(None) => self.data_ended = true,
            }
        }
        match self.stream.poll_trailers(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(trailers)) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Poll::Ready(Err(error)) => ended(error),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests;
