//! Bodies between sidecars: chunks in numbered messages, both ways (`CallLocalStream`; wire.md §5).

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use outrigger_middleware::{Body, BoxError};

use crate::{
    envelope::{self, StreamMessage},
    framing::{FrameError, Messages, ok_trailers, status_of},
};

/// Largest chunk put into one message. Upstream sends 2 KiB; receivers take any.
pub(crate) const CHUNK: usize = 32 * 1024;

/// Chunks up to this size are copied behind their head: one DATA frame costs less than two.
const COPY: usize = 8 * 1024;

/// What is sent to a peer.
pub(crate) enum PeerBody {
    /// One message, all there is.
    Once(Option<Bytes>),
    /// An envelope and a body in chunks.
    Framed(Framed),
    /// A gRPC body as it is.
    Raw(Body),
}

impl http_body::Body for PeerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Once(message) => Poll::Ready(message.take().map(|message| Ok(Frame::data(message)))),
            Self::Framed(framed) => framed
                .poll_data(cx)
                .map(|data| data.map(|data| data.map(Frame::data))),
            Self::Raw(body) => poll_filled(body, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Once(message) => message.is_none(),
            Self::Framed(framed) => framed.is_end(),
            Self::Raw(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// The next frame that is not empty data. gRPC ends streams with empty DATA frames; passed on they would no longer be
/// the last ones, and peers (h2 among them) hang up after a hundred such frames.
fn poll_filled(body: &mut Body, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
    loop {
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
            other => return other,
        }
    }
}

/// A body without empty DATA frames.
pub(crate) struct Filled(pub(crate) Body);

impl http_body::Body for Filled {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        poll_filled(&mut self.0, cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl fmt::Debug for PeerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Once(_) => "Once",
            Self::Framed(_) => "Framed",
            Self::Raw(_) => "Raw",
        })
    }
}

/// An envelope followed by a body in chunks.
pub(crate) struct Framed {
    /// The first message so far: prefix and envelope. Taken when it goes out.
    head: Option<BytesMut>,
    body: Body,
    /// What is left of a chunk that was larger than a message may be.
    rest: Bytes,
    /// The data of a message whose head went out just now.
    data: Bytes,
    seq: u64,
    ended: bool,
    /// A response whose app promised more than it sent is complete all the same (upstream `invokeMethodV1`).
    forgive_short: bool,
}

impl Framed {
    /// `head` is the first message, prefix unsealed.
    pub(crate) fn new(head: BytesMut, body: Body) -> Self {
        Self {
            head: Some(head),
            body,
            rest: Bytes::new(),
            data: Bytes::new(),
            seq: 0,
            ended: false,
            forgive_short: false,
        }
    }

