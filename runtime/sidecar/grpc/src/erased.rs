//! A gRPC service without its type.

use std::{convert::Infallible, fmt, sync::Arc};

use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;
use tower_service::Service;

type Handle = dyn Fn(Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>> + Send + Sync;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Erased(Arc<Handle>);

impl fmt::Debug for Erased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Erased")
    }
}

impl Erased {
    pub(crate) fn new<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Self(Arc::new(move |request| Box::pin(service.clone().call(request))))
    }

    pub(crate) async fn call(&self, request: Request<Body>) -> Response<Body> {
        match (self.0)(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
