//! What the HTTP port serves: the gateway's own methods by their rules, the routes that have none, backends' methods by
//! theirs, the OpenAPI document with its page.

mod grpc;
mod openapi;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use outrigger_platform_transcoding::{LiveRoutes, Transcoder, Upstream};
use outrigger_platform_wire::descriptor_pool;

use crate::api::{GatewayApi, NAMES};

pub use openapi::document;

/// All routes. `own` answers the gateway's own methods, `live` has those of backends. Where both claim a path the
/// gateway's own comes first.
pub fn routes(api: GatewayApi, own: impl Upstream, live: Arc<LiveRoutes>) -> Router {
    let transcoder = Arc::new(Transcoder::new(descriptor_pool(), &NAMES));
    let own: Arc<dyn Upstream> = Arc::new(own);
    let document_of = Arc::clone(&live);
    let fallback = move |request: Request<Body>| {
        let (transcoder, own, live) = (Arc::clone(&transcoder), Arc::clone(&own), Arc::clone(&live));
        async move { answer(&transcoder, own.as_ref(), &live, request).await }
    };
    grpc::routes(api)
        .merge(openapi::routes(document_of))
        .fallback(fallback)
}

async fn answer(own: &Transcoder, upstream: &dyn Upstream, live: &LiveRoutes, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path());
    // Another method at one of our paths is for us to refuse, unless a backend has it.
    let refused = || !own.methods(path).is_empty() && !live.matches(&method, path);
    if own.matches(&method, path) || refused() {
        own.handle(upstream, request).await
    } else {
        live.handle(request).await
    }
}
