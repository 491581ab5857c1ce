//! Who is let in, and when.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;

use super::startup::Startup;
use crate::client::TOKEN_HEADER;
use crate::endpoint::Token;

/// Lets in only who has the app's token.
pub(super) async fn token(State(token): State<Token>, request: Request, next: Next) -> Response {
    let given = request.headers().get(TOKEN_HEADER);
    if given.is_some_and(|given| token.matches(given.as_bytes())) {
        return next.run(request).await;
    }
    let body =
        json!({"error": {"code": "UNAUTHENTICATED", "message": "the app's API token is missing or wrong"}});
    (StatusCode::UNAUTHORIZED, Json(body)).into_response()
}

/// Lets in only when the service is ready; says when to come back otherwise.
pub(super) async fn ready(State(startup): State<Arc<Startup>>, request: Request, next: Next) -> Response {
    if startup.is_ready() {
        return next.run(request).await;
    }
    let body = json!({"error": {"code": "NOT_READY", "message": startup.entry().description}});
    (
        StatusCode::SERVICE_UNAVAILABLE,
        [(header::RETRY_AFTER, "1")],
        Json(body),
    )
        .into_response()
}
