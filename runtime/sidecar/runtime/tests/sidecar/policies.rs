//! Policies change under load (A8.6).

use std::{sync::Arc, time::Duration};

use axum::{Router, routing::get};
use outrigger_sidecar::Exit;
use tokio::sync::Notify;

use crate::support::{PLAIN, Running, app, ask, resiliency};

#[tokio::test(flavor = "multi_thread")]
async fn new_calls_follow_the_new_policy_and_old_ones_the_old() {
    let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let router = {
        let (began, go_on) = (Arc::clone(&began), Arc::clone(&go_on));
        Router::new()
            .route(
                "/held",
                get(move || async move {
                    began.notify_one();
                    go_on.notified().await;
                    "held"
                }),
            )
            .route("/never", get(|| async { std::future::pending::<()>().await }))
    };
    let patient = resiliency("10m");
    let running = Running::start(Some(app(router).await), &[("r.yaml", &patient)], PLAIN).await;
    let http = running.http;
    let held = tokio::spawn(async move { ask(http, "GET", "/v1.0/invoke/reloaded/method/held", "").await });
    began.notified().await;

    running.write("r.yaml", &resiliency("50ms"));
    // Only the new policy ever lets this one go.
    let impatient = async {
        loop {
            let call = ask(http, "GET", "/v1.0/invoke/reloaded/method/never", "");
            if let Ok(answer) = tokio::time::timeout(Duration::from_secs(1), call).await {
                return answer.unwrap();
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), impatient)
        .await
        .unwrap();
    assert_eq!(answer.status, 500, "{answer:?}");
    assert!(!held.is_finished(), "a call under way keeps its policy");
    go_on.notify_one();
    let answer = held.await.unwrap().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "held"));
    assert_eq!(running.stop().await, Exit::Stopped);
}
