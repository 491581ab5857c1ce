//! gRPC on HTTP/2, raw: messages out of DATA frames, statuses in trailers.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use base64::Engine as _;
use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body as _, Frame};
use outrigger_middleware::{Body, BoxError};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};
use tonic::{Code, Status};

use crate::{envelope::PREFIX, metadata::BINARY};

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
pub(crate) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// What gRPC percent-encodes in messages: all but printable ASCII, and `%`.
const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// Why a message cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("{0}")]
    Transport(#[from] BoxError),
    #[error("grpc: received message larger than max ({len} vs. {limit})")]
    TooLarge { len: usize, limit: usize },
    #[error("grpc: compressed messages are not supported")]
    Compressed,
    #[error("unexpected EOF")]
    Truncated,
}

impl FrameError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Transport(_) => Code::Unavailable,
            Self::TooLarge { .. } => Code::ResourceExhausted,
            Self::Compressed => Code::Unimplemented,
            Self::Truncated => Code::Internal,
        }
    }

    pub(crate) fn to_status(&self) -> Status {
        Status::new(self.code(), self.to_string())
    }
}

/// Messages of a gRPC body. A message within one DATA frame is handed on without a copy.
#[derive(Debug)]
pub(crate) struct Messages {
    body: Body,
    chunk: Bytes,
    partial: BytesMut,
    limit: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl Messages {
    /// `limit` bounds one message.
    pub(crate) fn new(body: Body, limit: usize) -> Self {
        Self {
            body,
            chunk: Bytes::new(),
            partial: BytesMut::new(),
            limit,
            trailers: None,
            ended: false,
        }
    }

    /// The next message, `None` at the end.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, FrameError>>> {
        loop {
            match self.buffered() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.chunk = data,
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.trailers = Some(trailers);
                        }
                    }
                },
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => {
                    self.ended = true;
                    if !self.partial.is_empty() {
                        self.partial.clear();
                        return Poll::Ready(Some(Err(FrameError::Truncated)));
                    }
                    return Poll::Ready(None);
                }
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, FrameError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The trailers, once the end was reached.
    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    fn buffered(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.partial.is_empty() {
            if self.chunk.len() >= PREFIX {
                let len = self.message_len(&self.chunk)?;
                if self.chunk.len() >= PREFIX + len {
                    self.chunk.advance(PREFIX);
                    return Ok(Some(self.chunk.split_to(len)));
                }
                self.partial.reserve(PREFIX + len);
            }
            self.partial.extend_from_slice(&self.chunk);
            self.chunk.clear();
            return Ok(None);
        }
        if self.partial.len() < PREFIX {
            let take = (PREFIX - self.partial.len()).min(self.chunk.len());
            self.partial.extend_from_slice(&self.chunk.split_to(take));
            if self.partial.len() < PREFIX {
                return Ok(None);
            }
        }
        let len = self.message_len(&self.partial)?;
        self.partial
            .reserve((PREFIX + len).saturating_sub(self.partial.len()));
        let take = (PREFIX + len - self.partial.len()).min(self.chunk.len());
        self.partial.extend_from_slice(&self.chunk.split_to(take));
        if self.partial.len() < PREFIX + len {
            return Ok(None);
        }
        let mut message = self.partial.split().freeze();
        message.advance(PREFIX);
        Ok(Some(message))
    }

    fn message_len(&self, bytes: &[u8]) -> Result<usize, FrameError> {
        if bytes[0] != 0 {
            return Err(FrameError::Compressed);
        }
        let len = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
        if len > self.limit {
            return Err(FrameError::TooLarge {
                len,
                limit: self.limit,
            });
        }
        Ok(len)
    }
}

/// The status in headers or trailers; `None` where there is none or it is OK.
pub(crate) fn status_of(headers: &HeaderMap) -> Option<Status> {
    let code = headers.get(GRPC_STATUS)?;
    let code = Code::from_bytes(code.as_bytes());
    if code == Code::Ok {
        return None;
    }
    let message = headers
        .get(GRPC_MESSAGE)
        .map(|value| percent_decode(value.as_bytes()).decode_utf8_lossy().into_owned())
        .unwrap_or_default();
    let details = headers
        .get(GRPC_DETAILS)
        .and_then(|value| BINARY.decode(value.as_bytes()).ok())
        .unwrap_or_default();
    Some(Status::with_details(code, message, details.into()))
}

/// The code in headers or trailers, OK included.
pub(crate) fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers
        .get(GRPC_STATUS)
        .map(|value| Code::from_bytes(value.as_bytes()))
}