    pub(crate) fn of_response(head: BytesMut, body: Body) -> Self {
        Self {
            forgive_short: true,
            ..Self::new(head, body)
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        if !self.data.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.data))));
        }
        let chunk = if self.rest.is_empty() {
            self.poll_chunk(cx)
        } else {
            Poll::Ready(Ok(Some(std::mem::take(&mut self.rest))))
        };
        match chunk {
            Poll::Ready(Ok(Some(mut chunk))) => {
                if chunk.len() > CHUNK {
                    self.rest = chunk.split_off(CHUNK);
                }
                let mut buffer = self
                    .head
                    .take()
                    .unwrap_or_else(|| envelope::open(32 + chunk.len().min(COPY)));
                envelope::put_payload_head(&mut buffer, self.seq, chunk.len());
                self.seq += 1;
                if chunk.len() <= COPY {
                    buffer.extend_from_slice(&chunk);
                    envelope::seal(&mut buffer, 0);
                } else {
                    envelope::seal(&mut buffer, chunk.len());
                    self.data = chunk;
                }
                Poll::Ready(Some(Ok(buffer.freeze())))
            }
            Poll::Ready(Ok(None)) => {
                self.ended = true;
                Poll::Ready(self.head.take().map(|head| Ok(sealed(head))))
            }
            Poll::Ready(Err(error)) => {
                self.ended = true;
                Poll::Ready(Some(Err(error)))
            }
            // The head does not wait for the body.
            Poll::Pending => match self.head.take() {
                Some(head) => Poll::Ready(Some(Ok(sealed(head)))),
                None => Poll::Pending,
            },
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BoxError>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    self.ended = true;
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Poll::Ready(Ok(Some(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.ended = true;
                    if self.forgive_short && is_short(&*error) {
                        return Poll::Ready(Ok(None));
                    }
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    fn is_end(&self) -> bool {
        self.head.is_none()
            && self.data.is_empty()
            && self.rest.is_empty()
            && (self.ended || self.body.is_end_stream())
    }
}

/// An envelope, its message unsealed, and all of a small body.
pub(crate) fn one_message(mut buffer: BytesMut, whole: &Bytes) -> Bytes {
    if !whole.is_empty() {
        envelope::put_payload_head(&mut buffer, 0, whole.len());
        buffer.extend_from_slice(whole);
    }
    sealed(buffer)
}

fn sealed(mut head: BytesMut) -> Bytes {
    envelope::seal(&mut head, 0);
    head.freeze()
}

/// Whether a body ended before its declared length.
pub(crate) fn is_short(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && error.is_incomplete_message()
        {
            return true;
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && error.kind() == std::io::ErrorKind::UnexpectedEof
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A body whose promised length may turn out too long: what came is all there is.
pub(crate) struct Forgiving {
    first: Option<Result<Frame<Bytes>, BoxError>>,
    body: Body,
}

impl Forgiving {
    pub(crate) fn new(body: Body) -> Self {
        Self { first: None, body }
    }

    /// Takes what is here already: a body that is complete has a length to go on with. One that declares a small
    /// length is waited for, as upstream waits for the first piece of any: it goes on together with its head.
    pub(crate) async fn settle(mut body: Body) -> Body {
        if body.is_end_stream() || body.as_whole().is_some() {
            return body;
        }
        let is_small = body
            .size_hint()
            .exact()
            .is_some_and(|length| length <= CHUNK as u64);
        let first = std::future::poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Pending if is_small => Poll::Pending,
            polled => Poll::Ready(polled),
        });
        match first.await {
            Poll::Ready(None) => Body::Empty,
            Poll::Ready(Some(Ok(frame))) => {
                if body.is_end_stream()
                    && let Some(data) = frame.data_ref()
                {
                    return Body::whole(data.clone());
                }
                Body::boxed(Self {
                    first: Some(Ok(frame)),
                    body,
                })
            }
            Poll::Ready(Some(Err(error))) if is_short(&*error) => Body::Empty,
            Poll::Ready(Some(Err(error))) => Body::boxed(Self {
                first: Some(Err(error)),
                body,
            }),
            Poll::Pending => Body::boxed(Self::new(body)),
        }
    }
}

impl http_body::Body for Forgiving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) if is_short(&*error) => Poll::Ready(None),
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }
}

/// A framed answer, its trailers included: the body of a `CallLocalStream` response.
pub(crate) struct FramedReply {
    framed: Framed,
    trailers_sent: bool,
}

impl FramedReply {
    pub(crate) fn new(framed: Framed) -> Self {
        Self {
            framed,
            trailers_sent: false,
        }
    }
}

impl http_body::Body for FramedReply {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.trailers_sent {
            return Poll::Ready(None);
        }
        if !self.framed.is_end() {
            match self.framed.poll_data(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(data)) => return Poll::Ready(Some(data.map(Frame::data))),
                Poll::Ready(None) => {}
            }
        }
        self.trailers_sent = true;
        Poll::Ready(Some(Ok(Frame::trailers(ok_trailers()))))
    }

    fn is_end_stream(&self) -> bool {
        self.trailers_sent
    }
}

/// Reads a body out of its chunks.
pub(crate) struct Payloads {
    messages: Messages,
    /// What came with the envelope.
    first: Option<Bytes>,
    expected: u64,
    /// The length the sender declared, for the next hop's header.
    length: Option<u64>,
    /// What to call an envelope that comes late.
    what: &'static str,
    /// Whether the end carries a status that has to be OK.
    checks_status: bool,
    ended: bool,
}

