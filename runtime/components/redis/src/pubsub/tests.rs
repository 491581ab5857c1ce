//! On a real server: the behaviour suite, what is stored, and what outlives crashes.

use std::{sync::Arc, time::Duration};

use outrigger_component::{Error, Metadata, Properties};
use outrigger_pubsub::{
    Outgoing, PubSub, SharedPubSub, SubscribeRequest, Verdict,
    suite::{self, Promises, Recorder},
};
use outrigger_types::Topic;
use tokio::sync::Semaphore;

use super::{broker::RedisPubSub, config::Config};
use crate::testing::{Own, Raw, properties, server};

async fn open(properties: &Properties) -> RedisPubSub {
    RedisPubSub::open(Config::parse(properties).unwrap())
        .await
        .unwrap()
}

fn message(topic: &str, text: &str, pairs: &[(&str, &str)]) -> Outgoing {
    Outgoing {
        topic: Topic::from(topic),
        data: text.to_owned().into(),
        content_type: None,
        metadata: pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

fn request(topic: &str, group: &str) -> SubscribeRequest {
    SubscribeRequest {
        topic: Topic::from(topic),
        group: group.to_owned(),
        metadata: Metadata::new(),
        bulk: None,
    }
}

async fn publish(broker: &RedisPubSub, topic: &str, text: &str) {
    PubSub::publish(broker, message(topic, text, &[])).await.unwrap();
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let reached = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(suite::DEADLINE, reached).await.is_ok(),
        "{what}"
    );
}

/// Entries of a group that nobody has acknowledged.
async fn pending(raw: &Raw, topic: &str, group: &str) -> usize {
    raw.texts(&["XPENDING", topic, group, "-", "+", "1000"])
        .await
        .len()
        / 4
}

/// Nothing is overdue before a test is over.
const PATIENT: [(&str, &str); 2] = [("processingTimeout", "10m"), ("redeliverInterval", "20")];
/// Overdue soon, but not while the server is merely slow.
const QUICK: [(&str, &str); 2] = [("processingTimeout", "600"), ("redeliverInterval", "50")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_promises() {
    let Some(server) = server("pubsub.redis' behaviour suite") else {
        return;
    };
    Raw::emptied(&server, 12).await;
    let broker = open(&properties(
        &server,
        12,
        &[
            ("processingTimeout", "1s"),
            ("redeliverInterval", "50"),
            ("concurrency", "4"),
        ],
    ))
    .await;
    let promises = Promises {
        redelivers: true,
        competes: true,
        keeps: true,
        // Within a subscription only; the suite asks for more.
        ordered_keys: false,
        concurrency: Some(4),
    };
    suite::run(|| async { Arc::new(broker.clone()) as SharedPubSub }, promises).await;
}

#[tokio::test]
async fn entries_are_those_of_dapr() {
    let Some(server) = server("pubsub.redis' entries") else {
        return;
    };
    let raw = Raw::without(&server, 13, "rows").await;
    let broker = open(&properties(&server, 13, &[("maxLenApprox", "5")])).await;
    PubSub::publish(&broker, message("rows", "one", &[("b", "&"), ("a", "1")]))
        .await
        .unwrap();
    publish(&broker, "rows", "two").await;
    let rows = raw.texts(&["XRANGE", "rows", "-", "+"]).await;
    assert_eq!(
        rows[1..5],
        ["data", "one", "metadata", r#"{"a":"1","b":"\u0026"}"#]
    );
    assert_eq!(rows[6..8], ["data", "two"]);
    let subscription = PubSub::subscribe(&broker, request("rows", "app"), Recorder::new())
        .await
        .unwrap();
    let groups = raw.texts(&["XINFO", "GROUPS", "rows"]).await;
    assert_eq!(groups[..2], ["name", "app"]);
    until("both are read and acknowledged", async || {
        let groups = raw.texts(&["XINFO", "GROUPS", "rows"]).await;
        groups[7] != "0-0" && pending(&raw, "rows", "app").await == 0
    })
    .await;
    let consumers = raw.texts(&["XINFO", "CONSUMERS", "rows", "app"]).await;
    assert_eq!(
        consumers[..2],
        ["name", "app"],
        "the consumer has the group's name"
    );
    subscription.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_before_the_apps_word() {
    let Some(server) = server("pubsub.redis' acknowledgements") else {
        return;
    };
    let raw = Raw::without(&server, 13, "word").await;
    let broker = open(&properties(&server, 13, &PATIENT)).await;
    let gate = Arc::new(Semaphore::new(0));
    let recorder = {
        let gate = gate.clone();
        Recorder::asynchronous(move |_, _| {
            let gate = gate.clone();
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                Verdict::Ack
            })
        })
    };
    let subscription = PubSub::subscribe(&broker, request("word", "app"), recorder.clone())
        .await
        .unwrap();
    for text in ["1", "2", "3"] {
        publish(&broker, "word", text).await;
    }
    recorder.wait_for(3).await;
    assert_eq!(pending(&raw, "word", "app").await, 3);
    gate.add_permits(1);
    until("one is acknowledged", async || {
        pending(&raw, "word", "app").await == 2
    })
    .await;
    gate.add_permits(2);
    until("all are", async || pending(&raw, "word", "app").await == 0).await;
    subscription.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_work_is_not_delivered_twice_however_long_it_takes() {
    let Some(server) = server("pubsub.redis and slow handlers") else {
        return;
    };
    Raw::without(&server, 13, "slow").await;
    let slow = || {
        Recorder::asynchronous(|_, _| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(350)).await;
                Verdict::Ack
            })
        })
    };
    // One at a time: the last of ten waits twice as long as an entry may be pending.
    let one = [("processingTimeout", "1500"), QUICK[1], ("concurrency", "1")];
    let (first, second) = (
        open(&properties(&server, 13, &one)).await,
        open(&properties(&server, 13, &one)).await,
    );
    let (of_first, of_second) = (slow(), slow());
    for number in 0..10 {
        publish(&first, "slow", &number.to_string()).await;
    }
    let one = PubSub::subscribe(&first, request("slow", "app"), of_first.clone())
        .await
        .unwrap();
    of_first.wait_for(1).await;
    // Another process of the group looks for overdue entries all the time.
    let two = PubSub::subscribe(&second, request("slow", "app"), of_second.clone())
        .await
        .unwrap();
    of_first.wait_for(10).await;
    of_first.assert_quiet(Duration::from_millis(1_700)).await;
    assert!(of_second.texts().is_empty(), "{:?}", of_second.texts());
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_whose_time_is_over_loses_its_entry_to_the_next() {
    let Some(server) = server("pubsub.redis' processingTimeout") else {
        return;
    };
    let raw = Raw::without(&server, 13, "stuck").await;
    let broker = open(&properties(&server, 13, &QUICK)).await;
    let recorder = Recorder::asynchronous(|index, _| {
        Box::pin(async move {
            if index == 0 {
                std::future::pending::<()>().await;
            }
            Verdict::Ack
        })
    });
    let subscription = PubSub::subscribe(&broker, request("stuck", "app"), recorder.clone())
        .await
        .unwrap();
    publish(&broker, "stuck", "x").await;
    recorder.wait_for(2).await;
    until("it is acknowledged", async || {
        pending(&raw, "stuck", "app").await == 0
    })
    .await;
    subscription.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_sidecar_held_is_claimed_and_deleted_entries_do_not_stick() {
    let Some(server) = server("pubsub.redis' claims") else {
        return;
    };
    let raw = Raw::without(&server, 13, "dead").await;
    let broker = open(&properties(&server, 13, &QUICK)).await;
    for number in 0..5 {
        publish(&broker, "dead", &number.to_string()).await;
    }
    raw.run(&["XGROUP", "CREATE", "dead", "app", "0"]).await;
    // A sidecar of the same group read them and is no more; one of the entries is trimmed meanwhile.
    raw.run(&[
        "XREADGROUP",
        "GROUP",
        "app",
        "app",
        "COUNT",
        "5",
        "STREAMS",
        "dead",
        ">",
    ])
    .await;
    let first = raw
        .texts(&["XRANGE", "dead", "-", "+", "COUNT", "1"])
        .await
        .remove(0);
    raw.run(&["XDEL", "dead", &first]).await;
    let recorder = Recorder::new();
    let subscription = PubSub::subscribe(&broker, request("dead", "app"), recorder.clone())
        .await
        .unwrap();
    recorder.wait_for(4).await;
    until("nothing stays pending", async || {
        pending(&raw, "dead", "app").await == 0
    })
    .await;
    assert_eq!(recorder.texts(), ["1", "2", "3", "4"]);
    subscription.close().await;
}

#[tokio::test]
async fn without_redelivery_a_refused_message_is_dropped() {
    let Some(server) = server("pubsub.redis without redelivery") else {
        return;
    };
    let raw = Raw::without(&server, 13, "no").await;
    let broker = open(&properties(&server, 13, &[("redeliverInterval", "0")])).await;
    let recorder = Recorder::scripted(|_, _| Verdict::Retry(Error::unavailable("no")));
    let subscription = PubSub::subscribe(&broker, request("no", "app"), recorder.clone())
        .await
        .unwrap();
    publish(&broker, "no", "x").await;
    recorder.wait_for(1).await;
    until("it is gone", async || pending(&raw, "no", "app").await == 0).await;
    subscription.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_keys_are_handled_in_order() {
    let Some(server) = server("pubsub.redis' order") else {
        return;
    };
    Raw::without(&server, 13, "keys").await;
    let broker = open(&properties(&server, 13, &[])).await;
    let recorder = Recorder::asynchronous(|index, _| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_micros((index as u64 * 37) % 900)).await;
            Verdict::Ack
        })
    });
    let subscription = PubSub::subscribe(&broker, request("keys", "app"), recorder.clone())
        .await
        .unwrap();
    for number in 0..200 {
        let key = format!("k{}", number % 4);
        let sent = message("keys", &format!("{number:04}"), &[("partitionKey", &key)]);
        PubSub::publish(&broker, sent).await.unwrap();
    }
    recorder.wait_for(200).await;
    for key in ["k0", "k1", "k2", "k3"] {
        let of_key: Vec<_> = recorder
            .seen()
            .into_iter()
            .filter(|seen| seen.metadata["partitionKey"] == key)
            .map(|seen| seen.text)
            .collect();
        assert!(of_key.is_sorted(), "{key}: {of_key:?}");
    }
    subscription.close().await;
}

