//! Two sidecars and their apps in one process, over real sockets.

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use outrigger_middleware::Body;
use outrigger_sidecar_app_channel::Protocol;
use outrigger_sidecar_invocation::{InvocationOptions, PeerIdentity};
use outrigger_sidecar_resilience::ResilienceProvider;
use outrigger_wire::dapr::proto::{
    common::v1::{HttpExtension, InvokeRequest},
    runtime::v1::InvokeServiceRequest,
};
use support::{App, Names, Sidecar, echo_app, grpc_app, text};
use tonic::Code;

/// Caller and callee, connected.
async fn pair(app: App, protocol: Protocol) -> (Sidecar, Sidecar) {
    let names = Names::default();
    let caller = Sidecar::start("caller", &names, None, |options| options).await;
    let callee = Sidecar::start("callee", &names, Some((app, protocol)), |options| options).await;
    (caller, callee)
}

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
        let answer = support::raw_get(&sidecar.url("/v1.0/invoke/callee/method/101")).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    }
}

/// An app that sends one event, waits, and sends another.
async fn event_app(gate: Arc<tokio::sync::Notify>) -> App {
    App::http(move |request| {
        let gate = Arc::clone(&gate);
        async move {
            if request.uri().path() != "/events" {
                let mut response = Response::new(Body::Empty);
                *response.status_mut() = StatusCode::NOT_FOUND;
                return response;
            }
            assert_eq!(request.headers()["accept"], "text/event-stream");
            let events = futures::stream::unfold(0, move |n| {
                let gate = Arc::clone(&gate);
                async move {
                    if n == 1 {
                        gate.notified().await;
                    }
                    (n < 2).then(|| {
                        (
                            Ok::<_, Infallible>(Frame::data(Bytes::from(format!("data: {n}\n\n")))),
                            n + 1,
                        )
                    })
                }
            });
            let mut response = Response::new(Body::boxed(StreamBody::new(Box::pin(sync(events)))));
            response
                .headers_mut()
                .insert("content-type", "text/event-stream".parse().unwrap());
            response
        }
    })
    .await
}

/// Streams of test bodies are polled by one task at a time; a mutex makes them `Sync`.
fn sync<S: futures::Stream + Send>(stream: S) -> impl futures::Stream<Item = S::Item> + Send + Sync {
    let stream = std::sync::Mutex::new(Box::pin(stream));
    futures::stream::poll_fn(move |cx| stream.lock().unwrap().poll_next_unpin(cx))
}

#[tokio::test]
async fn events_arrive_as_they_are_sent() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let (caller, callee) = pair(event_app(Arc::clone(&gate)).await, Protocol::Http).await;
    for sidecar in [&caller, &callee] {
        let request = Request::get(sidecar.url("/v1.0/invoke/callee/method/events"))
            .header("accept", "text/event-stream");
        let response = sidecar.http(request.body(Body::Empty).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        let mut body = response.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(
            first, "data: 0\n\n",
            "the first event does not wait for the second"
        );
        gate.notify_one();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "data: 1\n\n");
    }
    let request =
        Request::get(caller.url("/v1.0/invoke/callee/method/foo")).header("accept", "text/event-stream");
    let response = caller.http(request.body(Body::Empty).unwrap()).await;
    assert_eq!(
        text(response).await,
        r#"{"errorCode":"ERR_DIRECT_INVOKE","message":"failed to invoke, id: callee, err: rpc error: code = Internal desc = error invoking app channel: no response received from stream"}"#
    );
}