/// The code as it is written, known to gRPC or not.
pub(crate) fn raw_code_of(headers: &HeaderMap) -> Option<i32> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// What a response without usable trailers means (gRPC's HTTP to gRPC mapping).
pub(crate) fn status_of_http(status: StatusCode) -> Status {
    let code = match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    Status::new(
        code,
        format!("unexpected HTTP status code received from server: {status}"),
    )
}

/// Trailers that say OK.
pub(crate) fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}

/// A status as headers or trailers.
pub(crate) fn put_status(headers: &mut HeaderMap, status: &Status) {
    headers.insert(GRPC_STATUS, HeaderValue::from(status.code() as i32));
    if !status.message().is_empty() {
        let message = utf8_percent_encode(status.message(), MESSAGE).to_string();
        if let Ok(value) = HeaderValue::from_str(&message) {
            headers.insert(GRPC_MESSAGE, value);
        }
    }
    if !status.details().is_empty()
        && let Ok(value) = HeaderValue::from_str(&BINARY.encode(status.details()))
    {
        headers.insert(GRPC_DETAILS, value);
    }
    for entry in status.metadata().iter() {
        match entry {
            tonic::metadata::KeyAndValueRef::Ascii(key, value) => {
                if let (Ok(name), Ok(value)) = (
                    HeaderName::from_bytes(key.as_str().as_bytes()),
                    HeaderValue::from_bytes(value.as_encoded_bytes()),
                ) {
                    headers.append(name, value);
                }
            }
            tonic::metadata::KeyAndValueRef::Binary(key, value) => {
                if let (Ok(name), Ok(value)) = (
                    HeaderName::from_bytes(key.as_str().as_bytes()),
                    HeaderValue::from_bytes(value.as_encoded_bytes()),
                ) {
                    headers.append(name, value);
                }
            }
        }
    }
}

/// An answer of nothing but a status.
pub(crate) fn status_response(status: &Status) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    put_status(headers, status);
    response
}

/// One message and trailers that say OK: the answer of a unary call.
pub(crate) fn unary_response(message: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::boxed(Unary {
        message: Some(message),
        ended: false,
    }));
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

struct Unary {
    message: Option<Bytes>,
    ended: bool,
}

impl http_body::Body for Unary {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::replace(&mut self.ended, true) {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::trailers(ok_trailers()))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::StreamBody;

    use super::*;

    fn messages(chunks: Vec<Vec<u8>>, limit: usize) -> Messages {
        let frames = chunks
            .into_iter()
            .map(|chunk| Ok::<_, std::io::Error>(Frame::data(Bytes::from(chunk))));
        Messages::new(Body::boxed(StreamBody::new(stream::iter(frames))), limit)
    }

    fn framed(text: &str) -> Vec<u8> {
        let mut out = vec![0, 0, 0, 0, u8::try_from(text.len()).unwrap()];
        out.extend_from_slice(text.as_bytes());
        out
    }

    #[tokio::test]
    async fn messages_come_whole_however_they_are_cut() {
        let all: Vec<u8> = ["hello", "", "world!", "x"]
            .iter()
            .flat_map(|text| framed(text))
            .collect();
        for size in 1..=all.len() {
            let mut messages = messages(all.chunks(size).map(<[u8]>::to_vec).collect(), 16);
            for text in ["hello", "", "world!", "x"] {
                assert_eq!(messages.next().await.unwrap().unwrap(), text, "cut every {size}");
            }
            assert!(messages.next().await.is_none());
        }
    }

    #[tokio::test]
    async fn messages_are_bounded_and_complete() {
        assert!(matches!(
            messages(vec![framed("hello")], 4).next().await,
            Some(Err(FrameError::TooLarge { .. }))
        ));
        assert!(matches!(
            messages(vec![vec![0, 0, 0]], 4).next().await,
            Some(Err(FrameError::Truncated))
        ));
        assert!(matches!(
            messages(vec![vec![1, 0, 0, 0, 0]], 4).next().await,
            Some(Err(FrameError::Compressed))
        ));
    }

    #[test]
    fn statuses_survive_headers() {
        let mut headers = HeaderMap::new();
        put_status(
            &mut headers,
            &Status::with_details(Code::Aborted, "50 % of ü\n", Bytes::from_static(b"d")),
        );
        let status = status_of(&headers).unwrap();
        assert_eq!(
            (status.code(), status.message(), status.details()),
            (Code::Aborted, "50 % of ü\n", &b"d"[..])
        );
        assert!(status_of(&ok_trailers()).is_none());
    }
}
