//! Which subscriptions there are: the resources', the app's, and what scopes and components make of them.

use std::sync::Arc;

use outrigger_pubsub::{MemoryOptions, MemoryPubSub};
use outrigger_sidecar_pubsub::SubscriptionKind;

use crate::support::{Bench, broker, subscription};

#[tokio::test]
async fn the_apps_word_replaces_the_first_resource() {
    let mut bench = Bench::new().await;
    *bench.app.subscriptions.lock() = Some(
        r#"[{"pubsubname":"ps","topic":"a","route":"mine"},
            {"pubsubname":"ps","topic":"c","routes":{"rules":[{"match":"event.data == \"x\"","path":"x"}],"default":"d"}},
            {"pubsubname":"missing","topic":"c","route":"c"}]"#
            .to_owned(),
    );
    bench
        .subscribe(vec![
            subscription("a", "/first"),
            subscription("b", "/b1"),
            subscription("b", "/b2"),
        ])
        .await;
    bench.publish("a", "1").await;
    bench.next_is("/mine", "1").await;
    bench.publish("b", "2").await;
    bench.next_is("/b1", "2").await;
    bench.publish("c", "x").await;
    bench.next_is("/x", "x").await;
    bench.publish("c", "y").await;
    bench.next_is("/d", "y").await;
    let kinds: Vec<_> = bench
        .service
        .subscriptions()
        .iter()
        .map(|info| info.kind)
        .collect();
    assert_eq!(kinds[0], SubscriptionKind::Programmatic);
    assert_eq!(kinds[1], SubscriptionKind::Declarative);
    assert_eq!(kinds.len(), 4);

    // Without the first resource of a topic the next one has its place, at once.
    bench
        .service
        .set_declarative(vec![subscription("b", "/b2")])
        .await
        .unwrap();
    bench.publish("b", "3").await;
    bench.next_is("/b2", "3").await;
}

#[tokio::test]
async fn the_app_is_not_asked_when_told_so() {
    let mut bench = Bench::new().await;
    *bench.app.subscriptions.lock() = Some(r#"[{"pubsubname":"ps","topic":"a","route":"a"}]"#.to_owned());
    bench.options.ask_app = false;
    bench.service = Arc::new(outrigger_sidecar_pubsub::PubsubService::new(
        bench.options.clone(),
    ));
    bench.service.start_app_subscriptions().await.unwrap();
    assert!(bench.service.subscriptions().is_empty());
}

#[tokio::test]
async fn scopes_deny_subscriptions() {
    let scopes = [("subscriptionScopes", "app=a")];
    let mut bench = Bench::with(Arc::new(MemoryPubSub::new()), &scopes).await;
    let mut other = subscription("a", "/other");
    other.scopes = vec!["someone".to_owned()];
    bench
        .subscribe(vec![other, subscription("a", "/a"), subscription("b", "/b")])
        .await;
    bench.publish("b", "1").await;
    bench.publish("a", "2").await;
    bench.next_is("/a", "2").await;
}

#[tokio::test]
async fn subscriptions_follow_their_component() {
    let mut bench = Bench::new().await;
    bench.subscribe(vec![subscription("t", "/in")]).await;
    bench.service.stop_component("ps").await;
    let fresh = MemoryPubSub::with_options(MemoryOptions {
        concurrency: 4,
        ..MemoryOptions::default()
    });
    bench.components.insert(broker("ps", Arc::new(fresh), &[]));
    bench.service.reload_component("ps").await.unwrap();
    bench.publish("t", "1").await;
    bench.next_is("/in", "1").await;
}

#[tokio::test]
async fn namespaced_components_prefix_topics() {
    let mut bench = Bench::with(Arc::new(MemoryPubSub::new()), &[("consumerID", "default.app")]).await;
    bench.subscribe(vec![subscription("t", "/in")]).await;
    bench.publish("t", "1").await;
    let seen = bench.next().await;
    assert_eq!(seen.json()["topic"], "t");
}
