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
