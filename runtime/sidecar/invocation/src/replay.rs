//! Request bodies that may be sent more than once (design §4, I1, I4).
//!
//! A body that is here whole is simply sent again. A longer one of known length keeps the chunks that were read
//! until an answer's head arrives, as long as the process-wide budget has room for it; any other streams, and once a
//! byte of it was read there is no further attempt.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use outrigger_middleware::{Body, BoxError};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies up to this length are read whole before they are sent: one message, nothing to record.
const WHOLE: u64 = 64 * 1024;
/// Unit of the budget, in bytes.
const UNIT: u64 = 1024;

/// How many bytes of request bodies may be kept for retries, for all sidecars of a process together.
#[derive(Clone)]
pub struct ReplayBudget(Arc<Semaphore>);

impl ReplayBudget {
    /// A budget of that many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / UNIT as usize)))
    }

    fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(units).ok()
    }
}

impl Default for ReplayBudget {
    /// 16 MiB.
    fn default() -> Self {
        Self::new(16 << 20)
    }
}

impl fmt::Debug for ReplayBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBudget")
            .field("free", &(self.0.available_permits() * UNIT as usize))
            .finish()
    }
}

/// The body of an invocation, for all its attempts.
#[derive(Debug, Clone)]
pub(crate) enum RequestBody {
    Whole(Bytes),
    Stream(Arc<Source>),
}

/// A body that is read as it is sent.
pub(crate) struct Source {
    state: Mutex<State>,
    length: Option<u64>,
}

struct State {
    body: Body,
    /// What was read so far, while it may be needed again.
    chunks: Vec<Bytes>,
    /// Where the current reader is in `chunks`.
    position: usize,
    /// Present while chunks are kept.
    budget: Option<OwnedSemaphorePermit>,
    /// The reader that may read; a retry outdates the one before.
    generation: u32,
    started: bool,
    ended: bool,
}

impl RequestBody {
    /// Prepares a body. `length` is what the request declares.
    ///
    /// # Errors
    /// When a short body cannot be read.
    pub(crate) async fn prepare(
        body: Body,
        length: Option<u64>,
        budget: &ReplayBudget,
    ) -> Result<Self, BoxError> {
        if let Some(bytes) = body.as_whole() {
            return Ok(Self::Whole(bytes));
        }
        if body.is_end_stream() || length == Some(0) {
            return Ok(Self::Whole(Bytes::new()));
        }
        if length.is_some_and(|length| length <= WHOLE) {
            return read_whole(body).await.map(Self::Whole);
        }
        let permit = length.and_then(|length| budget.take(length));
        Ok(Self::Stream(Arc::new(Source {
            state: Mutex::new(State {
                body,
                chunks: Vec::new(),
                position: 0,
                budget: permit,
                generation: 0,
                started: false,
                ended: false,
            }),
            length,
        })))
    }

    /// Whether a further attempt can send the same bytes.
    pub(crate) fn can_replay(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Stream(source) => {
                let state = source.state.lock();
                !state.started || state.budget.is_some()
            }
        }
    }

    /// Lets go of what was kept: an answer has come.
    pub(crate) fn answered(&self) {
        if let Self::Stream(source) = self {
            let mut state = source.state.lock();
            state.budget = None;
            if state.position == state.chunks.len() {
                state.chunks = Vec::new();
                state.position = 0;
            }
        }
    }

    /// The body for one attempt.
    pub(crate) fn reader(&self) -> Body {
        match self {
            Self::Whole(bytes) => Body::whole(bytes.clone()),
            Self::Stream(source) => Body::boxed(source.reader()),
        }
    }

    /// Reads everything, up to `limit` bytes.
    ///
    /// # Errors
    /// When the body breaks or is longer.
    pub(crate) async fn collect(&self, limit: usize) -> Result<Bytes, BoxError> {
        match self {
            Self::Whole(bytes) => Ok(bytes.clone()),
            Self::Stream(source) => collect(Body::boxed(source.reader()), limit).await,
        }
    }
}

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn collect(mut body: Body, limit: usize) -> Result<Bytes, BoxError> {
    if let Some(bytes) = body.as_whole() {
        return Ok(bytes);
    }
    let mut all = Gather::default();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if all.len() + data.len() > limit {
                return Err(format!("body is larger than {limit} bytes").into());
            }
            all.push(data);
        }
    }
    Ok(all.finish())
}

