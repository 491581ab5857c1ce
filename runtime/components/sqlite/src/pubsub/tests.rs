//! Behaviour of the whole broker; crashes and measurements with child processes are in `processes`.

use std::{path::Path, sync::Arc, time::Duration};

use outrigger_component::{ErrorKind, Host, Metadata, Properties};
use outrigger_pubsub::{
    Outgoing, OutgoingEntry, PubSub, SharedPubSub, SubscribeRequest, Verdict,
    suite::{self, Promises, Recorder},
};
use outrigger_types::Topic;

use super::{
    broker::{SqlitePubSub, now, sweep_once},
    config::{Config, Options},
    retention,
};

mod processes;

async fn open(folder: &Path, pairs: &[(&str, &str)]) -> SqlitePubSub {
    let file = ("connectionString", "pubsub.db");
    let properties = Properties::from_pairs(std::iter::once(&file).chain(pairs).copied());
    SqlitePubSub::open(Config::parse(&properties).unwrap(), Host::new("app", folder))
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

fn promises(concurrency: usize) -> Promises {
    Promises {
        redelivers: true,
        competes: true,
        keeps: true,
        ordered_keys: true,
        concurrency: Some(concurrency),
    }
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

async fn stored(broker: &SqlitePubSub) -> i64 {
    let count = "SELECT count(*) FROM pubsub_messages";
    broker
        .shared()
        .database
        .read(move |connection| Ok(connection.query_row(count, [], |row| row.get(0)).unwrap()))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_promises_with_one_handle() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(
        folder.path(),
        &[("redeliverInterval", "20ms"), ("concurrency", "4")],
    )
    .await;
    suite::run(|| async { Arc::new(broker.clone()) as SharedPubSub }, promises(4)).await;
}

#[tokio::test]
async fn keeps_the_promises_in_memory() {
    let file = ("connectionString", ":memory:");
    let properties = Properties::from_pairs([file, ("redeliverInterval", "20ms")]);
    let host = Host::new("app", ".");
    let broker = SqlitePubSub::open(Config::parse(&properties).unwrap(), host)
        .await
        .unwrap();
    suite::run(
        || async { Arc::new(broker.clone()) as SharedPubSub },
        promises(10),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_of_one_file_share_groups_order_and_news() {
    let folder = tempfile::tempdir().unwrap();
    let one = open(folder.path(), &[("redeliverInterval", "20ms")]).await;
    let two = open(folder.path(), &[("redeliverInterval", "20ms")]).await;
    let recorder = Recorder::new();
    let first = PubSub::subscribe(&one, request("shared", "app"), recorder.clone())
        .await
        .unwrap();
    let second = PubSub::subscribe(&two, request("shared", "app"), recorder.clone())
        .await
        .unwrap();
    for number in 0..200 {
        let publisher = if number % 2 == 0 { &one } else { &two };
        let sent = message(
            "shared",
            &format!("{number:04}"),
            &[("partitionKey", &format!("k{}", number % 3))],
        );
        PubSub::publish(publisher, sent).await.unwrap();
    }
    recorder.wait_for(200).await;
    for key in ["k0", "k1", "k2"] {
        let of_key: Vec<_> = recorder
            .seen()
            .into_iter()
            .filter(|seen| seen.metadata["partitionKey"] == key)
            .map(|seen| seen.text)
            .collect();
        assert!(of_key.is_sorted(), "{key}: {of_key:?}");
    }
    recorder.assert_quiet(Duration::from_millis(100)).await;
    first.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_released_by_a_pausing_consumer_reach_others_before_the_lease_ends() {
    let folder = tempfile::tempdir().unwrap();
    let one = open(folder.path(), &[("leaseDuration", "1h"), ("concurrency", "2")]).await;
    let two = open(folder.path(), &[("leaseDuration", "1h")]).await;
    let stuck = Recorder::asynchronous(|_, _| Box::pin(std::future::pending()));
    let first = PubSub::subscribe(&one, request("orders", "app"), stuck.clone())
        .await
        .unwrap();
    for number in 0..10 {
        PubSub::publish(&one, message("orders", &number.to_string(), &[]))
            .await
            .unwrap();
    }
    stuck.wait_for(2).await;
    first.pause().await;
    let taker = Recorder::new();
    let second = PubSub::subscribe(&two, request("orders", "app"), taker.clone())
        .await
        .unwrap();
    taker.wait_for(8).await;
    taker.assert_quiet(Duration::from_millis(100)).await;
    assert_eq!(stuck.seen().len(), 2, "a paused subscription starts no handler");
    second.close().await;
    drop(first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lapsed_lease_is_taken_over_and_the_late_verdict_is_fenced() {
    let folder = tempfile::tempdir().unwrap();
    let one = open(folder.path(), &[]).await;
    let two = open(folder.path(), &[]).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = gate.clone();
    let slow = Recorder::asynchronous(move |_, _| {
        let held = held.clone();
        Box::pin(async move {
            held.acquire().await.unwrap().forget();
            Verdict::Ack
        })
    });
    let first = PubSub::subscribe(&one, request("orders", "app"), slow.clone())
        .await
        .unwrap();
    PubSub::publish(&one, message("orders", "once", &[]))
        .await
        .unwrap();
    slow.wait_for(1).await;
    // As if the first process had been stopped for longer than its lease.
    one.shared()
        .database
        .write(|connection| {
            connection
                .execute("UPDATE pubsub_consumers SET lease = 1", [])
                .unwrap();
            Ok(())
        })
        .await
        .unwrap();
    let quick = Recorder::scripted(|index, _| {
        if index == 0 {
            Verdict::Retry(outrigger_component::Error::internal("later"))
        } else {
            Verdict::Ack
        }
    });
    let second = PubSub::subscribe(&two, request("orders", "app"), quick.clone())
        .await
        .unwrap();
    quick.wait_for(1).await;
    first.pause().await;
    gate.add_permits(1);
    // The late acknowledgement must not finish what the second consumer has refused.
    quick.wait_for(2).await;
    first.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_handler_keeps_its_claim_beyond_the_lease() {
    let folder = tempfile::tempdir().unwrap();
    let one = open(folder.path(), &[("leaseDuration", "3s")]).await;
    let two = open(folder.path(), &[("leaseDuration", "3s")]).await;
    let slow = Recorder::asynchronous(|_, _| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            Verdict::Ack
        })
    });
    let other = Recorder::new();
    let first = PubSub::subscribe(&one, request("orders", "app"), slow.clone())
        .await
        .unwrap();
    PubSub::publish(&one, message("orders", "long", &[]))
        .await
        .unwrap();
    slow.wait_for(1).await;
    let second = PubSub::subscribe(&two, request("orders", "app"), other.clone())
        .await
        .unwrap();
    first.close().await;
    other.assert_quiet(Duration::from_millis(50)).await;
    assert!(other.seen().is_empty(), "the lease was not renewed");
    second.close().await;
}

#[tokio::test]
async fn a_full_store_refuses_and_finished_messages_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path(), &[("maxSizeMiB", "1")]).await;
    let big = "x".repeat(100_000);
    let mut accepted = 0;
    let refused = loop {
        match PubSub::publish(&broker, message("big", &big, &[])).await {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(accepted, 10);
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
    let recorder = Recorder::new();
    let subscription = PubSub::subscribe(&broker, request("big", "app"), recorder.clone())
        .await
        .unwrap();
    recorder.wait_for(10).await;
    until("finished messages make room", async || {
        PubSub::publish(&broker, message("big", &big, &[])).await.is_ok()
    })
    .await;
    subscription.close().await;
}

#[tokio::test]
async fn finished_messages_go_and_unfinished_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(
        folder.path(),
        &[("settledRetention", "0s"), ("redeliverInterval", "1h")],
    )
    .await;
    let recorder = Recorder::scripted(|_, text| {
        if text == "bad" {
            Verdict::Retry(outrigger_component::Error::internal("no"))
        } else {
            Verdict::Ack
        }
    });
    let subscription = PubSub::subscribe(&broker, request("orders", "app"), recorder.clone())
        .await
        .unwrap();
    let entries = (0..500)
        .map(|number| OutgoingEntry {
            id: number.to_string().into(),
            data: if number == 3 { "bad".into() } else { "good".into() },
            content_type: None,
            metadata: Metadata::new(),
        })
        .collect();
    assert!(
        PubSub::publish_bulk(&broker, &"orders".into(), entries, &Metadata::new())
            .await
            .is_empty()
    );
    recorder.wait_for(500).await;
    until("all but the refused one go", async || {
        sweep_once(broker.shared()).await.unwrap();
        stored(&broker).await == 1
    })
    .await;
    subscription.close().await;
}

#[tokio::test]
async fn messages_past_their_retention_are_dropped_with_their_claims() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(
        folder.path(),
        &[("messageRetention", "1s"), ("redeliverInterval", "1h")],
    )
    .await;
    let recorder = Recorder::scripted(|_, _| Verdict::Retry(outrigger_component::Error::internal("no")));
    let subscription = PubSub::subscribe(&broker, request("orders", "app"), recorder.clone())
        .await
        .unwrap();
    PubSub::publish(&broker, message("orders", "refused", &[("partitionKey", "k")]))
        .await
        .unwrap();
    PubSub::publish(&broker, message("orders", "behind", &[("partitionKey", "k")]))
        .await
        .unwrap();
    recorder.wait_for(1).await;
    until("both go", async || {
        sweep_once(broker.shared()).await.unwrap();
        stored(&broker).await == 0
    })
    .await;
    subscription.close().await;
}

#[tokio::test]
async fn malformed_times_to_live_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path(), &[]).await;
    for wrong in ["soon", "0", "-1"] {
        let refused = PubSub::publish(&broker, message("orders", "x", &[("ttlInSeconds", wrong)])).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidRequest, "{wrong}");
    }
}

