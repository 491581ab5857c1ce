//! Connections against a peer in the same process.

use std::io;

use http_body_util::BodyExt as _;
use outrigger_middleware::Body;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::*;

/// A connection and the peer's end of its stream.
fn stream() -> (Box<dyn PeerStream>, DuplexStream) {
    let (here, there) = tokio::io::duplex(1 << 20);
    (Box::new(here), there)
}

async fn accept(stream: DuplexStream) -> h2::server::Connection<DuplexStream, Bytes> {
    h2::server::handshake(stream).await.unwrap()
}

fn call(body: PeerBody) -> Request<PeerBody> {
    Request::post("http://peer/call").body(body).unwrap()
}

/// Notes how long each write is.
struct Noting {
    stream: DuplexStream,
    writes: Arc<Mutex<Vec<usize>>>,
}

impl AsyncRead for Noting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Noting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.lock().push(bytes.len());
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_call_and_its_body_go_out_as_one_write() {
    let (here, there) = tokio::io::duplex(1 << 20);
    tokio::spawn(async move {
        let mut peer = accept(there).await;
        while let Some(Ok((_request, mut respond))) = peer.accept().await {
            respond.send_response(Response::new(()), true).unwrap();
        }
    });
    let writes = Arc::new(Mutex::new(Vec::new()));
    let noting = Noting {
        stream: here,
        writes: Arc::clone(&writes),
    };
    let connection = Connection::open(Box::new(noting), "peer".into()).await.unwrap();
    let hello = || call(PeerBody::Once(Some(Bytes::from_static(b"hello"))));
    // The first one goes out amid settings.
    for _ in 0..2 {
        writes.lock().clear();
        let answer = connection.send(hello()).await.map_err(|failure| failure.error);
        assert!(answer.unwrap().into_body().is_end_stream());
    }
    // Two heads of nine bytes, at least.
    let writes = writes.lock().clone();
    assert!(matches!(*writes, [length] if length > 18 + 5), "{writes:?}");
}

#[tokio::test]
async fn a_body_larger_than_any_window_gets_through() {
    let (here, there) = stream();
    let peer = tokio::spawn(async move {
        let mut peer = accept(there).await;
        let (request, mut respond) = peer.accept().await.unwrap().unwrap();
        let reading = tokio::spawn(async move {
            let mut body = request.into_body();
            let mut length = 0;
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                length += data.len();
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            let mut trailers = http::HeaderMap::new();
            trailers.insert("length", length.into());
            let mut answer = respond.send_response(Response::new(()), false).unwrap();
            answer.send_data(Bytes::from_static(b"read"), false).unwrap();
            answer.send_trailers(trailers).unwrap();
        });
        while peer.accept().await.is_some() {}
        reading.await.unwrap();
    });
    let connection = Connection::open(here, "peer".into()).await.unwrap();
    let body = PeerBody::Raw(Body::whole(vec![7; 3_000_000]));
    let answer = connection.send(call(body)).await.map_err(|failure| failure.error);
    let answer = answer.unwrap().into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["length"], "3000000");
    assert_eq!(answer.to_bytes(), "read");
    drop(connection);
    peer.await.unwrap();
}

#[tokio::test]
async fn who_waits_no_more_ends_the_call_at_the_peer() {
    let (here, there) = stream();
    let peer = tokio::spawn(async move {
        let mut peer = accept(there).await;
        let (_request, mut respond) = peer.accept().await.unwrap().unwrap();
        let reset = tokio::spawn(async move { poll_fn(|cx| respond.poll_reset(cx)).await });
        while peer.accept().await.is_some() {}
        reset.await.unwrap()
    });
    let connection = Connection::open(here, "peer".into()).await.unwrap();
    // A body that never ends.
    let endless =
        http_body_util::StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, BoxError>>());
    let endless = PeerBody::Raw(Body::boxed(endless));
    let waiting = tokio::time::timeout(Duration::from_millis(100), connection.send(call(endless)));
    assert!(waiting.await.is_err());
    drop(connection);
    assert_eq!(peer.await.unwrap().unwrap(), Reason::CANCEL);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_given_up() {
    let (here, _there) = stream();
    let connection = Connection::open(here, "peer".into()).await.unwrap();
    let request = call(PeerBody::Once(Some(Bytes::new())));
    let failure = connection.send(request).await.unwrap_err();
    assert!(failure.unsent.is_none());
    assert!(connection.is_closed());
    let failure = connection.send(call(PeerBody::Once(None))).await.unwrap_err();
    assert!(failure.refused && failure.unsent.is_some());
}
