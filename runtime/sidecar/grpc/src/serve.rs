//! Connections (wire.md §3; upstream `pkg/api/grpc/server.go`).

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use outrigger_batching::{Crowd, after_others};
use outrigger_sidecar_api::{Body as RawBody, Switch};
use outrigger_sidecar_http::Bound;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, body::Body};

use crate::{GrpcServer, MAX_IN_FLIGHT};

/// Connections that are still busy this long after the shutdown began are cut (as on the HTTP side).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without calls is asked to go after this long.
const MAX_IDLE: Duration = Duration::from_secs(3 * 60);
/// A client that says nothing for so long is pinged…
const PING_AFTER: Duration = Duration::from_secs(10);
/// …and lost if it does not answer within this.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Flow control windows: large enough to keep a local connection busy.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const LOG: &str = "dapr.runtime.grpc.api";

/// Accepts and serves until `shutdown`, then lets calls finish, for ten seconds at most.
/// What `server` switches to answers from its next call on, also on connections that are open.
pub async fn serve(bound: Bound, server: impl Into<Switch<GrpcServer>>, shutdown: CancellationToken) {
    let server = server.into();
    let tasks = TaskTracker::new();
    match bound {
        Bound::Tcp(listener) => loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    tasks.spawn(connection(stream, server.clone(), shutdown.clone()));
                }
                Err(error) => accept_failed(&error).await,
            }
        },
        Bound::Unix(listener, path) => {
            loop {
                let accepted = tokio::select! {
                    () = shutdown.cancelled() => break,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, _)) => {
                        tasks.spawn(connection(stream, server.clone(), shutdown.clone()));
                    }
                    Err(error) => accept_failed(&error).await,
                }
            }
            let _ = std::fs::remove_file(path);
        }
    }
    tasks.close();
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, tasks.wait()).await;
}

/// Out of descriptors, most likely: wait for some to come free instead of spinning.
async fn accept_failed(error: &std::io::Error) {
    tracing::warn!(target: LOG, "cannot accept a connection: {error}");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn connection<S>(stream: S, server: Switch<GrpcServer>, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let calls = Calls::default();
    let idle = calls.idle();
    let crowd = Crowd::default();
    let joining = crowd.clone();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        // Clients would take it for metadata of the answer; grpc-go sends none.
        .auto_date_header(false)
        // Upstream multiplies the buffer size by 1024 a second time.
        .max_header_list_size(u32::try_from(server.current().read_buffer_size() << 10).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(u32::try_from(MAX_IN_FLIGHT).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT);
    let service = service_fn(move |request: Request<Incoming>| {
        let server = server.clone();
        let call = calls.begin();
        let member = joining.join();
        async move {
            let _member = member;
            let response: Response<Body> = server.current().call(request.map(RawBody::from)).await;
            Ok::<_, Infallible>(response.map(|body| Busy { body, _call: call }))
        }
    });
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    let finished = after_others(crowd, async {
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            finished = serving.as_mut() => finished,
            () = async { tokio::select! { () = shutdown.cancelled() => {} () = idle => {} } } => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        }
    })
    .await;
    if let Err(error) = finished {
        tracing::debug!(target: LOG, "connection ended: {error}");
    }
}

/// The calls of one connection.
#[derive(Debug, Clone, Default)]
struct Calls(Arc<watch::Sender<usize>>);

/// One of them.
#[derive(Debug)]
struct CallGuard(Calls);

impl Calls {
    fn begin(&self) -> CallGuard {
        self.0.send_modify(|calls| *calls += 1);
        CallGuard(self.clone())
    }

    /// Done once there was no call for [`MAX_IDLE`].
    fn idle(&self) -> impl Future<Output = ()> + use<> {
        let mut calls = self.0.subscribe();
        async move {
            while calls.wait_for(|calls| *calls == 0).await.is_ok() {
                let busy = calls.wait_for(|calls| *calls > 0);
                if tokio::time::timeout(MAX_IDLE, busy).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.0.0.send_modify(|calls| *calls -= 1);
    }
}

/// A body that keeps its connection from being idle.
struct Busy {
    body: Body,
    _call: CallGuard,
}

impl http_body::Body for Busy {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
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

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_three_minutes_after_its_last_call() {
        let calls = Calls::default();
        let idle = tokio::spawn(calls.idle());
        let call = calls.begin();
        tokio::time::sleep(MAX_IDLE * 2).await;
        assert!(!idle.is_finished());
        drop(call);
        tokio::time::sleep(MAX_IDLE - Duration::from_secs(1)).await;
        assert!(!idle.is_finished());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(idle.is_finished());
    }
}