#[tokio::test]
async fn responses_stream_while_the_app_still_sends() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let handler_gate = Arc::clone(&gate);
    let app = App::http(move |_| {
        let gate = Arc::clone(&handler_gate);
        async move {
            let chunks = futures::stream::unfold(0, move |n: u32| {
                let gate = Arc::clone(&gate);
                async move {
                    if n == 1 {
                        gate.notified().await;
                    }
                    (n < 2).then(|| {
                        (
                            Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'A' + n as u8; 16 * 1024]))),
                            n + 1,
                        )
                    })
                }
            });
            Response::new(Body::boxed(StreamBody::new(Box::pin(sync(chunks)))))
        }
    })
    .await;
    let (caller, _callee) = pair(app, Protocol::Http).await;
    let mut body = caller.get("/v1.0/invoke/callee/method/x").await.into_body();
    let mut first = 0;
    while first < 16 * 1024 {
        first += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    gate.notify_one();
    assert_eq!(body.collect().await.unwrap().to_bytes(), vec![b'B'; 16 * 1024]);
}

#[tokio::test]
async fn big_bodies_pass_without_being_held() {
    const TOTAL: usize = 64 << 20;
    const CHUNK: usize = 256 * 1024;
    // The app counts what it gets and answers as much.
    let app = App::http(|request: Request<Body>| async move {
        let mut body = request.into_body();
        let mut seen = 0;
        while let Some(frame) = body.frame().await {
            seen += frame.unwrap().into_data().map_or(0, |data| data.len());
        }
        let chunk = Bytes::from(vec![b'x'; CHUNK]);
        let chunks = futures::stream::iter(
            (0..seen / CHUNK).map(move |_| Ok::<_, Infallible>(Frame::data(chunk.clone()))),
        );
        let mut response = Response::new(Body::boxed(StreamBody::new(chunks)));
        response
            .headers_mut()
            .insert("seen", seen.to_string().parse().unwrap());
        response
    })
    .await;
    let (caller, _callee) = pair(app, Protocol::Http).await;
    // Warm up, then watch the process.
    assert_eq!(caller.get("/v1.0/invoke/callee/method/x").await.status(), 200);
    let before = resident();
    let peak = Arc::new(AtomicUsize::new(0));
    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    let watch = Arc::clone(&peak);
    let chunks = futures::stream::iter((0..TOTAL / CHUNK).map(move |_| {
        watch.fetch_max(resident(), SeqCst);
        Ok::<_, Infallible>(Frame::data(chunk.clone()))
    }));
    let request =
        Request::post(caller.url("/v1.0/invoke/callee/method/x")).body(Body::boxed(StreamBody::new(chunks)));
    let response = caller.http(request.unwrap()).await;
    assert_eq!(response.headers()["seen"], TOTAL.to_string());
    let mut body = response.into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        peak.fetch_max(resident(), SeqCst);
        read += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    assert_eq!(read, TOTAL);
    let growth = peak.load(SeqCst).saturating_sub(before);
    // App, client and both sidecars are in this process, each with buffers of its own.
    assert!(growth < 40 << 20, "memory grew by {} MiB", growth >> 20);
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn a_lost_callee_is_found_again_or_reported() {
    let names = Names::default();
    let caller = Sidecar::start("caller", &names, None, |options| options).await;
    let callee = Sidecar::start(
        "callee",
        &names,
        Some((echo_app().await, Protocol::Http)),
        |options| options,
    )
    .await;
    assert_eq!(caller.get("/v1.0/invoke/callee/method/x").await.status(), 201);
    callee.stop().await;
    // It comes back elsewhere while the call is being retried.
    let again = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Sidecar::start(
            "callee",
            &names,
            Some((echo_app().await, Protocol::Http)),
            |options| options,
        )
        .await
    };
    let request = Request::post(caller.url("/v1.0/invoke/callee/method/x"))
        .body(Body::whole("again"))
        .unwrap();
    let (callee, response) = tokio::join!(again, caller.http(request));
    assert_eq!(response.status(), 201);
    assert_eq!(text(response).await, "again");
    callee.stop().await;
    let started = Instant::now();
    let response = caller.get("/v1.0/invoke/callee/method/x").await;
    assert_eq!(response.status(), 500);
    let body = text(response).await;
    assert!(
        body.starts_with(r#"{"errorCode":"ERR_DIRECT_INVOKE","message":"failed to invoke, id: callee, err: failed to invoke target callee after 3 retries. Error: rpc error: code = Unavailable"#),
        "{body}"
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}

fn resilience(yaml: serde_free::Yaml) -> ResilienceProvider {
    ResilienceProvider::from_resources("caller", &[yaml.0], None)
}

/// Resources without a YAML reader at hand.
mod serde_free {
    use outrigger_sidecar_resilience::Resource;

    pub(super) struct Yaml(pub(super) Resource);

    pub(super) fn retries(app: &str, max: i64) -> Yaml {
        let json = format!(
            r#"{{"metadata":{{"name":"r"}},"spec":{{"policies":{{"retries":{{"p":{{"policy":"constant","duration":"1ms","maxRetries":{max}}}}}}},"targets":{{"apps":{{"{app}":{{"retry":"p"}}}}}}}}}}"#
        );
        Yaml(serde_json::from_str(&json).unwrap())
    }
}

#[tokio::test]
async fn policies_retry_statuses_of_requests_that_can_be_repeated() {
    let calls = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&calls);
    let app = App::http(move |request: Request<Body>| {
        let calls = Arc::clone(&seen);
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let n = calls.fetch_add(1, SeqCst) + 1;
            let mut response = Response::new(Body::whole(body));
            if !n.is_multiple_of(4) {
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            response
        }
    })
    .await;
    let names = Names::default();
    let caller = Sidecar::start("caller", &names, None, |options| InvocationOptions {
        resilience: resilience(serde_free::retries("callee", 3)),
        ..options
    })
    .await;
    let _callee = Sidecar::start("callee", &names, Some((app, Protocol::Http)), |options| options).await;
    for body in [Bytes::from_static(b"short"), Bytes::from(vec![3; 300_000])] {
        calls.store(0, SeqCst);
        let request = Request::post(caller.url("/v1.0/invoke/callee/method/x"))
            .body(Body::whole(body.clone()))
            .unwrap();
        let response = caller.http(request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(calls.load(SeqCst), 4, "three failures and a success");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    }
    // Of unknown length: once, and the app's answer is the caller's.
    calls.store(0, SeqCst);
    let chunks = futures::stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"streamed")))]);
    let request =
        Request::post(caller.url("/v1.0/invoke/callee/method/x")).body(Body::boxed(StreamBody::new(chunks)));
    let response = caller.http(request.unwrap()).await;
    assert_eq!(response.status(), 500);
    assert_eq!(text(response).await, "streamed");
    assert_eq!(calls.load(SeqCst), 1);
}

