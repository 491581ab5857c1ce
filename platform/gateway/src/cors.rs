//! Requests of pages from other origins: only those that are configured (G3.3).
//!
//! Browsers refuse to hand a page an answer without the right headers, but some requests they send all the same. So a
//! request whose `Origin` is neither configured nor this host's own is refused before it does anything.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use outrigger_platform_service::server::is_own_page;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer, ExposeHeaders};

/// Which origins may ask.
#[derive(Debug, Clone, Default)]
pub struct Origins(Vec<HeaderValue>);

impl Origins {
    /// Reads a list with commas, such as `https://app.example, http://localhost:3000`. `*` is not taken: name the
    /// origins.
    ///
    /// # Errors
    /// With the entry that is no origin.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.split([',', ';'])
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(origin)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Puts the check, and the answers that browsers ask for, before routes.
    pub fn guard(&self, routes: Router) -> Router {
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::list(self.0.clone()))
            .allow_methods(AllowMethods::mirror_request())
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(ExposeHeaders::list([
                HeaderName::from_static("grpc-status"),
                HeaderName::from_static("grpc-message"),
                HeaderName::from_static("grpc-status-details-bin"),
                HeaderName::from_static("subscription-id"),
            ]))
            .max_age(std::time::Duration::from_secs(600));
        routes.layer(layer).layer(from_fn_with_state(self.clone(), check))
    }

    fn allow(&self, request: &Request) -> bool {
        let Some(origin) = request.headers().get(header::ORIGIN) else {
            return true;
        };
        self.0.contains(origin) || is_own_page(request)
    }
}

async fn check(State(origins): State<Origins>, request: Request, next: Next) -> Response {
    if origins.allow(&request) {
        return next.run(request).await;
    }
    (
        StatusCode::FORBIDDEN,
        "this origin may not ask; those in Cors:AllowedOrigins may",
    )
        .into_response()
}

fn origin(text: &str) -> Result<HeaderValue, String> {
    let wrong = || format!("{text:?} is no origin such as https://app.example");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let plain = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some_and(|it| !it.as_str().contains('@'))
        && uri
            .path_and_query()
            .is_none_or(|path| path.as_str() == "/" && !text.ends_with('/'));
    if !plain {
        return Err(wrong());
    }
    HeaderValue::from_str(&text.to_ascii_lowercase()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_named_one_by_one() {
        assert_eq!(Origins::parse("").unwrap().0.len(), 0);
        assert_eq!(
            Origins::parse("https://a.example, http://localhost:3000")
                .unwrap()
                .0
                .len(),
            2
        );
        for text in [
            "*",
            "a.example",
            "https://a.example/",
            "https://a.example/x",
            "ftp://a",
            "https://u@a",
            "null",
        ] {
            assert!(Origins::parse(text).is_err(), "{text}");
        }
    }
}
