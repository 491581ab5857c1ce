//! The page of live prices: files, and where its gateway is.

use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use http::header;
use serde_json::json;

use crate::pipeline::results_topics;

/// Path, content type and content.
const FILES: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("../web/index.html")),
    (
        "/app.css",
        "text/css; charset=utf-8",
        include_str!("../web/app.css"),
    ),
    (
        "/app.js",
        "text/javascript; charset=utf-8",
        include_str!("../web/app.js"),
    ),
    (
        "/grpcweb.js",
        "text/javascript; charset=utf-8",
        include_str!("../web/grpcweb.js"),
    ),
    ("/icon.svg", "image/svg+xml", include_str!("../web/icon.svg")),
];

/// Where the page finds the gateway.
#[derive(Debug, Clone)]
pub enum Gateway {
    /// On the host that the page came from, at the gateway's gRPC-Web port.
    Beside(u16),
    /// At an address.
    At(String),
}

/// The page's routes.
pub fn routes(gateway: Gateway) -> Router {
    let config = match gateway {
        Gateway::Beside(port) => json!({"gatewayPort": port, "topics": results_topics()}),
        Gateway::At(address) => json!({"gateway": address, "topics": results_topics()}),
    };
    let files = FILES
        .into_iter()
        .fold(Router::new(), |router, (path, kind, content)| {
            // The files change with the binary only, but a port may see many binaries.
            let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
            router.route(
                path,
                get(move || async move { (headers, content).into_response() }),
            )
        });
    files.route("/config.json", get(move || async move { Json(config) }))
}