#[tokio::test]
async fn grpc_apps_are_invoked_over_http_and_grpc() {
    let (caller, callee) = pair(grpc_app().await, Protocol::Grpc).await;
    for sidecar in [&caller, &callee] {
        let request = Request::post(sidecar.url("/v1.0/invoke/callee/method/echo"))
            .header("accept", "text/x")
            .header("x-key", "v")
            .body(Body::whole("hi"));
        let response = sidecar.http(request.unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["seen-dapr-accept"], "text/x");
        assert_eq!(response.headers()["seen-x-key"], "v");
        assert_eq!(response.headers()["content-type"], "text/reply");
        assert_eq!(text(response).await, "echo:hi");
        let response = sidecar.get("/v1.0/invoke/callee/method/fail").await;
        assert_eq!(response.status(), 404);
        assert_eq!(text(response).await, r#"{"code":5,"message":"not here"}"#);

        let invoke = |method: &str| {
            let mut request = tonic::Request::new(InvokeServiceRequest {
                id: "callee".to_owned(),
                message: Some(InvokeRequest {
                    method: method.to_owned(),
                    data: Some(prost_types::Any {
                        type_url: "pfm".to_owned(),
                        value: b"x".to_vec(),
                    }),
                    content_type: String::new(),
                    http_extension: None,
                }),
            });
            request.metadata_mut().insert("x-key", "v".parse().unwrap());
            request
                .metadata_mut()
                .insert_bin("k-bin", tonic::metadata::MetadataValue::from_bytes(&[0, 255]));
            request
        };
        let response = sidecar.service.invoke_service(invoke("typed")).await.unwrap();
        assert_eq!(response.metadata().get("seen-x-key").unwrap(), "v");
        assert_eq!(response.metadata().get("seen-k-binary").unwrap(), "AP8=");
        assert_eq!(
            response.metadata().get("seen-dapr-callee-app-id").unwrap(),
            "callee"
        );
        let data = response.into_inner().data.unwrap();
        assert_eq!(
            (data.value, data.type_url),
            (b"x/pfm".to_vec(), "mytype".to_owned())
        );
        let status = sidecar.service.invoke_service(invoke("fail")).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::NotFound, "not here"));
    }
}

