//! gRPC messages of this load, as bytes: too few fields to be worth a compiler of .proto files.
//!
//! Field numbers are those of Dapr's `dapr/proto/runtime/v1/invoke.proto` and `dapr/proto/common/v1/common.proto`.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use anyhow::bail;
use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame};

/// What every call carries.
const PAYLOAD: [u8; 100] = [b'x'; 100];

/// A field with a length: text, bytes or a message.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(value);
    bytes
}

/// A message by name.
pub(crate) fn named(name: &str) -> anyhow::Result<Vec<u8>> {
    Ok(match name {
        "bytes" => PAYLOAD.to_vec(),
        "empty" => Vec::new(),
        "invoke-service" => {
            // POST, as a verb of `HTTPExtension`.
            let extension = [0x08, 0x03];
            let request = [
                field(1, b"echo"),
                field(2, &field(2, &PAYLOAD)),
                field(3, b"application/octet-stream"),
                field(4, &extension),
            ];
            [field(1, b"callee"), field(3, &request.concat())].concat()
        }
        _ => bail!("there is no message {name}"),
    })
}

/// `InvokeResponse`: the app's answer to `OnInvoke`.
pub(crate) fn invoke_response() -> Bytes {
    let response = [
        field(1, &field(2, &PAYLOAD)),
        field(2, b"application/octet-stream"),
    ];
    frame(&response.concat(), false)
}

/// A message in its five-byte frame, in gzip or as it is.
pub(crate) fn frame(message: &[u8], gzip: bool) -> Bytes {
    let message = if gzip { stored(message) } else { message.to_vec() };
    let mut frame = vec![u8::from(gzip)];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

/// A body of one message. It says no length, as gRPC's have none: hyper would make a `content-length` of it, which daprd
/// passes on in front of a message of another length.
#[derive(Debug)]
pub(crate) struct Unary {
    pub(crate) message: Option<Bytes>,
    /// The end of an answer.
    pub(crate) trailers: Option<HeaderMap>,
}

impl Body for Unary {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match self.message.take() {
            Some(message) => Some(Frame::data(message)),
            None => self.trailers.take().map(Frame::trailers),
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && self.trailers.is_none()
    }
}

/// A gzip file of one stored block: what counts is that the other side understands the format.
fn stored(message: &[u8]) -> Vec<u8> {
    let length = message.len() as u16;
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&(!length).to_le_bytes());
    file.extend_from_slice(message);
    file.extend_from_slice(&crc32(message).to_le_bytes());
    file.extend_from_slice(&u32::from(length).to_le_bytes());
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
        crc
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_beyond_a_byte_are_varints() {
        let bytes = field(3, &[0; 300]);
        assert_eq!(bytes[..3], [0x1a, 0xac, 0x02]);
        assert_eq!(bytes.len(), 303);
    }

    #[test]
    fn a_frame_says_its_length() {
        assert_eq!(&frame(b"abc", false)[..], b"\0\0\0\0\x03abc");
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
