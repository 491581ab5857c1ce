//! What every answer to a browser carries, and which requests are no browser's own.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::Gateway;
use crate::reply::Refusal;

const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Refuses changes that another site's page sends here, then adds the headers of a careful site.
pub(super) async fn headers(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = if !safe && !same_site(request.headers()) {
        Refusal::new(
            StatusCode::FORBIDDEN,
            "OTHER_SITE",
            "this change was asked for by another site",
        )
        .into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if let Ok(name) = HeaderValue::from_str(&gateway.instance.name) {
        headers.insert(super::GATEWAY_HEADER, name);
    }
    response
}

/// The page is there from the start; what needs the sidecar says when to come back until the sidecar is there.
pub(super) async fn ready(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    if gateway.ready.is_cancelled() {
        return next.run(request).await;
    }
    Refusal::unavailable("the gateway is waiting for its sidecar").into_response()
}

/// Programs send no `Origin`; browsers do, and it must be this very host.
fn same_site(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    !host.is_empty()
        && origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_site_may_change_things() {
        let check = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8080"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            same_site(&headers)
        };
        assert!(check(None) && check(Some("http://127.0.0.1:8080")));
        for other in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:80801",
            "http://127.0.0.1:8081",
        ] {
            assert!(!check(Some(other)), "{other}");
        }
    }
}