async fn groups(broker: &SqlitePubSub) -> Vec<String> {
    let names = "SELECT name FROM pubsub_groups ORDER BY name";
    broker
        .shared()
        .database
        .read(move |connection| {
            let mut statement = connection.prepare(names).unwrap();
            let rows = statement.query_map([], |row| row.get(0)).unwrap();
            Ok(rows.map(Result::unwrap).collect())
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn a_passing_group_begins_at_the_end_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let passing = open(
        folder.path(),
        &[("initialOffset", "newest"), ("groupRetention", "60s")],
    )
    .await;
    let durable = open(folder.path(), &[("settledRetention", "0s")]).await;
    let (all, some) = (Recorder::new(), Recorder::new());
    let keeps = PubSub::subscribe(&durable, request("orders", "app"), all.clone())
        .await
        .unwrap();
    PubSub::publish(&durable, message("orders", "before", &[]))
        .await
        .unwrap();
    let passes = PubSub::subscribe(&passing, request("orders", "a-uuid"), some.clone())
        .await
        .unwrap();
    PubSub::publish(&durable, message("orders", "after", &[]))
        .await
        .unwrap();
    all.wait_for(2).await;
    some.wait_for(1).await;
    assert_eq!(some.texts(), ["after"]);
    passes.close().await;
    PubSub::publish(&durable, message("orders", "missed", &[]))
        .await
        .unwrap();
    all.wait_for(3).await;

    // Any process that has the file open tidies it, whatever its own component says of groups.
    let tidied = async |seconds: i64| {
        let options = Options::default();
        let tidy = move |connection: &rusqlite::Connection| {
            retention::groups(connection, &[], &options, now() + seconds * 1000)
        };
        durable.shared().database.write(tidy).await.unwrap();
        groups(&durable).await
    };
    assert_eq!(tidied(30).await, ["a-uuid", "app"], "within its life");
    assert_eq!(tidied(90).await, ["app"]);
    until("nothing waits for it", async || {
        sweep_once(durable.shared()).await.unwrap();
        stored(&durable).await == 0
    })
    .await;
    keeps.close().await;
}

/// Written by the first version of the tables; read for ever.
#[tokio::test]
async fn a_file_of_format_1_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = rusqlite::Connection::open(folder.path().join("pubsub.db")).unwrap();
    file.execute_batch(include_str!("fixtures/format-1.sql")).unwrap();
    drop(file);
    let broker = open(
        folder.path(),
        &[("redeliverInterval", "10ms"), ("messageRetention", "1000000h")],
    )
    .await;
    let recorder = Recorder::new();
    let subscription = PubSub::subscribe(&broker, request("orders", "app"), recorder.clone())
        .await
        .unwrap();
    recorder.wait_for(4).await;
    let mut texts = recorder.texts();
    let lane: Vec<_> = texts
        .iter()
        .filter(|text| text.starts_with("lane"))
        .cloned()
        .collect();
    assert_eq!(lane, ["lane 1", "lane 2"]);
    texts.sort();
    assert_eq!(texts, ["lane 1", "lane 2", "refused", "unseen"]);
    assert_eq!(
        recorder
            .seen()
            .iter()
            .find(|seen| seen.text == "unseen")
            .unwrap()
            .metadata["colour"],
        "blue"
    );
    subscription.close().await;
}

#[tokio::test]
async fn a_file_of_a_later_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), &[]).await;
    let file = rusqlite::Connection::open(folder.path().join("pubsub.db")).unwrap();
    file.execute("UPDATE pubsub_metadata SET value = '99'", [])
        .unwrap();
    drop(file);
    let properties = Properties::from_pairs([("connectionString", "pubsub.db")]);
    let opened = SqlitePubSub::open(
        Config::parse(&properties).unwrap(),
        Host::new("app", folder.path()),
    )
    .await;
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn a_message_nobody_rang_for_is_found_by_looking() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path(), &[]).await;
    let recorder = Recorder::new();
    let subscription = PubSub::subscribe(&broker, request("orders", "app"), recorder.clone())
        .await
        .unwrap();
    let file = rusqlite::Connection::open(folder.path().join("pubsub.db")).unwrap();
    for count in 1..=3 {
        // Long enough for the broker to be idle.
        recorder.assert_quiet(Duration::from_millis(700)).await;
        file.execute(
            "INSERT INTO pubsub_messages (topic, data, published) SELECT id, x'41', 1790000000000 FROM pubsub_topics",
            [],
        )
        .unwrap();
        recorder.wait_for(count).await;
    }
    subscription.close().await;
}