/// The server is killed again and again while messages flow; with every write on the disk before its answer, all of
/// them arrive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_when_the_server_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut own) = Own::start("pubsub.redis and a killed server", folder.path(), &arguments).await
    else {
        return;
    };
    let retries = ("redisMaxRetries", "200");
    let broker = open(&properties(&own.address, 0, &[QUICK[0], QUICK[1], retries])).await;
    let recorder = Recorder::new();
    let subscription = PubSub::subscribe(&broker, request("crash", "app"), recorder.clone())
        .await
        .unwrap();
    let publisher = {
        let broker = broker.clone();
        tokio::spawn(async move {
            for number in 0..600 {
                publish(&broker, "crash", &format!("{number:04}")).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    };
    for round in 1..=3 {
        recorder.wait_for(round * 100).await;
        own.kill();
        own.restart().await;
    }
    publisher.await.unwrap();
    until("every message arrives", async || {
        let mut texts = recorder.texts();
        texts.sort();
        texts.dedup();
        texts.len() == 600
    })
    .await;
    let raw = Raw::open(&own.address, 0).await;
    until("none stays pending", async || {
        pending(&raw, "crash", "app").await == 0
    })
    .await;
    subscription.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgot_everything_gets_its_groups_back() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut own) = Own::start("pubsub.redis and a forgetful server", folder.path(), &[]).await else {
        return;
    };
    let broker = open(&properties(&own.address, 0, &[("redisMaxRetries", "200")])).await;
    let recorder = Recorder::new();
    let subscription = PubSub::subscribe(&broker, request("again", "app"), recorder.clone())
        .await
        .unwrap();
    publish(&broker, "again", "before").await;
    recorder.wait_for(1).await;
    own.kill();
    own.restart().await;
    publish(&broker, "again", "after").await;
    recorder.wait_for(2).await;
    // The same without a restart.
    Raw::open(&own.address, 0).await.run(&["DEL", "again"]).await;
    publish(&broker, "again", "third").await;
    recorder.wait_for(3).await;
    assert_eq!(recorder.texts(), ["before", "after", "third"]);
    subscription.close().await;
}
