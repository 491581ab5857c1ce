//! Two sidecars find one another, and again after one has moved.

use http::Method;
use serde_json::json;

use crate::support::{
    app::App,
    client::{request, send},
    echo::{EchoApp, EchoClient},
    eventually,
    sidecar::{Launch, Sidecar},
};

async fn invoke(caller: &Sidecar, target: &str) -> (u16, String) {
    let url = caller.url(&format!("/v1.0/invoke/{target}/method/deep/path?q=1"));
    let answer = send(request(
        Method::PUT,
        &url,
        &[("content-type", "text/plain")],
        "hello",
    ))
    .await
    .unwrap();
    (answer.status, answer.text())
}

#[tokio::test]
async fn a_callee_is_found_again_at_another_port() {
    let registry = tempfile::tempdir().unwrap();
    let in_registry =
        |launch: Launch| launch.env("OUTRIGGER_REGISTRY_DIR", registry.path().to_str().unwrap());
    let app = App::echo().await;
    let caller = in_registry(Launch::new("moving-caller")).start().await;
    let expected = (200, "PUT /deep/path?q=1 hello".to_owned());
    let mut ports = Vec::new();
    for round in 0..3 {
        let mut callee = in_registry(Launch::new("moving-callee"))
            .start_with_app(app.port)
            .await;
        ports.push(callee.internal);
        // The first call may still meet what is known of the last life; the next ones may not.
        eventually("the callee is found", || async {
            (invoke(&caller, "moving-callee").await == expected).then_some(())
        })
        .await;
        for _ in 0..20 {
            assert_eq!(invoke(&caller, "moving-callee").await, expected, "round {round}");
        }
        // Once with a goodbye, once without.
        if round % 2 == 0 {
            assert_eq!(callee.stop().await.code(), Some(0), "{}", callee.log());
        } else {
            callee.kill().await;
        }
    }
    ports.dedup();
    assert_eq!(ports.len(), 3, "the callee did not move");
    // Nobody is there: an error in Dapr's shape, in bounded time.
    let (status, body) = invoke(&caller, "moving-callee").await;
    assert_eq!(status, 500);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["errorCode"],
        json!("ERR_DIRECT_INVOKE")
    );
}

#[tokio::test]
async fn streams_of_all_kinds_pass_two_sidecars() {
    let registry = tempfile::tempdir().unwrap();
    let in_registry =
        |launch: Launch| launch.env("OUTRIGGER_REGISTRY_DIR", registry.path().to_str().unwrap());
    let app = EchoApp::start("far").await;
    let _callee = in_registry(Launch::new("stream-callee"))
        .args(["--app-protocol", "grpc"])
        .start_with_app(app.port)
        .await;
    let caller = in_registry(Launch::new("stream-caller")).start().await;
    speak_all_kinds(&caller, "stream-callee", "far").await;
}

/// Calls all four kinds of methods, and one that fails.
pub(crate) async fn speak_all_kinds(caller: &Sidecar, target: &str, name: &str) {
    let mut echo = EchoClient::new(caller.channel().await, target);
    let first = eventually("the callee is found", || {
        let mut echo = echo.clone();
        async move { echo.unary("one").await.ok() }
    })
    .await;
    assert_eq!(first, format!("{name}: one!"));
    assert_eq!(
        echo.collect(&["a", "b", "c"]).await.unwrap(),
        format!("{name}: a+b+c")
    );
    assert_eq!(echo.collect(&[]).await.unwrap(), format!("{name}: "));
    let letters: Vec<String> = "streams"
        .chars()
        .map(|letter| format!("{name}: {letter}"))
        .collect();
    assert_eq!(echo.spell("streams").await.unwrap(), letters);
    let answers = echo.talk(&["x", "y", "z"]).await.unwrap();
    assert_eq!(answers, ["x", "y", "z"].map(|word| format!("{name}: {word}")));
    let failure = echo.unary("fail").await.unwrap_err();
    assert_eq!(
        (failure.code(), failure.message()),
        (tonic::Code::FailedPrecondition, "as asked")
    );
    let large = "z".repeat(1 << 20);
    assert_eq!(
        echo.unary(&large).await.unwrap().len(),
        large.len() + name.len() + 3
    );
}
