//! The whole broker goes away and comes back, by the script that `OUTRIGGER_TEST_RABBITMQ_RESTART` names. A program of
//! its own, so that no other test runs beside it.

use std::{process::Stdio, time::Duration};

use outrigger_component::{Host, Metadata, Properties, Spec};
use outrigger_components_rabbitmq::pubsub::RABBITMQ;
use outrigger_pubsub::{Outgoing, SharedPubSub, SubscribeRequest, suite::Recorder};
use outrigger_types::Topic;

async fn open(uri: &str) -> SharedPubSub {
    let spec = Spec {
        name: "rabbit".into(),
        type_name: "pubsub.rabbitmq".to_owned(),
        version: "v1".to_owned(),
        properties: Properties::from_pairs([
            ("connectionString", uri),
            ("deletedWhenUnused", "false"),
            ("deliveryMode", "2"),
            ("reconnectWaitSeconds", "500ms"),
        ]),
    };
    let open = (RABBITMQ.validate)(&spec).unwrap();
    open.run(Host::new("app", ".")).await.unwrap()
}

fn message(topic: &Topic, text: &str) -> Outgoing {
    Outgoing {
        topic: topic.clone(),
        data: text.to_owned().into(),
        content_type: None,
        metadata: Metadata::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stderr, clippy::disallowed_methods, reason = "a test's own")]
async fn messages_and_subscriptions_survive_a_restart_of_the_broker() {
    let (Ok(uri), Ok(script)) = (
        std::env::var("OUTRIGGER_TEST_RABBITMQ"),
        std::env::var("OUTRIGGER_TEST_RABBITMQ_RESTART"),
    ) else {
        eprintln!(
            "skipped: OUTRIGGER_TEST_RABBITMQ, OUTRIGGER_TEST_RABBITMQ_RESTART: not set (cargo xtask services)"
        );
        return;
    };
    let broker = open(&uri).await;
    let topic = Topic::from(format!("restart-{}", uuid::Uuid::new_v4().simple()));
    let request = |group: &str| SubscribeRequest {
        topic: topic.clone(),
        group: group.to_owned(),
        metadata: Metadata::new(),
        bulk: None,
    };
    // One group is away during the restart, the other stays subscribed.
    let away = Recorder::new();
    broker
        .subscribe(request("away"), away.clone())
        .await
        .unwrap()
        .close()
        .await;
    let staying = Recorder::new();
    let stays = broker.subscribe(request("stays"), staying.clone()).await.unwrap();
    for number in 0..50 {
        broker
            .publish(message(&topic, &format!("{number:02}")))
            .await
            .unwrap();
    }
    staying.wait_for(50).await;

    let status = tokio::process::Command::new(script)
        .stdin(Stdio::null())
        .status()
        .await
        .unwrap();
    assert!(status.success(), "{status}");

    let again = async {
        while broker.publish(message(&topic, "50")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), again)
        .await
        .expect("publishing must work again");
    let returns = broker.subscribe(request("away"), away.clone()).await.unwrap();
    for recorder in [&away, &staying] {
        recorder.wait_for(51).await;
        let mut texts = recorder.texts();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), 51, "each message at least once");
    }
    stays.close().await;
    returns.close().await;
    broker.close().await.unwrap();
}
