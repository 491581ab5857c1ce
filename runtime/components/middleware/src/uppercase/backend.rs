//! The handler.

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_LENGTH};
use outrigger_middleware::{Body, Middleware, Next};

use super::{
    UppercaseConfig,
    body::{Letters, UppercaseBody},
};

/// Makes letters of bodies capitals while they stream by.
#[derive(Debug)]
pub struct Uppercase {
    config: UppercaseConfig,
}

impl Uppercase {
    /// A handler.
    #[must_use]
    pub fn new(config: UppercaseConfig) -> Self {
        Self { config }
    }
}

/// A body that is here stays so, with its new length; one that streams loses its announced length, because a
/// capital letter may have more or fewer bytes.
fn transform(body: Body, headers: &mut HeaderMap) -> Body {
    match body {
        Body::Empty => Body::Empty,
        Body::Whole(bytes) => {
            let mut letters = Letters::default();
            let mut text = letters.feed(&bytes);
            text.extend(letters.finish());
            if headers.contains_key(CONTENT_LENGTH) {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
            }
            Body::whole(text)
        }
        streaming => {
            headers.remove(CONTENT_LENGTH);
            Body::boxed(UppercaseBody::new(streaming))
        }
    }
}

impl Middleware for Uppercase {
    fn handle(&self, mut request: Request<Body>, next: Box<dyn Next>) -> BoxFuture<'_, Response<Body>> {
        let UppercaseConfig {
            request: of_request,
            response: of_response,
        } = self.config;
        Box::pin(async move {
            if of_request {
                let (mut head, body) = request.into_parts();
                let body = transform(body, &mut head.headers);
                request = Request::from_parts(head, body);
            }
            let response = next.run(request).await;
            if !of_response {
                return response;
            }
            let (mut head, body) = response.into_parts();
            let body = transform(body, &mut head.headers);
            Response::from_parts(head, body)
        })
    }
}
