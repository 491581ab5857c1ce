//! A pipeline of handlers, replaceable while requests run.

use std::{collections::VecDeque, sync::Arc};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};

use crate::{Body, BodyNeed, Next, SharedMiddleware};

/// Handlers in the order requests pass them; responses pass them in reverse (A9.3).
#[derive(Debug, Default)]
pub struct Pipeline(ArcSwap<Vec<SharedMiddleware>>);

impl Pipeline {
    /// A pipeline of these handlers.
    #[must_use]
    pub fn new(handlers: Vec<SharedMiddleware>) -> Self {
        Self(ArcSwap::from_pointee(handlers))
    }

    /// Replaces the handlers; requests under way keep theirs.
    pub fn replace(&self, handlers: Vec<SharedMiddleware>) {
        self.0.store(Arc::new(handlers));
    }

    /// Whether there is nothing to run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// Runs a request through all handlers and then `last`.
    pub async fn run(&self, request: Request<Body>, last: Box<dyn Next>) -> Response<Body> {
        let handlers: VecDeque<SharedMiddleware> = self.0.load().iter().cloned().collect();
        step(handlers, request, last).await
    }
}

fn step(
    mut handlers: VecDeque<SharedMiddleware>,
    request: Request<Body>,
    last: Box<dyn Next>,
) -> BoxFuture<'static, Response<Body>> {
    Box::pin(async move {
        let Some(handler) = handlers.pop_front() else {
            return last.run(request).await;
        };
        let rest: Box<dyn Next> = Box::new(Rest { handlers, last });
        match handler.body_need() {
            BodyNeed::None => handler.handle(request, rest).await,
            BodyNeed::Request(limit) => match whole_request(request, limit).await {
                Ok(request) => handler.handle(request, rest).await,
                Err(response) => response,
            },
            BodyNeed::Both(limit) => match whole_request(request, limit).await {
                Ok(request) => {
                    let rest = Box::new(WholeResponse { rest, limit });
                    handler.handle(request, rest).await
                }
                Err(response) => response,
            },
        }
    })
}

struct Rest {
    handlers: VecDeque<SharedMiddleware>,
    last: Box<dyn Next>,
}

impl Next for Rest {
    fn run(self: Box<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        step(self.handlers, request, self.last)
    }
}

/// Reads the answer of the rest before the handler sees it.
struct WholeResponse {
    rest: Box<dyn Next>,
    limit: usize,
}

impl Next for WholeResponse {
    fn run(self: Box<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let (head, body) = self.rest.run(request).await.into_parts();
            match Limited::new(body, self.limit).collect().await {
                Ok(body) => Response::from_parts(head, Body::whole(body.to_bytes())),
                Err(_) => refusal(
                    StatusCode::BAD_GATEWAY,
                    "the response is larger than its middleware can take",
                ),
            }
        })
    }
}

async fn whole_request(request: Request<Body>, limit: usize) -> Result<Request<Body>, Response<Body>> {
    let (head, body) = request.into_parts();
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(Request::from_parts(head, Body::whole(body.to_bytes()))),
        Err(_) => Err(refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the request is larger than its middleware can take",
        )),
    }
}

fn refusal(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::whole(text));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Middleware;

    #[derive(Debug)]
    struct Mark(&'static str, BodyNeed);

    impl Middleware for Mark {
        fn body_need(&self) -> BodyNeed {
            self.1
        }
        fn handle(&self, mut request: Request<Body>, next: Box<dyn Next>) -> BoxFuture<'_, Response<Body>> {
            Box::pin(async move {
                request.headers_mut().append("in", self.0.parse().unwrap());
                let mut response = next.run(request).await;
                response.headers_mut().append("out", self.0.parse().unwrap());
                response
            })
        }
    }

    struct Echo;

    impl Next for Echo {
        fn run(self: Box<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
            Box::pin(async move {
                let (head, body) = request.into_parts();
                let mut response = Response::new(body);
                *response.headers_mut() = head.headers;
                response
            })
        }
    }

    #[tokio::test]
    async fn requests_pass_in_order_and_responses_in_reverse() {
        let pipeline = Pipeline::new(vec![
            Arc::new(Mark("a", BodyNeed::None)),
            Arc::new(Mark("b", BodyNeed::Both(16))),
        ]);
        let response = pipeline
            .run(Request::new(Body::whole("hello")), Box::new(Echo))
            .await;
        let all = |name| {
            response
                .headers()
                .get_all(name)
                .iter()
                .map(|v| v.to_str().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(all("in"), ["a", "b"]);
        assert_eq!(all("out"), ["b", "a"]);
        assert_eq!(response.into_body().as_whole().unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_body_over_the_need_is_refused() {
        let pipeline = Pipeline::new(vec![Arc::new(Mark("a", BodyNeed::Request(4)))]);
        let response = pipeline
            .run(Request::new(Body::whole("hello")), Box::new(Echo))
            .await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
