//! The page's files, embedded in the binary.

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header;

use super::Gateway;

/// Path, content type and content.
const FILES: [(&str, &str, &str); 4] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("../../web/index.html"),
    ),
    (
        "/app.css",
        "text/css; charset=utf-8",
        include_str!("../../web/app.css"),
    ),
    (
        "/app.js",
        "text/javascript; charset=utf-8",
        include_str!("../../web/app.js"),
    ),
    ("/icon.svg", "image/svg+xml", include_str!("../../web/icon.svg")),
];

pub(super) fn routes() -> Router<Gateway> {
    FILES
        .into_iter()
        .fold(Router::new(), |router, (path, kind, content)| {
            let file = move || async move {
                // The files change with the binary only, but a port may see many binaries.
                (
                    [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")],
                    content,
                )
                    .into_response()
            };
            router.route(path, get(file))
        })
}