async fn read_whole(body: Body) -> Result<Bytes, BoxError> {
    collect(body, usize::MAX).await
}

/// Joins chunks; a single one is not copied.
#[derive(Default)]
struct Gather {
    first: Bytes,
    rest: BytesMut,
}

impl Gather {
    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn push(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.first = data;
            return;
        }
        if self.rest.is_empty() {
            self.rest.reserve(self.first.len() + data.len());
            self.rest.extend_from_slice(&self.first);
            self.first = Bytes::new();
        }
        self.rest.extend_from_slice(&data);
    }

    fn finish(self) -> Bytes {
        if self.rest.is_empty() {
            self.first
        } else {
            self.rest.freeze()
        }
    }
}

impl Source {
    pub(crate) fn reader(self: &Arc<Self>) -> SourceReader {
        let mut state = self.state.lock();
        state.generation += 1;
        state.position = 0;
        SourceReader {
            source: Arc::clone(self),
            generation: state.generation,
        }
    }

    fn poll(&self, generation: u32, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.generation != generation {
            return Poll::Ready(Some(Err("the request is being retried".into())));
        }
        if let Some(chunk) = state.chunks.get(state.position) {
            let chunk = chunk.clone();
            state.position += 1;
            if state.budget.is_none() && state.position == state.chunks.len() {
                state.chunks = Vec::new();
                state.position = 0;
            }
            return Poll::Ready(Some(Ok(chunk)));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        loop {
            match Pin::new(&mut state.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    state.ended = true;
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    state.started = true;
                    state.budget = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers of HTTP requests have no place in the envelope.
                    let Ok(data) = frame.into_data() else { continue };
                    state.started = true;
                    if state.budget.is_some() {
                        state.chunks.push(data.clone());
                        state.position += 1;
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
            }
        }
    }

    fn is_end(&self, generation: u32) -> bool {
        let state = self.state.lock();
        state.generation == generation
            && state.position >= state.chunks.len()
            && (state.ended || state.body.is_end_stream())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Reads a [`Source`] for one attempt.
#[derive(Debug)]
pub(crate) struct SourceReader {
    source: Arc<Source>,
    generation: u32,
}

impl http_body::Body for SourceReader {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.source
            .poll(self.generation, cx)
            .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end(self.generation)
    }

    fn size_hint(&self) -> SizeHint {
        // Only before the first read; nobody asks later.
        self.source
            .length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::StreamBody;

    use super::*;

    fn streamed(chunks: usize, size: usize) -> Body {
        let frames =
            (0..chunks).map(move |i| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![i as u8; size]))));
        Body::boxed(StreamBody::new(stream::iter(frames)))
    }

    #[tokio::test]
    async fn bodies_within_the_budget_are_sent_again() {
        let budget = ReplayBudget::new(1 << 20);
        let body = RequestBody::prepare(streamed(4, 50_000), Some(200_000), &budget)
            .await
            .unwrap();
        let mut first = body.reader();
        first.frame().await.unwrap().unwrap();
        assert!(body.can_replay());
        let second = collect(body.reader(), usize::MAX).await.unwrap();
        assert_eq!(second.len(), 200_000);
        assert!(
            first.frame().await.unwrap().is_err(),
            "the outdated reader must not steal chunks"
        );
        assert!(body.can_replay());
        body.answered();
        assert!(!body.can_replay());
        assert_eq!(budget.0.available_permits(), 1024, "the budget is free again");
    }

    #[tokio::test]
    async fn bodies_over_the_budget_or_without_length_are_sent_once() {
        let budget = ReplayBudget::new(100_000);
        for length in [Some(200_000), None] {
            let body = RequestBody::prepare(streamed(4, 50_000), length, &budget)
                .await
                .unwrap();
            assert!(body.can_replay(), "nothing was read yet");
            let mut reader = body.reader();
            reader.frame().await.unwrap().unwrap();
            assert!(!body.can_replay());
        }
    }

    #[tokio::test]
    async fn short_bodies_are_whole() {
        let body = RequestBody::prepare(streamed(2, 10), Some(20), &ReplayBudget::default())
            .await
            .unwrap();
        assert!(matches!(&body, RequestBody::Whole(bytes) if bytes.len() == 20));
    }
}
