//! gRPC calls of services that the gateway has not itself, passed on as they are: any kind of stream, either way
//! (G3.3).

use std::sync::Arc;

use axum::body::Body as HttpBody;
use axum::response::Response;
use http::{HeaderName, Request, header};
use http_body_util::{BodyStream, StreamBody};
use tonic::Status;
use tonic::body::Body;
use tower::{Service as _, ServiceExt as _};

use super::{Backends, is_plumbing, refuse_sidecars_calls};

/// The metadata key by which a caller names the backend, where several have the gRPC service.
pub const SERVICE_HEADER: HeaderName = HeaderName::from_static("x-virtufin-service");

/// Headers between two ends of one connection, and the length of a body that gRPC-Web's text form made longer.
const HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
];

/// Passes a call on to the backend that has its service.
pub async fn forward(backends: Arc<Backends>, request: Request<HttpBody>) -> Response {
    match pass(&backends, request).await {
        Ok(response) => response,
        Err(status) => status.into_http(),
    }
}

async fn pass(backends: &Backends, mut request: Request<HttpBody>) -> Result<Response, Status> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    if !content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return Err(Status::unimplemented("only gRPC is spoken here"));
    }
    let path = request.uri().path().to_owned();
    let unknown = || Status::unimplemented(format!("neither the gateway nor a backend has {path}"));
    refuse_sidecars_calls(&path)?;
    let grpc_service = path
        .strip_prefix('/')
        .and_then(|path| path.rsplit_once('/'))
        .map(|(service, _)| service)
        .ok_or_else(unknown)?;
    let service = match request.headers_mut().remove(SERVICE_HEADER) {
        Some(name) => backends.service(name.to_str().unwrap_or_default())?,
        // Every backend has these, so that only a name tells whose are meant.
        None if is_plumbing(grpc_service) => return Err(unknown()),
        None => backends.having(grpc_service).await.ok_or_else(unknown)?,
    };
    let mut link = backends.pool().link(&service)?;
    let permit = backends
        .breakers()
        .app(&service.name)
        .admit()
        .map_err(|error| Status::unavailable(error.to_string()))?;
    for name in HOP {
        request.headers_mut().remove(name);
    }
    // Without the length that gRPC-Web's text form had before it was decoded.
    let request = request.map(|body| Body::new(StreamBody::new(BodyStream::new(body))));
    let answer = async { link.ready().await?.call(request).await }.await;
    permit.record(answer.is_err());
    match answer {
        Ok(response) => Ok(response.map(HttpBody::new)),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let cause = cause.unwrap_or_default();
            Err(Status::unavailable(format!("{}: {error}: {cause}", service.name)))
        }
    }
}