#[tokio::test]
async fn apps_with_few_streams_per_connection_get_more_connections() {
    let (caller, callee) = pair(grpc_app().await, Protocol::Grpc).await;
    for sidecar in [&caller, &callee] {
        let calls = (0..150).map(|_| sidecar.get("/v1.0/invoke/callee/method/gather"));
        let all = tokio::time::timeout(Duration::from_secs(30), futures::future::join_all(calls))
            .await
            .unwrap();
        assert!(all.iter().all(|response| response.status() == 200));
    }
}

#[tokio::test]
async fn grpc_callers_get_http_answers_as_statuses() {
    let (caller, _callee) = pair(echo_app().await, Protocol::Http).await;
    let invoke = |method: &str| {
        tonic::Request::new(InvokeServiceRequest {
            id: "callee".to_owned(),
            message: Some(InvokeRequest {
                method: method.to_owned(),
                data: None,
                content_type: "text/x".to_owned(),
                http_extension: Some(HttpExtension {
                    verb: 1,
                    querystring: "a=b c".to_owned(),
                }),
            }),
        })
    };
    let response = caller.service.invoke_service(invoke("foo")).await.unwrap();
    assert_eq!(response.metadata().get("dapr-http-status").unwrap(), "201");
    assert_eq!(response.metadata().get("seen-path").unwrap(), "/foo?a=b%20c");
    let status = caller
        .service
        .invoke_service(invoke("missing"))
        .await
        .unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "Not Found"));
    assert_eq!(status.metadata().get("dapr-http-status").unwrap(), "404");
    let status = caller.service.invoke_service(invoke("a#b")).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(
        status
            .message()
            .starts_with("failed to invoke, id: callee, err: rpc error: code = InvalidArgument")
    );
}

