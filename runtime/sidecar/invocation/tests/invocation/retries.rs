//! Callees that are gone or fail: what is tried again, and how often.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use outrigger_middleware::Body;
use outrigger_sidecar_app_channel::Protocol;
use outrigger_sidecar_invocation::InvocationOptions;
use outrigger_sidecar_resilience::ResilienceProvider;
use tonic::Code;

use crate::support::{App, GrpcClient, Names, Sidecar, echo_app, grpc_app, text};

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

/// With a policy that repeats nothing: what is asked instead of an instance that left is no retry.
#[tokio::test]
async fn calls_go_on_elsewhere_when_an_instance_has_left() {
    let names = Names::default();
    let caller = Sidecar::start("caller", &names, None, |options| InvocationOptions {
        resilience: resilience(serde_free::retries("callee", 0)),
        ..options
    })
    .await;
    let start = || async {
        let app = Some((echo_app().await, Protocol::Http));
        Sidecar::start("callee", &names, app, |options| options).await
    };
    let callees = [start().await, start().await, start().await];
    names.list("callee", &callees.each_ref());
    let calls = || async {
        for number in 0..9 {
            let body = format!("call {number}");
            let request = Request::post(caller.url("/v1.0/invoke/callee/method/x"))
                .body(Body::whole(body.clone()))
                .unwrap();
            let response = caller.http(request).await;
            assert_eq!(response.status(), 201);
            assert_eq!(text(response).await, body);
        }
    };
    calls().await;
    callees[0].stop().await;
    calls().await;
    callees[2].stop().await;
    calls().await;
    callees[1].stop().await;
    let response = caller.get("/v1.0/invoke/callee/method/x").await;
    assert_eq!(response.status(), 500);
}

/// An instance that leaves may have got a call that it does nothing with: it says so.
#[tokio::test]
async fn what_a_leaving_instance_did_not_take_is_called_elsewhere() {
    // GOAWAY after no stream at all; RST_STREAM of the first stream with REFUSED_STREAM.
    for refusal in [
        &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7][..],
    ] {
        let names = Names::default();
        let caller = Sidecar::start("caller", &names, None, |options| InvocationOptions {
            resilience: resilience(serde_free::retries("callee", 0)),
            ..options
        })
        .await;
        let refused = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&refused);
        let leaving = App::raw(move |mut stream| {
            let count = Arc::clone(&count);
            async move {
                if frames::until_headers(&mut stream).await.is_some() {
                    count.fetch_add(1, SeqCst);
                    frames::answer(&mut stream, refusal).await;
                }
            }
        })
        .await;
        let app = Some((echo_app().await, Protocol::Http));
        let staying = Sidecar::start("callee", &names, app, |options| options).await;
        names.addresses(
            "callee",
            &[
                format!("127.0.0.1:{}", leaving.port),
                staying.internal.to_string(),
            ],
        );
        for number in 0..4 {
            let request = Request::post(caller.url("/v1.0/invoke/callee/method/x"))
                .body(Body::whole(format!("call {number}")))
                .unwrap();
            let response = caller.http(request).await;
            assert_eq!(response.status(), 201);
            assert_eq!(text(response).await, format!("call {number}"));
        }
        assert!(refused.load(SeqCst) > 0, "the leaving instance was asked");
    }
}

/// Frames of HTTP/2 by hand: no server refuses at will.
mod frames {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    /// Shakes hands and reads until a request comes.
    pub(super) async fn until_headers(stream: &mut TcpStream) -> Option<()> {
        stream.read_exact(&mut [0; 24]).await.ok()?;
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.ok()?;
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.ok()?;
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            stream.read_exact(&mut vec![0; length]).await.ok()?;
            if head[3] == 1 {
                return Some(());
            }
        }
    }

    /// Writes a frame and reads what else comes.
    pub(super) async fn answer(stream: &mut TcpStream, frame: &[u8]) {
        if stream.write_all(frame).await.is_ok() {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }
}

#[tokio::test]
async fn proxied_calls_go_on_elsewhere_when_an_instance_has_left() {
    let names = Names::default();
    let caller = Sidecar::start("caller", &names, None, |options| options).await;
    let start = || async {
        let app = Some((grpc_app().await, Protocol::Grpc));
        Sidecar::start("callee", &names, app, |options| options).await
    };
    let callees = [start().await, start().await];
    names.list("callee", &callees.each_ref());
    let client = GrpcClient::connect(caller.grpc).await;
    let call = || client.call("/test.Echo/All", "callee", &[], vec![Bytes::from_static(b"m")]);
    for _ in 0..4 {
        assert_eq!(call().await.unwrap().messages, ["m"]);
    }
    callees[0].stop().await;
    for _ in 0..4 {
        assert_eq!(call().await.unwrap().messages, ["m"]);
    }
    callees[1].stop().await;
    assert_eq!(call().await.unwrap_err().code(), Code::Unavailable);
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
    let client = GrpcClient::connect(caller.grpc).await;
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
