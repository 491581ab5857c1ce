//! From chunks of any size to segments, and through the cipher.

use bytes::{Buf, Bytes};
use futures::{Stream, StreamExt};
use outrigger_component::Error;

use super::{
    BoxError, SEGMENT_SIZE,
    file_key::{FileKey, OVERHEAD},
};

/// Which way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Encrypt,
    Decrypt,
}

impl Direction {
    fn input_size(self) -> usize {
        match self {
            Self::Encrypt => SEGMENT_SIZE,
            Self::Decrypt => SEGMENT_SIZE + OVERHEAD,
        }
    }
}

/// The input's error in its own words, as upstream passes it on.
fn passed_on(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    Error::invalid(text)
}

struct State<S> {
    input: S,
    /// What of the last chunk is not in a segment yet.
    chunk: Bytes,
    key: FileKey,
    direction: Direction,
    number: u32,
    finished: bool,
}

/// The segments of a document whose first bytes are in `first`.
pub(super) fn process<S, E>(
    input: S,
    first: Bytes,
    key: FileKey,
    direction: Direction,
) -> impl Stream<Item = Result<Bytes, Error>> + Send
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: Into<BoxError> + 'static,
{
    let state = State {
        input,
        chunk: first,
        key,
        direction,
        number: 0,
        finished: false,
    };
    futures::stream::try_unfold(state, |mut state| async move {
        Ok(state.next().await?.map(|segment| (segment, state)))
    })
}

impl<S, E> State<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<BoxError>,
{
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.finished {
            return Ok(None);
        }
        let size = self.direction.input_size();
        // One allocation per segment: it leaves as the output.
        let mut segment = Vec::with_capacity(SEGMENT_SIZE + OVERHEAD);
        // A full segment is the last one only if no byte follows it, so one more must be seen first.
        loop {
            let taken = self.chunk.len().min(size - segment.len());
            segment.extend_from_slice(&self.chunk[..taken]);
            self.chunk.advance(taken);
            if !self.chunk.is_empty() {
                break;
            }
            match self.input.next().await {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => return Err(passed_on(&*error.into())),
                None => {
                    self.finished = true;
                    break;
                }
            }
        }
        if segment.is_empty() {
            // Nothing at all: an empty document.
            return Ok(None);
        }
        let (number, last) = (self.number, self.finished);
        let (done, failure) = match self.direction {
            Direction::Encrypt => (
                self.key.seal(&mut segment, number, last),
                "failed to encrypt segment",
            ),
            Direction::Decrypt => (
                self.key.open(&mut segment, number, last),
                "failed to decrypt segment",
            ),
        };
        if !done {
            return Err(Error::invalid(format!(
                "error processing segment {number}: {failure}"
            )));
        }
        if !last {
            self.number = number
                .checked_add(1)
                .ok_or_else(|| Error::invalid("input stream is too large"))?;
        }
        Ok(Some(segment.into()))
    }
}