#[tokio::test]
async fn all_kinds_of_grpc_calls_are_proxied_byte_for_byte() {
    let (caller, callee) = pair(grpc_app().await, Protocol::Grpc).await;
    for (name, address) in [("remote", caller.grpc), ("local", callee.grpc)] {
        let client = support::GrpcClient::connect(address).await;
        // Unary, client streaming, server streaming and both at once are the same to the proxy.
        for messages in [1, 2, 100] {
            let sent: Vec<Bytes> = (0..messages)
                .map(|n| Bytes::from(vec![n as u8; 1 + n * 700]))
                .collect();
            let answer = client
                .call("/test.Echo/All", "callee", &[], sent.clone())
                .await
                .unwrap();
            assert_eq!(answer.messages, sent, "{name}");
            assert_eq!(answer.headers["initial"], "yes", "{name}");
            assert_eq!(answer.trailers["end"], "yes", "{name}");
            assert!(!answer.headers.contains_key("seen-dapr-app-id"));
            assert!(!answer.headers.contains_key("seen-dapr-api-token"));
            if name == "remote" {
                assert_eq!(answer.headers["seen-dapr-caller-app-id"], "caller");
                assert_eq!(answer.headers["seen-dapr-callee-app-id"], "callee");
            }
        }
        let status = client
            .call("/test.Echo/Fail", "callee", &[], vec![Bytes::new()])
            .await
            .unwrap_err();
        assert_eq!(
            (status.code(), status.message(), status.details()),
            (Code::Aborted, "no: 100 %", &b"why"[..])
        );
        let echoes = client.ping_pong("/test.Echo/Bidi", "callee", 20).await;
        assert_eq!(
            echoes, 20,
            "{name}: each answer arrives before the next question is asked"
        );
    }
    let client = support::GrpcClient::connect(caller.grpc).await;
    let status = client.call("/test.Echo/All", "", &[], vec![]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    assert_eq!(
        status.message(),
        "failed to proxy request: required metadata dapr-callee-app-id or dapr-app-id not found"
    );
}

#[tokio::test]
async fn many_proxied_streams_share_the_sidecars() {
    let (caller, _callee) = pair(grpc_app().await, Protocol::Grpc).await;
    let client = Arc::new(support::GrpcClient::connect(caller.grpc).await);
    let calls = (0..300).map(|_| {
        let client = Arc::clone(&client);
        async move { client.ping_pong("/test.Echo/Bidi", "callee", 5).await }
    });
    let all = futures::future::join_all(calls).await;
    assert!(all.iter().all(|echoes| *echoes == 5));
}

#[tokio::test]
async fn proxied_calls_are_retried_while_nothing_was_answered() {
    let names = Names::default();
    let caller = Sidecar::start("caller", &names, None, |options| InvocationOptions {
        resilience: resilience(serde_free::retries("callee", 3)),
        ..options
    })
    .await;
    let _callee = Sidecar::start(
        "callee",
        &names,
        Some((grpc_app().await, Protocol::Grpc)),
        |options| options,
    )
    .await;
    let client = support::GrpcClient::connect(caller.grpc).await;
    let answer = client
        .call(
            "/test.Echo/ThirdTime",
            "callee",
            &[],
            vec![Bytes::from_static(b"m")],
        )
        .await
        .unwrap();
    assert_eq!(answer.messages, ["m"]);
    let status = client
        .call(
            "/test.Echo/Never",
            "callee",
            &[],
            vec![Bytes::from_static(b"1"), Bytes::from_static(b"2")],
        )
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::FailedPrecondition,
            "cannot use resiliency policies with retries on streaming RPCs"
        )
    );
    let answer = client
        .call(
            "/test.Echo/All",
            "callee",
            &[("dapr-stream", "true")],
            vec![Bytes::from_static(b"1"), Bytes::from_static(b"2")],
        )
        .await
        .unwrap();
    assert_eq!(answer.messages, ["1", "2"]);
}

#[tokio::test]
async fn the_policy_decides_about_the_bytes_that_are_delivered() {
    use outrigger_resources::access_control::{
        AccessControlList, AccessControlSpec, AppOperation, AppPolicySpec,
    };
    let spec = AccessControlSpec {
        default_action: "deny".to_owned(),
        trust_domain: "public".to_owned(),
        policies: Some(vec![AppPolicySpec {
            app_id: "caller".to_owned(),
            default_action: "deny".to_owned(),
            trust_domain: "public".to_owned(),
            namespace: "default".to_owned(),
            operations: vec![AppOperation {
                name: "/public".to_owned(),
                http_verbs: vec!["*".to_owned()],
                action: "allow".to_owned(),
            }],
        }]),
    };
    let policy = AccessControlList::new(&spec, true).unwrap().map(Arc::new);
    let names = Names::default();
    let caller = Sidecar::start("caller", &names, None, |options| options).await;
    let identity = PeerIdentity {
        trust_domain: "public".into(),
        namespace: "default".into(),
        app_id: "caller".into(),
    };
    let _callee = Sidecar::start_as(
        "callee",
        &names,
        Some((echo_app().await, Protocol::Http)),
        Some(identity),
        |options| InvocationOptions {
            access_control: policy,
            ..options
        },
    )
    .await;
    assert_eq!(
        caller.get("/v1.0/invoke/callee/method/public").await.status(),
        201
    );
    for path in [
        "unauthorized",
        "public/../unauthorized",
        "public%2F..%2Funauthorized",
        "public%25/../unauthorized",
        "public/sub%23/../../unauthorized",
        "public%0D/../unauthorized",
    ] {
        let response = caller.get(&format!("/v1.0/invoke/callee/method/{path}")).await;
        assert_eq!(response.status(), 403, "{path}");
        let body = text(response).await;
        assert!(body.contains("access control policy has denied access to id: spiffe://public/ns/default/caller operation: unauthorized verb: GET"), "{body}");
    }
}

