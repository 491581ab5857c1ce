//! HTTP/1.1 requests that ask to go on in HTTP/2 (RFC 7540 §3.2, `Upgrade: h2c`).
//!
//! Deprecated since RFC 9113, but Dapr's server offers it. hyper has no such upgrade; its HTTP/2 server expects the
//! request that asked for it as stream 1 on the new connection. So the connection is handed over through a reader
//! that lets the client's preface and first SETTINGS frame pass and then slips in that request as a HEADERS frame.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use outrigger_sidecar_api::Body;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// The client's connection preface.
const PREFACE: usize = 24;
/// Header of every frame.
const FRAME_HEADER: usize = 9;
/// A first SETTINGS frame longer than this is not one (every setting takes six bytes).
const MAX_SETTINGS: usize = 1024;

/// Whether a request asks to go on in HTTP/2 and can: it has no body that would have to be read first.
pub(crate) fn is_asked(request: &Request<Incoming>) -> bool {
    let has = |name: HeaderName, wanted: &str| {
        request.headers().get_all(name).iter().any(|value| {
            value.to_str().is_ok_and(|text| {
                text.split(',')
                    .any(|token| token.trim().eq_ignore_ascii_case(wanted))
            })
        })
    };
    request.version() == Version::HTTP_11
        && request.body().is_end_stream()
        && request.headers().contains_key(SETTINGS)
        && has(header::UPGRADE, "h2c")
        && has(header::CONNECTION, "upgrade")
}

/// The answer that switches protocols.
pub(crate) fn switching() -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("h2c"));
    response
}

/// The upgraded connection as hyper's HTTP/2 server reads it.
pub(crate) struct Continued {
    io: TokioIo<Upgraded>,
    /// Bytes of the preface and first SETTINGS frame read so far, until they are whole.
    head: Option<Vec<u8>>,
    /// Bytes that the server shall read next.
    ready: Vec<u8>,
    at: usize,
    request: Vec<u8>,
}

impl Continued {
    /// A connection that continues with this request.
    pub(crate) fn new(upgraded: Upgraded, request: &FirstRequest) -> Self {
        Self {
            io: TokioIo::new(upgraded),
            head: Some(Vec::with_capacity(128)),
            ready: Vec::new(),
            at: 0,
            request: request.frame(),
        }
    }
}

/// The request that asked for the upgrade.
#[derive(Debug)]
pub(crate) struct FirstRequest {
    method: Method,
    path: String,
    authority: String,
    headers: HeaderMap,
}

impl FirstRequest {
    pub(crate) fn of(request: &Request<Incoming>) -> Self {
        let mut headers = request.headers().clone();
        let authority = headers
            .remove(header::HOST)
            .and_then(|host| host.to_str().ok().map(str::to_owned))
            .unwrap_or_default();
        for name in [
            header::CONNECTION,
            header::UPGRADE,
            SETTINGS,
            header::TRANSFER_ENCODING,
        ] {
            headers.remove(name);
        }
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned();
        Self {
            method: request.method().clone(),
            path,
            authority,
            headers,
        }
    }

    /// A HEADERS frame of stream 1 that ends headers and stream; every field a literal that is not indexed.
    fn frame(&self) -> Vec<u8> {
        let mut block = Vec::new();
        push_field(&mut block, b":method", self.method.as_str().as_bytes());
        push_field(&mut block, b":scheme", b"http");
        push_field(&mut block, b":path", self.path.as_bytes());
        if !self.authority.is_empty() {
            push_field(&mut block, b":authority", self.authority.as_bytes());
        }
        for (name, value) in &self.headers {
            push_field(&mut block, name.as_str().as_bytes(), value.as_bytes());
        }
        let length = u32::try_from(block.len()).unwrap_or(0).to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], 0x1, 0x4 | 0x1, 0, 0, 0, 1];
        frame.extend_from_slice(&block);
        frame
    }
}

fn push_field(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        push_length(block, text.len());
        block.extend_from_slice(text);
    }
}

/// An HPACK integer with a prefix of seven bits (RFC 7541 §5.1), no Huffman coding.
fn push_length(block: &mut Vec<u8>, length: usize) {
    let Ok(short) = u8::try_from(length) else {
        return push_long(block, length);
    };
    if short < 0x7f {
        block.push(short)
    } else {
        push_long(block, length)
    }
}

fn push_long(block: &mut Vec<u8>, length: usize) {
    block.push(0x7f);
    let mut rest = length - 0x7f;
    while rest >= 0x80 {
        block.push(u8::try_from(rest % 0x80).unwrap_or(0) | 0x80);
        rest /= 0x80;
    }
    block.push(u8::try_from(rest).unwrap_or(0));
}

/// How long preface and first frame are, once enough of them is known.
fn head_length(head: &[u8]) -> Option<usize> {
    let frame = head.get(PREFACE..PREFACE + 3)?;
    let payload = usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2]);
    Some(PREFACE + FRAME_HEADER + payload)
}

impl AsyncRead for Continued {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.at < this.ready.len() {
                let count = out.remaining().min(this.ready.len() - this.at);
                out.put_slice(&this.ready[this.at..this.at + count]);
                this.at += count;
                if this.at == this.ready.len() {
                    this.ready = Vec::new();
                    this.at = 0;
                }
                return Poll::Ready(Ok(()));
            }
            let Some(head) = &mut this.head else {
                return Pin::new(&mut this.io).poll_read(cx, out);
            };
            let mut chunk = [0; 512];
            let mut buffer = ReadBuf::new(&mut chunk);
            match Pin::new(&mut this.io).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => head.extend_from_slice(buffer.filled()),
            }
            match head_length(head) {
                Some(length) if length > PREFACE + FRAME_HEADER + MAX_SETTINGS => {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Some(length) if head.len() >= length => {
                    let rest = head.split_off(length);
                    this.ready = this.head.take().unwrap_or_default();
                    this.ready.append(&mut this.request);
                    this.ready.extend_from_slice(&rest);
                }
                _ => {}
            }
        }
    }
}

impl AsyncWrite for Continued {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_becomes_a_headers_frame() {
        let request = FirstRequest {
            method: Method::GET,
            path: format!("/{}", "a".repeat(300)),
            authority: "localhost".to_owned(),
            headers: HeaderMap::new(),
        };
        let frame = request.frame();
        assert_eq!(&frame[3..9], [1, 5, 0, 0, 0, 1]);
        let length = usize::from(frame[1]) << 8 | usize::from(frame[2]);
        assert_eq!(frame.len(), FRAME_HEADER + length);
    }

    #[test]
    fn lengths_are_hpack_integers() {
        let encoded = |length| {
            let mut block = Vec::new();
            push_length(&mut block, length);
            block
        };
        assert_eq!(encoded(10), [10]);
        assert_eq!(encoded(126), [126]);
        assert_eq!(encoded(127), [0x7f, 0]);
        assert_eq!(encoded(1337), [0x7f, 0xba, 0x09]);
    }
}
