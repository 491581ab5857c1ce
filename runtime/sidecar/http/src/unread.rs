//! What a handler leaves unread of a request.
//!
//! hyper closes a connection whose request was answered before it had come in whole, and a client that is still sending
//! then often sees the broken connection instead of the answer. Go's server reads on for a while before it answers
//! (`net/http`, `maxPostHandlerReadBytes`), and clients of Dapr's expect the same.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use outrigger_sidecar_api::Body;
use parking_lot::Mutex;

/// A body of a known length up to this is read from the connection's buffer by hyper itself.
const SMALL: u64 = 8 * 1024;
/// Most that is read of what nobody wants, as in Go.
const MOST: usize = 256 << 10;
/// Longest that an answer waits for it. Go has no bound.
const LONGEST: Duration = Duration::from_secs(5);

/// What a handler left.
#[derive(Debug, Default)]
pub(crate) struct Unread(Option<Arc<Mutex<Option<Incoming>>>>);

impl Unread {
    /// Gives a request's body to a handler, and notes what it will leave.
    pub(crate) fn of(request: Request<Incoming>) -> (Request<Body>, Self) {
        let body = request.body();
        let is_small = body.size_hint().exact().is_some_and(|length| length <= SMALL);
        // Whoever waits to be asked for the body has sent none of it.
        if is_small || body.is_end_stream() || request.headers().contains_key(header::EXPECT) {
            return (request.map(Body::from), Self::default());
        }
        let left = Arc::new(Mutex::new(None));
        let request = request.map(|body| {
            Body::boxed(Lent {
                body: Some(body),
                left: Arc::clone(&left),
            })
        });
        (request, Self(Some(left)))
    }

    /// Reads the rest, within bounds. A body that somebody still reads is left alone.
    pub(crate) async fn read(self) {
        let Some(mut body) = self.0.and_then(|left| left.lock().take()) else {
            return;
        };
        let rest = async {
            let mut length = 0;
            while let Some(Ok(frame)) = body.frame().await {
                length += frame.data_ref().map_or(0, Bytes::len);
                if length > MOST {
                    return;
                }
            }
        };
        // Too slow or too long: the connection closes, as it would have at once.
        let _ = tokio::time::timeout(LONGEST, rest).await;
    }
}

/// A body that comes back when it is dropped unfinished.
struct Lent {
    body: Option<Incoming>,
    left: Arc<Mutex<Option<Incoming>>>,
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, |body| body.size_hint())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && !body.is_end_stream()
        {
            *self.left.lock() = Some(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Response;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Answers without a look at the request, as a refusal does. What the client gets, and whether it could send all.
    async fn refused(head: &str, body: &[u8], pause: Duration) -> (String, bool) {
        let (mut client, server) = tokio::io::duplex(1024);
        let refuse = service_fn(|request: Request<Incoming>| async {
            let (request, unread) = Unread::of(request);
            drop(request);
            unread.read().await;
            Ok::<_, std::convert::Infallible>(Response::new(Body::whole("refused")))
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), refuse),
        );
        client.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(pause).await;
        let is_sent = client.write_all(body).await.is_ok();
        let mut answer = vec![0; 4096];
        let length = client.read(&mut answer).await.unwrap_or_default();
        (String::from_utf8_lossy(&answer[..length]).into_owned(), is_sent)
    }

    #[tokio::test(start_paused = true)]
    async fn who_still_sends_gets_the_answer() {
        let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (answer, is_sent) = refused(chunked, b"5\r\nhello\r\n0\r\n\r\n", Duration::from_secs(1)).await;
        assert!(is_sent);
        // The connection goes on: nothing says that it closes.
        assert!(
            answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("refused"),
            "{answer}"
        );
        assert!(!answer.contains("close"), "{answer}");

        let declared = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n";
        let (answer, is_sent) = refused(declared, &[b'x'; 100_000], Duration::from_secs(1)).await;
        assert!(is_sent && answer.ends_with("refused"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_ends_does_not_keep_a_connection() {
        let declared = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n";
        let (answer, is_sent) = refused(declared, &vec![b'x'; 10_000_000], Duration::ZERO).await;
        assert!(!is_sent && answer.ends_with("refused"), "{answer}");
        let (answer, _) = refused(declared, b"", Duration::ZERO).await;
        assert!(answer.ends_with("refused"), "{answer}");
    }
}