#[tokio::test]
async fn peers_without_streams_are_asked_the_old_way() {
    // A peer of long ago: `CallLocalStream` is unknown to it.
    let names = Names::default();
    let caller = Sidecar::start("caller", &names, None, |options| options).await;
    let _callee = support::old_sidecar("callee", &names, echo_app().await).await;
    let request = Request::post(caller.url("/v1.0/invoke/callee/method/x"))
        .body(Body::whole("old"))
        .unwrap();
    let response = caller.http(request).await;
    assert_eq!(response.status(), 201);
    assert_eq!(text(response).await, "old");
}

#[tokio::test]
async fn actor_calls_and_unknown_methods_are_refused_in_words() {
    let (_caller, callee) = pair(echo_app().await, Protocol::Http).await;
    let client = support::GrpcClient::connect(callee.internal).await;
    let status = client
        .call(
            "/dapr.proto.internals.v1.ServiceInvocation/CallActor",
            "",
            &[],
            vec![Bytes::new()],
        )
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "placement service is not configured")
    );
    let status = client
        .call(
            "/dapr.proto.internals.v1.ServiceInvocation/Nope",
            "",
            &[],
            vec![Bytes::new()],
        )
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    // Garbage on the internal port ends in a status, not in a panic.
    for garbage in [
        Bytes::from_static(b"\xff\xff\xff"),
        Bytes::from_static(b"\x0a\x02\x08\x01"),
        Bytes::new(),
    ] {
        let outcome = client
            .call(
                "/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream",
                "",
                &[],
                vec![garbage],
            )
            .await;
        assert!(outcome.is_err());
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

#[tokio::test]
async fn addresses_outside_dapr_are_called_directly() {
    use outrigger_resources::kinds::{HttpEndpoint, HttpEndpointSpec, NameValue, ObjectMeta};
    let names = Names::default();
    let outside = echo_app().await;
    let caller = Sidecar::start("caller", &names, None, |options| options).await;
    let resource = HttpEndpoint {
        meta: ObjectMeta {
            name: "site".to_owned(),
            ..ObjectMeta::default()
        },
        spec: HttpEndpointSpec {
            base_url: format!("http://localhost:{}/base", outside.port),
            headers: vec![NameValue::new("x-key", "secret")],
            client_tls: None,
        },
        ..HttpEndpoint::default()
    };
    caller.endpoints.upsert(&resource).unwrap();
    let response = caller.get("/v1.0/invoke/site/method/hello?q=1").await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["seen-path"], "/base/hello?q=1");
    assert_eq!(response.headers()["seen-x-key"], "secret");
    let response = caller
        .get(&format!(
            "/v1.0/invoke/http://localhost:{}/method/hello",
            outside.port
        ))
        .await;
    assert_eq!(response.headers()["seen-path"], "/hello");
    let resource = HttpEndpoint {
        spec: HttpEndpointSpec {
            headers: Vec::new(),
            ..resource.spec.clone()
        },
        ..resource
    };
    caller.endpoints.upsert(&resource).unwrap();
    let request = Request::post(caller.url("/v1.0/invoke/site/method/redirect"))
        .body(Body::whole("x"))
        .unwrap();
    let response = caller.http(request).await;
    assert_eq!(
        response.headers()["seen-path"],
        "/elsewhere",
        "redirects of resources are followed"
    );
    assert_eq!(response.headers()["seen-method"], "GET");
    caller.endpoints.remove("site");
    assert_eq!(caller.get("/v1.0/invoke/site/method/hello").await.status(), 500);
}