impl Payloads {
    /// The rest of a request after its first message.
    pub(crate) fn of_request(
        messages: Messages,
        first: StreamMessage,
        length: Option<u64>,
    ) -> Result<Self, String> {
        Self::new(
            messages,
            first,
            length,
            "request metadata found in non-leading chunk",
            false,
        )
    }

    /// The rest of an answer after its first message.
    pub(crate) fn of_response(messages: Messages, first: StreamMessage) -> Result<Self, String> {
        Self::new(
            messages,
            first,
            None,
            "response metadata found in non-leading chunk",
            true,
        )
    }

    fn new(
        messages: Messages,
        first: StreamMessage,
        length: Option<u64>,
        what: &'static str,
        checks_status: bool,
    ) -> Result<Self, String> {
        let mut this = Self {
            messages,
            first: None,
            expected: 0,
            length,
            what,
            checks_status,
            ended: false,
        };
        this.first = this.accept(first)?;
        Ok(this)
    }

    /// Checks the number of a chunk and gives its data.
    fn accept(&mut self, message: StreamMessage) -> Result<Option<Bytes>, String> {
        let Some(payload) = message.payload else {
            return Ok(None);
        };
        if payload.seq != self.expected {
            return Err(format!(
                "invalid sequence number received: {} (expected: {})",
                payload.seq, self.expected
            ));
        }
        self.expected += 1;
        Ok((!payload.data.is_empty()).then_some(payload.data))
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        if let Some(data) = self.first.take() {
            return Poll::Ready(Some(Ok(data)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            let failure: BoxError = match self.messages.poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    self.ended = true;
                    return Poll::Ready(self.failure().map(Err));
                }
                Poll::Ready(Some(Err(error))) => receiving(&error).into(),
                Poll::Ready(Some(Ok(message))) => match StreamMessage::read(message) {
                    Err(error) => receiving(&error).into(),
                    Ok(message)
                        if message
                            .envelope
                            .as_ref()
                            .is_some_and(|envelope| !envelope.is_empty()) =>
                    {
                        self.what.into()
                    }
                    Ok(message) => match self.accept(message) {
                        Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                        Ok(None) => continue,
                        Err(error) => error.into(),
                    },
                },
            };
            self.ended = true;
            return Poll::Ready(Some(Err(failure)));
        }
    }

    /// The status at the end, unless it is OK or nobody looks.
    fn failure(&self) -> Option<BoxError> {
        if !self.checks_status {
            return None;
        }
        match self.messages.trailers() {
            None => Some(receiving(&FrameError::Truncated).into()),
            Some(trailers) => status_of(trailers).map(|status| receiving(&status).into()),
        }
    }

    /// Turns into a whole body when everything is here already, which makes the next hop's length known.
    pub(crate) async fn settle(mut self) -> Body {
        let first = self.first.take();
        let next = std::future::poll_fn(|cx| Poll::Ready(self.poll_data(cx))).await;
        match next {
            Poll::Ready(None) => Body::whole(first.unwrap_or_default()),
            Poll::Ready(Some(next)) => Body::boxed(Ahead {
                ready: [first.map(Ok), Some(next)],
                rest: self,
            }),
            Poll::Pending => {
                self.first = first;
                Body::boxed(self)
            }
        }
    }
}

fn receiving(error: &dyn fmt::Display) -> String {
    format!("error receiving message: {error}")
}

impl http_body::Body for Payloads {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.poll_data(cx)
            .map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.first.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Payloads of which some were read ahead.
struct Ahead {
    ready: [Option<Result<Bytes, BoxError>>; 2],
    rest: Payloads,
}

impl http_body::Body for Ahead {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        for slot in &mut self.ready {
            if let Some(data) = slot.take() {
                return Poll::Ready(Some(data.map(Frame::data)));
            }
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.ready.iter().all(Option::is_none) && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.size_hint()
    }
}
