//! More at once than a server takes is refused at once, in the words of its protocol, and serving goes on afterwards.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::SendRequest,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinSet};

use crate::support::{PATIENCE, client::get, eventually, sidecar::Launch};

/// `MAX_IN_FLIGHT` of both servers (`runtime/sidecar/http`, `runtime/sidecar/grpc`): the documented limit.
const LIMIT: usize = 16_384;
/// How many more are sent.
const BEYOND: usize = 300;
/// Streams on one connection; what the HTTP server allows.
const STREAMS: usize = 1000;
/// What a full sidecar may hold, in KiB: 48 for each request under way.
const MEMORY: u64 = 48 * LIMIT as u64;

/// A body that never ends: its request stays under way for as long as the body lives.
type Endless = StreamBody<futures::stream::Pending<Result<Frame<Bytes>, Infallible>>>;

async fn connect(port: u16) -> SendRequest<Endless> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

/// Opens that many requests that never end, and one answer of each that is refused.
async fn fill(port: u16, request: fn(u16) -> Request<Endless>) -> (JoinSet<Response<Incoming>>, usize) {
    let mut open = JoinSet::new();
    let mut sent = 0;
    while sent < LIMIT + BEYOND {
        let sender = connect(port).await;
        for _ in 0..STREAMS.min(LIMIT + BEYOND - sent) {
            let mut sender = sender.clone();
            open.spawn(async move {
                sender.ready().await.unwrap();
                sender.send_request(request(port)).await.unwrap()
            });
            sent += 1;
        }
    }
    (open, sent)
}

/// The next answers, as many as there must be refusals; then nothing more may come.
async fn refusals(open: &mut JoinSet<Response<Incoming>>) -> Vec<Response<Incoming>> {
    let mut refused = Vec::new();
    while refused.len() < BEYOND {
        let next = tokio::time::timeout(PATIENCE, open.join_next()).await;
        refused.push(
            next.unwrap_or_else(|_| panic!("only {} are refused", refused.len()))
                .unwrap()
                .unwrap(),
        );
    }
    let more = tokio::time::timeout(Duration::from_millis(500), open.join_next()).await;
    assert!(
        more.is_err(),
        "more are refused than are beyond the limit: {more:?}"
    );
    refused
}

fn endless() -> Endless {
    StreamBody::new(futures::stream::pending())
}

#[tokio::test]
async fn the_http_server_answers_503_beyond_its_limit() {
    let mut sidecar = Launch::new("flooded")
        .component("store", "state.in-memory", &[])
        .start()
        .await;
    let (mut open, _) = fill(sidecar.http, |port| {
        Request::post(format!("http://127.0.0.1:{port}/v1.0/state/store"))
            .body(endless())
            .unwrap()
    })
    .await;
    for refusal in refusals(&mut open).await {
        assert_eq!(refusal.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refusal.headers()["retry-after"], "1");
    }
    let (now, _) = sidecar.memory();
    eprintln!("{LIMIT} requests are under way: {now} KiB");
    assert!(now < MEMORY, "{now} KiB");
    let refused = get(&sidecar.url("/v1.0/state/store/key")).await.unwrap();
    assert_eq!(
        (refused.status, refused.text().trim()),
        (503, "too many requests are under way")
    );
    open.shutdown().await;
    eventually("it serves again", || async {
        get(&sidecar.url("/v1.0/state/store/key"))
            .await
            .ok()
            .filter(|answer| answer.status == 204)
    })
    .await;
    sidecar.assert_alive().await;
}

#[tokio::test]
async fn the_grpc_server_answers_resource_exhausted_beyond_its_limit() {
    let mut sidecar = Launch::new("flooded").start().await;
    let (mut open, _) = fill(sidecar.grpc, |port| {
        Request::post(format!(
            "http://127.0.0.1:{port}/dapr.proto.runtime.v1.Dapr/SaveState"
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(endless())
        .unwrap()
    })
    .await;
    for refusal in refusals(&mut open).await {
        let code = match refusal.headers().get("grpc-status") {
            Some(code) => code.clone(),
            None => refusal.into_body().collect().await.unwrap().trailers().unwrap()["grpc-status"].clone(),
        };
        assert_eq!(code, "8");
    }
    let (now, _) = sidecar.memory();
    eprintln!("{LIMIT} requests are under way: {now} KiB");
    assert!(now < MEMORY, "{now} KiB");
    // The other server has a bound of its own.
    sidecar.assert_alive().await;
    open.shutdown().await;
    let mut dapr = sidecar.dapr().await;
    eventually("it serves again", || {
        let mut dapr = dapr.clone();
        async move {
            dapr.get_metadata(outrigger_wire::dapr::proto::runtime::v1::GetMetadataRequest {})
                .await
                .ok()
        }
    })
    .await;
    dapr.get_metadata(outrigger_wire::dapr::proto::runtime::v1::GetMetadataRequest {})
        .await
        .unwrap();
}

#[tokio::test]
async fn an_app_is_given_no_more_than_it_asked_for() {
    use crate::support::app::{self, App};
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&inside), Arc::clone(&most));
    let app = App::start(move |_| {
        let (inside, most) = (Arc::clone(&counters.0), Arc::clone(&counters.1));
        async move {
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Time for others to come in, were they let.
            tokio::time::sleep(Duration::from_millis(5)).await;
            inside.fetch_sub(1, Ordering::SeqCst);
            app::status(200)
        }
    })
    .await;
    let sidecar = Launch::new("slow")
        .args(["--app-max-concurrency", "3"])
        .start_with_app(app.port)
        .await;
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let url = sidecar.url("/v1.0/invoke/slow/method/work");
        calls.spawn(async move { get(&url).await.unwrap().status });
    }
    assert!(calls.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(most.load(Ordering::SeqCst), 3);
}
