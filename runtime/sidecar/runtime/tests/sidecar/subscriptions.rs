//! Subscriptions come and go, and no event is lost on the way.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::Path, routing::post};
use outrigger_sidecar::Exit;
use tokio::sync::{Notify, mpsc};

use crate::support::{PLAIN, Running, app, component, subscription};

const SOON: Duration = Duration::from_secs(20);

/// An app that tells of what it got.
fn listener() -> (Router, mpsc::UnboundedReceiver<String>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let router = Router::new().route(
        "/{topic}",
        post(move |Path(topic): Path<String>| async move {
            let _ = sender.send(topic);
        }),
    );
    (router, receiver)
}

async fn publish(running: &Running, topic: &str) {
    let path = format!("/v1.0/publish/broker/{topic}");
    assert_eq!(running.ask("POST", &path, "{}").await.status, 204);
}

async fn next(events: &mut mpsc::UnboundedReceiver<String>) -> String {
    tokio::time::timeout(SOON, events.recv()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_start_and_stop_with_their_files() {
    let (router, mut events) = listener();
    let broker = component("broker", "pubsub.in-memory", &[]);
    let running = Running::start(Some(app(router).await), &[("broker.yaml", &broker)], PLAIN).await;

    running.write("sub.yaml", &subscription("one", "a"));
    running.until_metadata("\"topic\":\"a\"", true).await;
    publish(&running, "a").await;
    assert_eq!(next(&mut events).await, "a");

    running.write(
        "sub.yaml",
        &(subscription("one", "b") + &subscription("two", "c")),
    );
    running.until_metadata("\"topic\":\"c\"", true).await;
    for topic in ["a", "b", "c"] {
        publish(&running, topic).await;
    }
    let mut got = [next(&mut events).await, next(&mut events).await];
    got.sort();
    assert_eq!(got, ["b", "c"]);
    assert!(events.try_recv().is_err(), "nobody asked for topic a any more");
    assert_eq!(running.stop().await, Exit::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_late_gets_its_subscriptions() {
    let (router, mut events) = listener();
    let running = Running::start(
        Some(app(router).await),
        &[("sub.yaml", &subscription("one", "a"))],
        PLAIN,
    )
    .await;
    running.write("broker.yaml", &component("broker", "pubsub.in-memory", &[]));
    running
        .until("POST", "/v1.0/publish/broker/a", "{}", |answer| {
            answer.status == 204
        })
        .await;
    // The broker is open a moment before it is subscribed to, and keeps nothing for those who come later.
    let delivered = async {
        loop {
            publish(&running, "a").await;
            if let Ok(Some(topic)) = tokio::time::timeout(Duration::from_millis(50), events.recv()).await {
                return topic;
            }
        }
    };
    assert_eq!(tokio::time::timeout(SOON, delivered).await.unwrap(), "a");
    assert_eq!(running.stop().await, Exit::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_under_way_ends_before_its_broker_closes() {
    let (began, go_on, ended) = (
        Arc::new(Notify::new()),
        Arc::new(Notify::new()),
        Arc::new(Notify::new()),
    );
    let router = {
        let (began, go_on, ended) = (Arc::clone(&began), Arc::clone(&go_on), Arc::clone(&ended));
        Router::new().route(
            "/a",
            post(move || async move {
                began.notify_one();
                go_on.notified().await;
                ended.notify_one();
            }),
        )
    };
    let files = component("broker", "pubsub.in-memory", &[]) + &subscription("one", "a");
    let running = Running::start(Some(app(router).await), &[("all.yaml", &files)], PLAIN).await;
    publish(&running, "a").await;
    tokio::time::timeout(SOON, began.notified()).await.unwrap();

    std::fs::remove_file(running.file("all.yaml")).unwrap();
    running.until_metadata("\"topic\":\"a\"", false).await;
    // Its app is not done: the broker is still there.
    running.until_metadata("pubsub.in-memory", true).await;
    go_on.notify_one();
    tokio::time::timeout(SOON, ended.notified()).await.unwrap();
    running.until_metadata("pubsub.in-memory", false).await;
    assert_eq!(running.stop().await, Exit::Stopped);
}
