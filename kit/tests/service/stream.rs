//! Streaming subscriptions: verdicts, events without one, and the end of a subscription.

use outrigger_kit::client::{Publication, StreamOptions};
use outrigger_kit::{Ack, testing::Cluster};
use serde_json::json;

#[tokio::test]
async fn events_come_with_their_attributes_and_refused_ones_again() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("reader").await.unwrap();
    let client = sidecar.client();
    let mut ticks = client
        .subscribe("pubsub", "ticks", StreamOptions::default())
        .await
        .unwrap();
    let mut event = outrigger_kit::Event::new("tick", "urn:exchange", json!({"price": 1.5}));
    event.extensions.insert("correlationid".to_owned(), json!("c-1"));
    client
        .publish("pubsub", "ticks", Publication::event(&event))
        .await
        .unwrap();

    let first = ticks.next().await.unwrap();
    assert_eq!(first.topic, "ticks");
    assert_eq!(first.event.id, event.id);
    assert_eq!(first.event.kind, "tick");
    assert_eq!(first.event.data, json!({"price": 1.5}));
    assert_eq!(first.data.as_ref(), br#"{"price":1.5}"#);
    assert_eq!(first.event.extension("correlationid"), Some("c-1"));
    first.settle(Ack::Retry);

    // Dropped without a verdict: it comes again as well.
    drop(ticks.next().await.unwrap());
    let third = ticks.next().await.unwrap();
    assert_eq!(third.event.id, event.id);
    third.settle(Ack::Success);

    let last = outrigger_kit::Event::new("tick", "urn:exchange", json!({"price": 2}));
    client
        .publish("pubsub", "ticks", Publication::event(&last))
        .await
        .unwrap();
    let next = ticks.next().await.unwrap();
    assert_eq!(next.event.id, last.id, "what was settled does not come again");
    next.settle(Ack::Success);
}

#[tokio::test]
async fn an_event_that_was_held_at_the_end_goes_to_the_next_reader() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("reader").await.unwrap();
    let client = sidecar.client();
    let mut first = client
        .subscribe("pubsub", "ticks", StreamOptions::default())
        .await
        .unwrap();
    client
        .publish("pubsub", "ticks", Publication::json(&json!(7)))
        .await
        .unwrap();
    let held = first.next().await.unwrap();
    drop(first);
    let mut second = client
        .subscribe("pubsub", "ticks", StreamOptions::default())
        .await
        .unwrap();
    let again = second.next().await.unwrap();
    assert_eq!(again.event.data, json!(7));
    again.settle(Ack::Success);
    drop(held);
}

#[tokio::test]
async fn a_sidecar_that_is_not_there_is_an_error_after_the_retries() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("reader").await.unwrap();
    let client = sidecar.client();
    drop(sidecar);
    let error = client
        .subscribe("pubsub", "ticks", StreamOptions::default())
        .await
        .unwrap_err();
    assert!(error.is_retryable(), "{error}");
}
