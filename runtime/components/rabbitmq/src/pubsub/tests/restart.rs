//! Connections that break and come back; a whole broker does in `tests/restart.rs`.

use std::{sync::Arc, time::Duration};

use lapin::options::QueueDeleteOptions;
use outrigger_pubsub::{DynPubSub, Verdict, suite::Recorder};
use tokio::sync::Semaphore;

use super::{message, observer, open, proxy::Proxy, request, server, unique};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_break_everything_is_declared_again_and_nothing_is_lost() {
    let Some(uri) = server() else { return };
    let (_connection, channel) = observer(&uri).await;
    let (head, tail) = uri.rsplit_once(':').unwrap();
    let proxy = Proxy::to(tail.trim_end_matches('/').parse().unwrap()).await;
    let through = format!("{head}:{}/", proxy.port);
    let broker = open(&through, &[]).await;
    let topic = unique("break");
    let recorder = Recorder::new();
    let subscription = DynPubSub::subscribe(&broker, request(&topic, "app", &[]), recorder.clone())
        .await
        .unwrap();
    DynPubSub::publish(&broker, message(&topic, "before", &[]))
        .await
        .unwrap();
    recorder.wait_for(1).await;

    proxy.cut();
    // Also what the broker forgot meanwhile.
    channel
        .queue_delete(format!("app-{topic}").into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    let publishing = tokio::spawn({
        let (broker, topic) = (broker.clone(), topic.clone());
        async move {
            let mut sent = 0;
            // Without its queue the broker drops what comes; so publish until one arrives.
            loop {
                if DynPubSub::publish(&broker, message(&topic, "after", &[]))
                    .await
                    .is_ok()
                {
                    sent += 1;
                }
                if sent > 200 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    proxy.mend();
    recorder.wait_for(2).await;
    publishing.abort();
    subscription.close().await;
    DynPubSub::close(&broker).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_that_a_break_overtook_brings_the_message_again() {
    let Some(uri) = server() else { return };
    let (head, tail) = uri.rsplit_once(':').unwrap();
    let proxy = Proxy::to(tail.trim_end_matches('/').parse().unwrap()).await;
    let broker = open(&format!("{head}:{}/", proxy.port), &[]).await;
    let topic = unique("overtaken");
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let recorder = Recorder::asynchronous(move |_, _| {
        let gate = held.clone();
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            Verdict::Ack
        })
    });
    let subscription = DynPubSub::subscribe(&broker, request(&topic, "app", &[]), recorder.clone())
        .await
        .unwrap();
    DynPubSub::publish(&broker, message(&topic, "one", &[]))
        .await
        .unwrap();
    recorder.wait_for(1).await;
    proxy.cut();
    proxy.mend();
    recorder.wait_for(2).await;
    gate.add_permits(10);
    subscription.close().await;
    assert_eq!(recorder.texts(), ["one", "one"]);
    // Taken now: the successor gets nothing.
    let next = Recorder::new();
    let subscription = DynPubSub::subscribe(&broker, request(&topic, "app", &[]), next.clone())
        .await
        .unwrap();
    next.assert_quiet(Duration::from_millis(200)).await;
    subscription.close().await;
}
