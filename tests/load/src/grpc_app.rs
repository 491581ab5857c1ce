//! The gRPC app: every method gives its message back, `OnInvoke` an answer of the same size.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::message::{self, Unary};

const ON_INVOKE: &str = "/dapr.proto.runtime.v1.AppCallback/OnInvoke";

/// Serves until killed. What a sidecar asks at its start has an empty message, so its echo is an empty answer.
pub(crate) async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    let invoked = message::invoke_response();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let invoked = invoked.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let invoked = invoked.clone();
            async move {
                let fixed = (request.uri().path() == ON_INVOKE).then_some(invoked);
                let message = read(request.into_body()).await?;
                Ok::<_, hyper::Error>(respond(fixed.unwrap_or(message)))
            }
        });
        tokio::spawn(async move {
            // A sidecar that leaves ends its connections; nobody is left to tell.
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// The whole body; a message of this load comes in one piece, which is then not copied.
async fn read(mut body: Incoming) -> Result<Bytes, hyper::Error> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn respond(message: Bytes) -> Response<Unary> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut response = Response::new(Unary {
        message: Some(message),
        trailers: Some(trailers),
    });
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
