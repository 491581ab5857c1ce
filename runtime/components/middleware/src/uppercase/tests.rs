use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures::{future::BoxFuture, stream};
use http::{Request, Response, header::CONTENT_LENGTH};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use outrigger_component::{Host, Properties, Spec};
use outrigger_middleware::{Body, BodyNeed, Middleware, Next};

use super::UPPERCASE;

/// Answers with the request's body and headers.
struct Mirror;

impl Next for Mirror {
    fn run(self: Box<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let mut response = Response::new(body);
            *response.headers_mut() = head.headers;
            response
        })
    }
}

/// Answers with small letters.
struct Fixed;

impl Next for Fixed {
    fn run(self: Box<Self>, _request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async { Response::new(Body::whole("answer")) })
    }
}

async fn handler(direction: &str) -> Arc<dyn Middleware> {
    let spec = Spec {
        name: "u".into(),
        type_name: "middleware.http.uppercase".into(),
        version: "v1".into(),
        properties: Properties::from_pairs([("direction", direction)]),
    };
    (UPPERCASE.validate)(&spec)
        .unwrap()
        .run(Host::new("app", "/"))
        .await
        .unwrap()
}

fn streaming(bytes: &[u8], size: usize) -> Body {
    let frames: Vec<_> = bytes
        .chunks(size)
        .map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect();
    Body::boxed(StreamBody::new(stream::iter(frames)))
}

async fn through(direction: &str, body: Body, next: Box<dyn Next>) -> Response<Bytes> {
    let handler = handler(direction).await;
    assert_eq!(handler.body_need(), BodyNeed::None);
    let request = Request::builder()
        .header(CONTENT_LENGTH, "999")
        .body(body)
        .unwrap();
    let (head, body) = handler.handle(request, next).await.into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn requests_change_by_default() {
    for direction in ["", "request", "anything"] {
        let response = through(direction, Body::whole("ché 😀 123"), Box::new(Mirror)).await;
        assert_eq!(response.body(), "CHÉ 😀 123");
        assert_eq!(response.headers()[CONTENT_LENGTH], "13");
    }
    assert_eq!(
        through("", Body::whole("x"), Box::new(Fixed)).await.body(),
        "answer"
    );
}

#[tokio::test]
async fn responses_change_when_asked() {
    for direction in ["response", "BOTH"] {
        assert_eq!(
            through(direction, Body::Empty, Box::new(Fixed)).await.body(),
            "ANSWER"
        );
    }
    let response = through("both", streaming("é".as_bytes(), 1), Box::new(Mirror)).await;
    assert_eq!(response.body(), "É");
}

#[tokio::test]
async fn letters_across_chunks_and_broken_ones() {
    let text = "aé😀ß".as_bytes();
    for size in 1..=text.len() {
        let response = through("", streaming(text, size), Box::new(Mirror)).await;
        assert_eq!(response.body(), "AÉ😀ß");
        assert!(!response.headers().contains_key(CONTENT_LENGTH));
    }
    for (bytes, expected) in [
        (b"a\xffb".as_slice(), "A\u{fffd}B"),
        (b"a\xc3", "A\u{fffd}"),
        (b"\xf0\x9fz", "\u{fffd}\u{fffd}Z"),
        ("ᾀŉ".as_bytes(), "ᾈŉ"),
    ] {
        for size in [1, 2, 100] {
            assert_eq!(
                through("", streaming(bytes, size), Box::new(Mirror)).await.body(),
                expected
            );
        }
    }
}
