//! The bounds of bodies: how long a request's may be (`--max-body-size`), how many answers' are under way.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use outrigger_sidecar_api::{Body, BoxError};
use tokio::sync::OwnedSemaphorePermit;

/// A longer answer, or one of unknown length, is under way until it is sent. The socket's buffer takes a shorter one.
const SENT_AT_ONCE: u64 = 64 << 10;

/// The body holds more than the server takes. The text is upstream's.
#[derive(Debug, Clone, Copy)]
pub struct TooLarge;

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stream too large")
    }
}

impl std::error::Error for TooLarge {}

/// A body that fails with [`TooLarge`] past its bound; streaming otherwise.
#[derive(Debug)]
pub struct LimitedBody {
    body: Body,
    left: u64,
}

impl LimitedBody {
    /// Bounds a body. A body known to fit stays as it is, so the usual case costs nothing.
    #[must_use]
    pub fn bound(body: Body, limit: u64) -> Body {
        if body.size_hint().upper().is_some_and(|upper| upper <= limit) {
            return body;
        }
        Body::boxed(Self { body, left: limit })
    }
}

impl http_body::Body for LimitedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.left = 0;
                    self.body = Body::Empty;
                    return Poll::Ready(Some(Err(TooLarge.into())));
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Keeps an answer's place among those under way until it has been sent or given up. A short one frees it now, so the
/// usual case costs nothing.
pub(crate) fn until_sent(body: Body, place: OwnedSemaphorePermit) -> Body {
    if body
        .size_hint()
        .upper()
        .is_some_and(|upper| upper <= SENT_AT_ONCE)
    {
        return body;
    }
    body.holding(place)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn a_long_answer_keeps_its_place_until_it_is_sent() {
        let places = Arc::new(Semaphore::new(1));
        let place = || Arc::clone(&places).try_acquire_owned();
        let short = until_sent(Body::from(Bytes::from_static(b"short")), place().unwrap());
        let long = until_sent(Body::from(Bytes::from(vec![0; 70_000])), place().unwrap());
        assert!(place().is_err(), "the long answer is under way");
        drop(long);
        assert!(place().is_ok(), "the short one was not");
        drop(short);
    }
}
