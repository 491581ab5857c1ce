//! Requests over HTTP: what arrives at the app, what comes back, and what cannot be called.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use outrigger_middleware::Body;
use outrigger_sidecar_app_channel::Protocol;

use crate::{
    pair,
    support::{App, echo_app, raw_get, text},
};

#[tokio::test]
async fn every_verb_header_and_body_arrives_and_returns() {
    let (caller, callee) = pair(echo_app().await, Protocol::Http).await;
    for (sidecar, hop) in [(&caller, "remote"), (&callee, "local")] {
        for verb in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
            Method::OPTIONS,
            Method::HEAD,
        ] {
            for body in [
                Bytes::new(),
                Bytes::from_static(b"hello"),
                Bytes::from(vec![7; 100_000]),
            ] {
                let request = Request::builder()
                    .method(verb.clone())
                    .uri(sidecar.url("/v1.0/invoke/callee/method/a/b?x=1&y=%20"))
                    .header("x-two", "1")
                    .header("x-two", "2")
                    .header("content-type", "text/x")
                    .header("dapr-caller-app-id", "spoofed")
                    .header("x-drop", "me")
                    .header("connection", "x-drop")
                    .header("te", "trailers")
                    .body(Body::whole(body.clone()))
                    .unwrap();
                let response = sidecar.http(request).await;
                assert_eq!(response.status(), StatusCode::CREATED, "{hop} {verb}");
                let headers = response.headers().clone();
                assert_eq!(headers["seen-path"], "/a/b?x=1&y=%20");
                assert_eq!(headers["seen-method"], verb.as_str());
                assert_eq!(headers["seen-x-two"], "1,2");
                assert_eq!(headers["seen-content-type"], "text/x");
                assert_eq!(headers["seen-dapr-callee-app-id"], "callee");
                let expected = if hop == "remote" { "caller" } else { "callee" };
                assert_eq!(
                    headers["seen-dapr-caller-app-id"], expected,
                    "an app cannot say who it is"
                );
                assert!(!headers.contains_key("seen-x-drop") && !headers.contains_key("seen-te"));
                assert!(
                    !headers.contains_key("keep-alive"),
                    "hop-by-hop headers of the app stay with it"
                );
                let read = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(
                    read,
                    if verb == Method::HEAD { Bytes::new() } else { body },
                    "{hop} {verb}"
                );
            }
        }
    }
}

#[tokio::test]
async fn targets_may_be_named_in_every_way_and_errors_are_typed() {
    let (caller, _callee) = pair(echo_app().await, Protocol::Http).await;
    for (path, app_id) in [
        ("/v1.0/invoke/callee/method/foo", None),
        ("/v1.0//invoke//callee/method//foo", None),
        ("/v1.0/invoke/callee.default/method/foo", None),
        ("///foo", Some("callee")),
        ("/bar/../foo", Some("callee")),
    ] {
        let mut request = Request::builder().uri(caller.url(path));
        if let Some(id) = app_id {
            request = request.header("dapr-app-id", id);
        }
        let response = caller.http(request.body(Body::Empty).unwrap()).await;
        assert_eq!(response.status(), StatusCode::CREATED, "{path}");
        assert_eq!(response.headers()["seen-path"], "/foo", "{path}");
        assert!(!response.headers().contains_key("seen-dapr-app-id"));
    }
    for (path, status, body) in [
        (
            "/nothing",
            404,
            r#"{"errorCode":"ERR_DIRECT_INVOKE","message":"failed getting app id either from the URL path or the header dapr-app-id"}"#,
        ),
        (
            "/v1.0/invoke/callee",
            404,
            r#"{"errorCode":"ERR_DIRECT_INVOKE","message":"failed getting app id either from the URL path or the header dapr-app-id"}"#,
        ),
        (
            "/v1.0/invoke/nobody/method/x",
            500,
            r#"{"errorCode":"ERR_DIRECT_INVOKE","message":"failed to invoke, id: nobody, err: couldn't find service: nobody"}"#,
        ),
        (
            "/v1.0/invoke/callee/method/a%23b",
            500,
            r#"{"errorCode":"ERR_DIRECT_INVOKE","message":"failed to invoke, id: callee, err: rpc error: code = InvalidArgument desc = invalid method: method contains forbidden character: \"a#b\""}"#,
        ),
        (
            "/v1.0/invoke/a.b.c/method/x",
            500,
            r#"{"errorCode":"ERR_DIRECT_INVOKE","message":"failed to invoke, id: a.b.c, err: invalid app id a.b.c"}"#,
        ),
    ] {
        let response = caller.get(path).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(text(response).await, body);
    }
    let response = caller.get("/v1.0/invoke/callee/method/test%25stream").await;
    assert_eq!(response.status(), 500, "no URL can be made of it");
    assert_eq!(
        caller
            .get("/v1.0/invoke/callee/method/test%22stream")
            .await
            .headers()["seen-path"],
        "/test%22stream"
    );
    assert_eq!(
        caller
            .get("/v1.0/invoke/callee/method/admin%2F..%2Fpublic")
            .await
            .headers()["seen-path"],
        "/public"
    );
}

#[tokio::test]
async fn a_promise_of_more_bytes_than_come_is_forgiven() {
    let app = App::raw(|stream| async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = stream;
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n\"ok\"")
            .await;
    })
    .await;
    let (caller, callee) = pair(app, Protocol::Http).await;
    for sidecar in [&caller, &callee] {
        let response = sidecar.get("/v1.0/invoke/callee/method/x").await;
        assert_eq!(response.status(), 200);
        assert_eq!(text(response).await, "\"ok\"");
    }
}

#[tokio::test]
async fn any_status_of_the_app_is_the_callers() {
    let app = App::raw(|mut stream| async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        let line = String::from_utf8_lossy(&buffer[..read]).into_owned();
        let status = line
            .split(['/', ' '])
            .find(|part| part.parse::<u16>().is_ok())
            .unwrap_or("400")
            .to_owned();
        let _ = stream
            .write_all(
                format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes(),
            )
            .await;
    })
    .await;
    let (caller, callee) = pair(app, Protocol::Http).await;
    for sidecar in [&caller, &callee] {
        for status in [200, 204, 301, 304, 403, 404, 501, 505, 509, 548, 599] {
            let response = sidecar.get(&format!("/v1.0/invoke/callee/method/{status}")).await;
            assert_eq!(response.status().as_u16(), status);
        }
        // Nobody asked for an upgrade; a raw client shows what is written.
        let answer = raw_get(&sidecar.url("/v1.0/invoke/callee/method/101")).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    }
}

#[tokio::test]
async fn trace_context_and_baggage_go_through() {
    let (caller, _callee) = pair(echo_app().await, Protocol::Http).await;
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = Request::get(caller.url("/v1.0/invoke/callee/method/x"))
        .header("traceparent", PARENT)
        .header("tracestate", "a=1")
        .header("baggage", "k=v")
        .body(Body::Empty);
    let response = caller.http(request.unwrap()).await;
    let headers: &HeaderMap = response.headers();
    assert_eq!(headers["seen-traceparent"], PARENT);
    assert_eq!(headers["seen-tracestate"], "a=1");
    assert_eq!(headers["seen-baggage"], "k=v");
}
