//! Messages counted and bounded as they pass (wire.md §3: both directions take at most `--max-body-size`).
//!
//! grpc-go refuses a message by its announced length, before reading it; so does [`Meter`]. tonic's own limits are
//! off: their code and text differ.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use outrigger_sidecar_api::{Body, BoxError};
use tonic::Status;

/// Length of what stands before each message: a flag and a big-endian length.
const PREFIX: usize = 5;

/// A message is longer than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong {
    pub(crate) len: u64,
    pub(crate) limit: u64,
}

impl TooLong {
    pub(crate) fn received(self) -> Status {
        Status::resource_exhausted(format!(
            "grpc: received message larger than max ({} vs. {})",
            self.len, self.limit
        ))
    }

    pub(crate) fn sent(self) -> Status {
        Status::resource_exhausted(format!(
            "grpc: trying to send message larger than max ({} vs. {})",
            self.len, self.limit
        ))
    }
}

/// Follows the messages of a body.
#[derive(Debug)]
pub(crate) struct Meter {
    limit: u64,
    prefix: [u8; PREFIX],
    prefix_len: usize,
    /// What is still to come of the message under way.
    left: u64,
    /// Bytes of all messages so far, without prefixes.
    pub(crate) total: u64,
}

impl Meter {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            prefix: [0; PREFIX],
            prefix_len: 0,
            left: 0,
            total: 0,
        }
    }

    /// Takes note of the next piece, however it is cut.
    pub(crate) fn pass(&mut self, mut data: &[u8]) -> Result<(), TooLong> {
        while !data.is_empty() {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len());
                self.left -= skip as u64;
                data = &data[skip..];
                continue;
            }
            let take = (PREFIX - self.prefix_len).min(data.len());
            self.prefix[self.prefix_len..self.prefix_len + take].copy_from_slice(&data[..take]);
            self.prefix_len += take;
            data = &data[take..];
            if self.prefix_len == PREFIX {
                let [_, a, b, c, d] = self.prefix;
                let len = u64::from(u32::from_be_bytes([a, b, c, d]));
                if len > self.limit {
                    return Err(TooLong {
                        len,
                        limit: self.limit,
                    });
                }
                self.prefix_len = 0;
                self.left = len;
                self.total += len;
            }
        }
        Ok(())
    }
}

/// What is known of a request's messages.
#[derive(Debug, Default)]
pub(crate) struct Received {
    total: AtomicU64,
    too_long: OnceLock<TooLong>,
}

impl Received {
    /// Bytes of all messages, without prefixes.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// What the caller is to get when a message was too long, whatever came of the call by that.
    pub(crate) fn refusal(&self) -> Option<Status> {
        self.too_long.get().map(|too_long| too_long.received())
    }
}

/// A request's body under a meter. Past the limit it fails with the status that the caller is to get.
#[derive(Debug)]
pub(crate) struct Metered {
    body: Body,
    meter: Meter,
    received: Arc<Received>,
}

impl Metered {
    pub(crate) fn new(body: Body, limit: u64, received: Arc<Received>) -> Self {
        Self {
            body,
            meter: Meter::new(limit),
            received,
        }
    }
}

impl http_body::Body for Metered {
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
            if let Err(too_long) = self.meter.pass(data) {
                self.body = Body::Empty;
                let _ = self.received.too_long.set(too_long);
                return Poll::Ready(Some(Err(too_long.received().into())));
            }
            self.received.total.store(self.meter.total, Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
        bytes.resize(PREFIX + len, 7);
        bytes
    }

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let bytes = [message(3), message(0), message(70)].concat();
        for size in [1, 2, 4, 5, 6, 7, bytes.len()] {
            let mut meter = Meter::new(70);
            bytes
                .chunks(size)
                .try_for_each(|piece| meter.pass(piece))
                .unwrap();
            assert_eq!(
                (meter.total, meter.left, meter.prefix_len),
                (73, 0, 0),
                "pieces of {size}"
            );
        }
    }

    #[test]
    fn a_long_message_is_refused_by_its_announcement() {
        let mut meter = Meter::new(70);
        meter.pass(&message(70)).unwrap();
        let too_long = meter.pass(&message(71)[..PREFIX]).unwrap_err();
        assert_eq!(
            too_long.received().message(),
            "grpc: received message larger than max (71 vs. 70)"
        );
    }
}
