//! What becomes of a message: answers, dead letters, rules, the app's health and the shutdown.

use std::sync::Arc;

use http::StatusCode;
use outrigger_pubsub::MemoryPubSub;
use outrigger_sidecar_app_channel::AppHealth;
use tokio::sync::Notify;

use crate::support::{Bench, rule, subscription};

#[tokio::test]
async fn what_the_app_says_decides() {
    let mut bench = Bench::new().await;
    bench.retry_inbound(10);
    let mut sub = subscription("t", "/in");
    sub.spec.dead_letter_topic = "dead".to_owned();
    bench.subscribe(vec![sub, subscription("dead", "/dead")]).await;

    // Tried again until it is taken.
    bench.answers(&[
        (500, ""),
        (200, r#"{"status":"RETRY"}"#),
        (200, r#"{"status":"odd"}"#),
        (200, "fine"),
    ]);
    bench.publish("t", "1").await;
    for _ in 0..4 {
        bench.next_is("/in", "1").await;
    }
    // Not wanted: to the dead letter topic as it was.
    for answer in [(200, r#"{"status":"DROP"}"#), (404, "")] {
        bench.answers(&[answer]);
        bench.publish("t", "2").await;
        bench.next_is("/in", "2").await;
        let dead = bench.next().await;
        assert_eq!(
            (dead.path.as_str(), &dead.json()["topic"]),
            ("/dead", &serde_json::json!("t"))
        );
        assert_eq!(dead.headers.get_all("pubsubname").iter().count(), 1);
    }
    // Retries spent: to the dead letter topic.
    bench.retry_inbound(2);
    bench.respond(|seen| {
        if seen.path == "/in" {
            (500, String::new())
        } else {
            (200, String::new())
        }
    });
    bench.publish("t", "3").await;
    for _ in 0..3 {
        bench.next_is("/in", "3").await;
    }
    bench.next_is("/dead", "3").await;
}

#[tokio::test]
async fn rules_raw_payloads_and_expired_events() {
    let mut bench = Bench::new().await;
    let mut rules = subscription("t", "");
    rules.spec.routes.rules = vec![rule(r#"event.type == "x""#, "/x")];
    rules.spec.dead_letter_topic = "dead".to_owned();
    let mut raw = subscription("raw", "/raw");
    raw.spec
        .metadata
        .insert("rawPayload".to_owned(), "true".to_owned());
    bench
        .subscribe(vec![rules, raw, subscription("dead", "/dead")])
        .await;

    let publish = async |topic: &str, query: &str, text: &str| {
        let response = bench
            .call("PublishEvent", "v1.0", topic, query, "text/plain", text)
            .await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    };
    publish("ps/t", "metadata.cloudevent.type=x", "1").await;
    publish("ps/t", "", "2").await;
    publish("ps/t", "metadata.cloudevent.type=x&metadata.ttl=0s", "3").await;
    publish("ps/t", "metadata.cloudevent.type=x", "4").await;
    publish("ps/raw", "metadata.rawPayload=true", "hi").await;
    let (mut taken, mut raw) = (Vec::new(), None);
    for _ in 0..4 {
        let seen = bench.next().await;
        match seen.path.as_str() {
            "/raw" => raw = Some(seen.json()),
            path => taken.push(format!("{path} {}", seen.json()["data"].as_str().unwrap())),
        }
    }
    taken.sort_unstable();
    // What has expired is expired as a dead letter too.
    assert_eq!(taken, ["/dead 2", "/x 1", "/x 4"]);
    let raw = raw.unwrap();
    assert_eq!(raw["data_base64"], "aGk=");
    assert_eq!(raw["topic"], "raw");
}

#[tokio::test]
async fn an_unhealthy_app_gets_messages_later() {
    let mut bench = Bench::new().await;
    bench.subscribe(vec![subscription("t", "/in")]).await;
    bench.health.send_replace(AppHealth::Unhealthy {
        reason: "test".to_owned(),
    });
    bench.publish("t", "1").await;
    tokio::task::yield_now().await;
    // Stopping does not wait for what waits for the app, and loses nothing.
    bench.service.stop_app_subscriptions().await;
    assert!(bench.seen.try_recv().is_err());
    bench.health.send_replace(AppHealth::Healthy);
    bench.service.start_app_subscriptions().await.unwrap();
    bench.next_is("/in", "1").await;
}

#[tokio::test]
async fn shutdown_waits_for_deliveries_and_refuses_nothing() {
    let memory = MemoryPubSub::new();
    let mut bench = Bench::with(Arc::new(memory.clone()), &[]).await;
    let mut sub = subscription("t", "/in");
    sub.spec.dead_letter_topic = "dead".to_owned();
    bench.subscribe(vec![sub, subscription("dead", "/dead")]).await;
    let hold = Arc::new(Notify::new());
    *bench.app.hold.lock() = Some(Arc::clone(&hold));
    bench.answers(&[(500, "")]);
    bench.publish("t", "1").await;
    bench.publish("t", "2").await;
    bench.next_is("/in", "1").await;
    let service = Arc::clone(&bench.service);
    let stopping = tokio::spawn(async move { service.stop_forever().await });
    while bench.service.start_app_subscriptions().await.is_ok() && !stopping.is_finished() {
        // The failure of a delivery that a shutdown overtook is not held against the message.
        hold.notify_waiters();
        tokio::task::yield_now().await;
    }
    stopping.await.unwrap();
    *bench.app.hold.lock() = None;
    let next = outrigger_sidecar_pubsub::PubsubService::new(bench.options.clone());
    next.set_declarative(vec![subscription("t", "/in"), subscription("dead", "/dead")])
        .await
        .unwrap();
    next.start_app_subscriptions().await.unwrap();
    bench.next_is("/in", "1").await;
    bench.next_is("/in", "2").await;
}
