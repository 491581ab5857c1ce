//! An HTTP app in this process.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};

/// Serves until dropped.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) port: u16,
    _accepting: JoinSet<()>,
}

impl App {
    /// Answers with whatever `handler` makes of a request.
    pub(crate) async fn start<F, Fut>(handler: F) -> Self
    where
        F: Fn(Request<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response<Bytes>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let handler = Arc::new(handler);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let handler = Arc::clone(&handler);
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let handler = Arc::clone(&handler);
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body
                            .collect()
                            .await
                            .map(|body| body.to_bytes())
                            .unwrap_or_default();
                        let response = handler(Request::from_parts(head, body)).await;
                        Ok::<_, Infallible>(response.map(Full::new))
                    }
                });
                connections.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            port,
            _accepting: accepting,
        }
    }

    /// Answers every request with its method, path, query and body.
    pub(crate) async fn echo() -> Self {
        Self::start(|request| async move {
            if request.uri().path().starts_with("/dapr/") {
                return status(404);
            }
            let target = request
                .uri()
                .path_and_query()
                .map_or("", |target| target.as_str());
            let mut body = format!("{} {target} ", request.method()).into_bytes();
            body.extend_from_slice(request.body());
            let mut response = Response::new(Bytes::from(body));
            if let Some(kind) = request.headers().get("content-type") {
                response.headers_mut().insert("content-type", kind.clone());
            }
            response
        })
        .await
    }
}

/// An empty answer.
pub(crate) fn status(code: u16) -> Response<Bytes> {
    Response::builder().status(code).body(Bytes::new()).unwrap()
}

/// An answer in JSON.
pub(crate) fn json(value: &serde_json::Value) -> Response<Bytes> {
    let response = Response::builder().header("content-type", "application/json");
    response.body(Bytes::from(value.to_string())).unwrap()
}
