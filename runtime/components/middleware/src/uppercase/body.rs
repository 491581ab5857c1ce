//! Capitals in a stream of bytes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use outrigger_middleware::{Body, BoxError};

/// Turns UTF-8 text into capitals, chunk by chunk; letters may lie across chunks. Bytes that are no text become
/// U+FFFD, as Go's rune reader has it.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// The begun letter at the end of the last chunk, at most three bytes.
    begun: Vec<u8>,
}

impl Letters {
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Vec<u8> {
        let joined;
        let mut rest = if self.begun.is_empty() {
            chunk
        } else {
            joined = [std::mem::take(&mut self.begun).as_slice(), chunk].concat();
            &joined
        };
        let mut out = Vec::with_capacity(rest.len());
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    capitals(text, &mut out);
                    return out;
                }
                Err(error) => {
                    let (text, after) = rest.split_at(error.valid_up_to());
                    capitals(std::str::from_utf8(text).unwrap_or_default(), &mut out);
                    if error.error_len().is_none() {
                        self.begun = after.to_vec();
                        return out;
                    }
                    // Go's reader gives up on one byte at a time.
                    push(char::REPLACEMENT_CHARACTER, &mut out);
                    rest = &after[1..];
                }
            }
        }
    }

    /// What is left when nothing follows.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in std::mem::take(&mut self.begun) {
            push(char::REPLACEMENT_CHARACTER, &mut out);
        }
        out
    }
}

fn capitals(text: &str, out: &mut Vec<u8>) {
    for letter in text.chars() {
        push(capital(letter), out);
    }
}

fn push(letter: char, out: &mut Vec<u8>) {
    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Unicode's simple mapping, one letter for one letter. The standard library knows the full mapping (`ß` → `SS`);
/// where the two differ the letter stays, but for the Greek letters with an iota below, whose simple capital is
/// another code point.
fn capital(letter: char) -> char {
    if letter.is_ascii() {
        return letter.to_ascii_uppercase();
    }
    let mut full = letter.to_uppercase();
    if let (Some(only), None) = (full.next(), full.next()) {
        return only;
    }
    let code = u32::from(letter);
    let simple = match code {
        0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7 => code + 8,
        0x1fb3 | 0x1fc3 | 0x1ff3 => code + 9,
        _ => code,
    };
    char::from_u32(simple).unwrap_or(letter)
}

/// A body in capitals.
#[derive(Debug)]
pub(super) struct UppercaseBody {
    inner: Body,
    letters: Letters,
    ended: bool,
}

impl UppercaseBody {
    pub(super) fn new(inner: Body) -> Self {
        Self {
            inner,
            letters: Letters::default(),
            ended: false,
        }
    }
}

impl HttpBody for UppercaseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => {
                        let text = self.letters.feed(&chunk);
                        // A chunk may hold nothing but the beginning of a letter.
                        if !text.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(text.into()))));
                        }
                    }
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.ended = true;
                    let text = self.letters.finish();
                    return Poll::Ready((!text.is_empty()).then(|| Ok(Frame::data(text.into()))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || (self.inner.is_end_stream() && self.letters.begun.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
