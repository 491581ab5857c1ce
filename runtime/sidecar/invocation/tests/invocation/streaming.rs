//! Bodies that are passed on while they are still being sent.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use outrigger_middleware::Body;
use outrigger_sidecar_app_channel::Protocol;

use crate::{
    pair,
    support::{App, text},
};

/// An app that sends one event, waits, and sends another.
async fn event_app(gate: Arc<tokio::sync::Notify>) -> App {
    App::http(move |request| {
        let gate = Arc::clone(&gate);
        async move {
            if request.uri().path() != "/events" {
                let mut response = Response::new(Body::Empty);
                *response.status_mut() = StatusCode::NOT_FOUND;
                return response;
            }
            assert_eq!(request.headers()["accept"], "text/event-stream");
            let events = futures::stream::unfold(0, move |n| {
                let gate = Arc::clone(&gate);
                async move {
                    if n == 1 {
                        gate.notified().await;
                    }
                    (n < 2).then(|| {
                        (
                            Ok::<_, Infallible>(Frame::data(Bytes::from(format!("data: {n}\n\n")))),
                            n + 1,
                        )
                    })
                }
            });
            let mut response = Response::new(Body::boxed(StreamBody::new(Box::pin(sync(events)))));
            response
                .headers_mut()
                .insert("content-type", "text/event-stream".parse().unwrap());
            response
        }
    })
    .await
}

/// Streams of test bodies are polled by one task at a time; a mutex makes them `Sync`.
fn sync<S: futures::Stream + Send>(stream: S) -> impl futures::Stream<Item = S::Item> + Send + Sync {
    let stream = std::sync::Mutex::new(Box::pin(stream));
    futures::stream::poll_fn(move |cx| stream.lock().unwrap().poll_next_unpin(cx))
}

#[tokio::test]
async fn events_arrive_as_they_are_sent() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let (caller, callee) = pair(event_app(Arc::clone(&gate)).await, Protocol::Http).await;
    for sidecar in [&caller, &callee] {
        let request = Request::get(sidecar.url("/v1.0/invoke/callee/method/events"))
            .header("accept", "text/event-stream");
        let response = sidecar.http(request.body(Body::Empty).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        let mut body = response.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(
            first, "data: 0\n\n",
            "the first event does not wait for the second"
        );
        gate.notify_one();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "data: 1\n\n");
    }
    let request =
        Request::get(caller.url("/v1.0/invoke/callee/method/foo")).header("accept", "text/event-stream");
    let response = caller.http(request.body(Body::Empty).unwrap()).await;
    assert_eq!(
        text(response).await,
        r#"{"errorCode":"ERR_DIRECT_INVOKE","message":"failed to invoke, id: callee, err: rpc error: code = Internal desc = error invoking app channel: no response received from stream"}"#
    );
}

#[tokio::test]
async fn responses_stream_while_the_app_still_sends() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let handler_gate = Arc::clone(&gate);
    let app = App::http(move |_| {
        let gate = Arc::clone(&handler_gate);
        async move {
            let chunks = futures::stream::unfold(0, move |n: u32| {
                let gate = Arc::clone(&gate);
                async move {
                    if n == 1 {
                        gate.notified().await;
                    }
                    (n < 2).then(|| {
                        (
                            Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'A' + n as u8; 16 * 1024]))),
                            n + 1,
                        )
                    })
                }
            });
            Response::new(Body::boxed(StreamBody::new(Box::pin(sync(chunks)))))
        }
    })
    .await;
    let (caller, _callee) = pair(app, Protocol::Http).await;
    let mut body = caller.get("/v1.0/invoke/callee/method/x").await.into_body();
    let mut first = 0;
    while first < 16 * 1024 {
        first += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    gate.notify_one();
    assert_eq!(body.collect().await.unwrap().to_bytes(), vec![b'B'; 16 * 1024]);
}

#[tokio::test]
async fn big_bodies_pass_without_being_held() {
    const TOTAL: usize = 64 << 20;
    const CHUNK: usize = 256 * 1024;
    // The app counts what it gets and answers as much.
    let app = App::http(|request: Request<Body>| async move {
        let mut body = request.into_body();
        let mut seen = 0;
        while let Some(frame) = body.frame().await {
            seen += frame.unwrap().into_data().map_or(0, |data| data.len());
        }
        let chunk = Bytes::from(vec![b'x'; CHUNK]);
        let chunks = futures::stream::iter(
            (0..seen / CHUNK).map(move |_| Ok::<_, Infallible>(Frame::data(chunk.clone()))),
        );
        let mut response = Response::new(Body::boxed(StreamBody::new(chunks)));
        response
            .headers_mut()
            .insert("seen", seen.to_string().parse().unwrap());
        response
    })
    .await;
    let (caller, _callee) = pair(app, Protocol::Http).await;
    // Warm up, then watch the process.
    assert_eq!(caller.get("/v1.0/invoke/callee/method/x").await.status(), 200);
    let before = resident();
    let peak = Arc::new(AtomicUsize::new(0));
    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    let watch = Arc::clone(&peak);
    let chunks = futures::stream::iter((0..TOTAL / CHUNK).map(move |_| {
        watch.fetch_max(resident(), SeqCst);
        Ok::<_, Infallible>(Frame::data(chunk.clone()))
    }));
    let request =
        Request::post(caller.url("/v1.0/invoke/callee/method/x")).body(Body::boxed(StreamBody::new(chunks)));
    let response = caller.http(request.unwrap()).await;
    assert_eq!(response.headers()["seen"], TOTAL.to_string());
    let mut body = response.into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        peak.fetch_max(resident(), SeqCst);
        read += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    assert_eq!(read, TOTAL);
    let growth = peak.load(SeqCst).saturating_sub(before);
    // App, client and both sidecars are in this process, each with buffers of its own.
    assert!(growth < 40 << 20, "memory grew by {} MiB", growth >> 20);
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
