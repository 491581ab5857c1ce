//! The checks. Each names the behaviour it asserts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outrigger_component::{Error, ErrorKind, Metadata};
use outrigger_types::Topic;
use tokio::sync::Semaphore;

use super::Recorder;
use crate::{BulkOptions, Outgoing, OutgoingEntry, SharedPubSub, SubscribeRequest, Subscription, Verdict};

/// Long enough for a wrong delivery to show, short enough for a fast suite.
const QUIET: Duration = Duration::from_millis(150);

fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

async fn publish(broker: &SharedPubSub, topic: &str, text: &str, pairs: &[(&str, &str)]) {
    let message = Outgoing {
        topic: Topic::from(topic),
        data: text.to_owned().into(),
        content_type: None,
        metadata: metadata(pairs),
    };
    broker.publish(message).await.unwrap();
}

fn request(topic: &str, group: &str, bulk: Option<BulkOptions>) -> SubscribeRequest {
    SubscribeRequest {
        topic: Topic::from(topic),
        group: group.to_owned(),
        metadata: Metadata::new(),
        bulk,
    }
}

async fn subscribe(broker: &SharedPubSub, topic: &str, group: &str, handler: &Arc<Recorder>) -> Subscription {
    broker
        .subscribe(request(topic, group, None), handler.clone())
        .await
        .unwrap()
}

fn refusal() -> Verdict {
    Verdict::Retry(Error::unavailable("not now"))
}

/// Refuses the message with this text the first time it comes, takes everything else.
fn refusing_once(bad: &'static str) -> Arc<Recorder> {
    let refused = AtomicBool::new(false);
    Recorder::scripted(move |_, text| {
        if text == bad && !refused.swap(true, Ordering::SeqCst) {
            refusal()
        } else {
            Verdict::Ack
        }
    })
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("{number:04}")).collect()
}

pub(super) async fn delivers_data_and_metadata(broker: &SharedPubSub, carries_metadata: bool) {
    let recorder = Recorder::new();
    let subscription = subscribe(broker, "suite-plain", "one", &recorder).await;
    publish(broker, "suite-plain", "hello", &[("colour", "blue")]).await;
    recorder.wait_for(1).await;
    let seen = recorder.seen().remove(0);
    assert_eq!(seen.text, "hello");
    assert_eq!(seen.topic, "suite-plain");
    if carries_metadata {
        assert_eq!(seen.metadata.get("colour").map(String::as_str), Some("blue"));
    }
    subscription.close().await;
}

pub(super) async fn every_group_gets_every_message(broker: &SharedPubSub) {
    let (one, two) = (Recorder::new(), Recorder::new());
    let first = subscribe(broker, "suite-groups", "one", &one).await;
    let second = subscribe(broker, "suite-groups", "two", &two).await;
    for text in numbers(0..20) {
        publish(broker, "suite-groups", &text, &[]).await;
    }
    one.wait_for(20).await;
    two.wait_for(20).await;
    assert_eq!(sorted(one.texts()), numbers(0..20));
    assert_eq!(sorted(two.texts()), numbers(0..20));
    first.close().await;
    second.close().await;
}

pub(super) async fn bulk_publish_reaches_subscribers(broker: &SharedPubSub, carries_metadata: bool) {
    let recorder = Recorder::new();
    let subscription = subscribe(broker, "suite-bulk-publish", "one", &recorder).await;
    let failures = publish_many(broker, "suite-bulk-publish", 0..300).await;
    assert!(failures.is_empty(), "{failures:?}");
    recorder.wait_for(300).await;
    assert_eq!(sorted(recorder.texts()), numbers(0..300));
    assert!(
        !carries_metadata
            || recorder
                .seen()
                .iter()
                .all(|seen| seen.metadata.get("of").is_some_and(|of| *of == seen.text))
    );
    subscription.close().await;
}

async fn publish_many(
    broker: &SharedPubSub,
    topic: &str,
    range: std::ops::Range<usize>,
) -> Vec<crate::BulkFailure> {
    let entries = numbers(range)
        .into_iter()
        .map(|text| OutgoingEntry {
            id: text.as_str().into(),
            metadata: metadata(&[("of", &text)]),
            data: text.into(),
            content_type: None,
        })
        .collect();
    broker
        .publish_bulk(&Topic::from(topic), entries, &Metadata::new())
        .await
}

pub(super) async fn bulk_subscription_gets_batches(broker: &SharedPubSub) {
    let recorder = Recorder::new();
    let bulk = BulkOptions {
        max_messages: 10,
        max_wait: Duration::from_millis(200),
    };
    let asked = request("suite-bulk", "one", Some(bulk));
    let subscription = broker.subscribe(asked, recorder.clone()).await.unwrap();
    publish_many(broker, "suite-bulk", 0..30).await;
    recorder.wait_for(30).await;
    // Fewer than a batch: comes after the wait.
    publish_many(broker, "suite-bulk", 30..33).await;
    recorder.wait_for(33).await;
    assert_eq!(sorted(recorder.texts()), numbers(0..33));
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for seen in recorder.seen() {
        *sizes.entry(seen.call).or_default() += 1;
    }
    assert!(sizes.values().all(|size| *size <= 10), "batches of {sizes:?}");
    assert!(sizes.len() < 33, "nothing was batched: {sizes:?}");
    subscription.close().await;
}

pub(super) async fn a_panicking_handler_does_not_end_the_subscription(broker: &SharedPubSub) {
    let recorder = Recorder::scripted(|index, _| {
        assert!(index != 0, "the panic this check is about");
        Verdict::Ack
    });
    let subscription = subscribe(broker, "suite-panic", "one", &recorder).await;
    publish(broker, "suite-panic", "first", &[]).await;
    publish(broker, "suite-panic", "second", &[]).await;
    recorder.wait_for(2).await;
    // A broker may bring the first one again before.
    while !recorder.texts().contains(&"second".to_owned()) {
        let count = recorder.seen().len() + 1;
        recorder.wait_for(count).await;
    }
    subscription.close().await;
}

pub(super) async fn a_closed_subscription_gets_nothing_more(broker: &SharedPubSub) {
    let (gone, stays) = (Recorder::new(), Recorder::new());
    let closing = subscribe(broker, "suite-closed", "one", &gone).await;
    let staying = subscribe(broker, "suite-closed", "two", &stays).await;
    closing.close().await;
    closing.close().await;
    publish(broker, "suite-closed", "after", &[]).await;
    stays.wait_for(1).await;
    gone.assert_quiet(QUIET).await;
    assert!(
        gone.texts().is_empty(),
        "a phantom subscriber got {:?}",
        gone.texts()
    );
    staying.close().await;

    // Dropping ends it as well: the next one of the group gets everything, not half (pain P3).
    let phantom = Recorder::new();
    drop(subscribe(broker, "suite-dropped", "one", &phantom).await);
    let next = Recorder::new();
    let subscription = subscribe(broker, "suite-dropped", "one", &next).await;
    for text in numbers(0..10) {
        publish(broker, "suite-dropped", &text, &[]).await;
    }
    next.wait_for(10).await;
    assert!(
        phantom.texts().is_empty(),
        "a phantom subscriber got {:?}",
        phantom.texts()
    );
    subscription.close().await;
}

pub(super) async fn close_waits_for_the_handler(broker: &SharedPubSub) {
    let gate = Arc::new(Semaphore::new(0));
    let recorder = gated(&gate);
    let subscription = subscribe(broker, "suite-drain", "one", &recorder).await;
    publish(broker, "suite-drain", "slow", &[]).await;
    recorder.wait_for(1).await;
    subscription.pause().await;
    {
        let closing = subscription.close();
        tokio::pin!(closing);
        assert!(
            tokio::time::timeout(QUIET, &mut closing).await.is_err(),
            "close left the handler behind"
        );
        gate.add_permits(1);
        tokio::time::timeout(super::DEADLINE, closing)
            .await
            .expect("close must end when the handler has");
    }
    let next = Recorder::new();
    let again = subscribe(broker, "suite-drain", "one", &next).await;
    next.assert_quiet(QUIET).await;
    again.close().await;
}

fn gated(gate: &Arc<Semaphore>) -> Arc<Recorder> {
    let gate = gate.clone();
    Recorder::asynchronous(move |_, _| {
        let gate = gate.clone();
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            Verdict::Ack
        })
    })
}

pub(super) async fn what_the_handler_did_not_see_reaches_the_successor(broker: &SharedPubSub) {
    let gate = Arc::new(Semaphore::new(0));
    let recorder = gated(&gate);
    let subscription = subscribe(broker, "suite-successor", "one", &recorder).await;
    for text in numbers(0..60) {
        publish(broker, "suite-successor", &text, &[]).await;
    }
    recorder.wait_for(1).await;
    subscription.pause().await;
    gate.add_permits(1000);
    subscription.close().await;
    let before = recorder.texts();
    let next = Recorder::new();
    let again = subscribe(broker, "suite-successor", "one", &next).await;
    next.wait_for(60 - before.len()).await;
    next.assert_quiet(QUIET).await;
    assert_eq!(
        sorted([before, next.texts()].concat()),
        numbers(0..60),
        "each message once, none lost"
    );
    again.close().await;
}

pub(super) async fn a_topic_does_not_reach_another(broker: &SharedPubSub) {
    let recorder = Recorder::new();
    let subscription = subscribe(broker, "suite-here", "one", &recorder).await;
    publish(broker, "suite-elsewhere", "lost", &[]).await;
    publish(broker, "suite-here", "found", &[]).await;
    recorder.wait_for(1).await;
    recorder.assert_quiet(QUIET).await;
    assert_eq!(recorder.texts(), ["found"]);
    subscription.close().await;
}

pub(super) async fn handlers_stay_within_the_bound(broker: &SharedPubSub, concurrency: usize) {
    let recorder = Recorder::asynchronous(|_, _| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            Verdict::Ack
        })
    });
    let subscription = subscribe(broker, "suite-bound", "one", &recorder).await;
    let count = concurrency * 5 + 20;
    publish_many(broker, "suite-bound", 0..count).await;
    recorder.wait_for(count).await;
    assert!(
        recorder.most_at_once() <= concurrency,
        "{} handlers at once",
        recorder.most_at_once()
    );
    subscription.close().await;
}

pub(super) async fn a_refused_message_comes_again(broker: &SharedPubSub) {
    let recorder = Recorder::scripted(|index, text| {
        if text == "bad" && index < 4 {
            refusal()
        } else {
            Verdict::Ack
        }
    });
    let subscription = subscribe(broker, "suite-retry", "one", &recorder).await;
    publish(broker, "suite-retry", "bad", &[]).await;
    publish(broker, "suite-retry", "good", &[]).await;
    recorder.wait_for(3).await;
    let texts = recorder.texts();
    assert_eq!(texts.iter().filter(|text| *text == "good").count(), 1);
    assert!(
        texts.iter().filter(|text| *text == "bad").count() >= 2,
        "{texts:?}"
    );
    subscription.close().await;
}

pub(super) async fn an_entry_refused_in_a_batch_comes_again_alone(broker: &SharedPubSub) {
    let recorder = refusing_once("0003");
    let bulk = BulkOptions {
        max_messages: 10,
        max_wait: Duration::from_millis(20),
    };
    let asked = request("suite-retry-bulk", "one", Some(bulk));
    let subscription = broker.subscribe(asked, recorder.clone()).await.unwrap();
    publish_many(broker, "suite-retry-bulk", 0..10).await;
    recorder.wait_for(11).await;
    recorder.assert_quiet(QUIET).await;
    let mut expected = numbers(0..10);
    expected.push("0003".to_owned());
    assert_eq!(sorted(recorder.texts()), sorted(expected));
    subscription.close().await;
}

pub(super) async fn instances_of_a_group_share(broker: &SharedPubSub) {
    let slowly = || {
        Recorder::asynchronous(|_, _| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                Verdict::Ack
            })
        })
    };
    let (one, two) = (slowly(), slowly());
    let first = subscribe(broker, "suite-compete", "one", &one).await;
    let second = subscribe(broker, "suite-compete", "one", &two).await;
    publish_many(broker, "suite-compete", 0..400).await;
    let all = async {
        while one.seen().len() + two.seen().len() < 400 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(super::DEADLINE, all).await.is_ok(),
        "{} + {}",
        one.seen().len(),
        two.seen().len()
    );
    one.assert_quiet(QUIET).await;
    assert_eq!(
        sorted([one.texts(), two.texts()].concat()),
        numbers(0..400),
        "each message once in the group"
    );
    assert!(
        !one.texts().is_empty() && !two.texts().is_empty(),
        "both must get a share"
    );
    first.close().await;
    second.close().await;
}

pub(super) async fn a_first_subscription_gets_what_was_published_before(broker: &SharedPubSub) {
    publish_many(broker, "suite-early", 0..25).await;
    let recorder = Recorder::new();
    let subscription = subscribe(broker, "suite-early", "one", &recorder).await;
    recorder.wait_for(25).await;
    assert_eq!(sorted(recorder.texts()), numbers(0..25));
    subscription.close().await;
    publish_many(broker, "suite-early", 25..30).await;
    let again = Recorder::new();
    let subscription = subscribe(broker, "suite-early", "one", &again).await;
    again.wait_for(5).await;
    again.assert_quiet(QUIET).await;
    assert_eq!(
        sorted(again.texts()),
        numbers(25..30),
        "only what came while the group was away"
    );
    subscription.close().await;
}

pub(super) async fn equal_keys_keep_their_order(broker: &SharedPubSub, competes: bool) {
    let recorder = Recorder::asynchronous(|index, _| {
        Box::pin(async move {
            // Uneven handlers bring out what runs side by side.
            tokio::time::sleep(Duration::from_micros((index as u64 * 37) % 900)).await;
            Verdict::Ack
        })
    });
    let first = subscribe(broker, "suite-keys", "one", &recorder).await;
    // Order holds across the instances of a group too.
    let second = if competes {
        Some(subscribe(broker, "suite-keys", "one", &recorder).await)
    } else {
        None
    };
    for number in 0..120 {
        publish(
            broker,
            "suite-keys",
            &format!("{number:04}"),
            &[("partitionKey", &format!("k{}", number % 4))],
        )
        .await;
    }
    recorder.wait_for(120).await;
    assert_in_order(&recorder, 120);
    first.close().await;
    if let Some(second) = second {
        second.close().await;
    }
}

fn assert_in_order(recorder: &Arc<Recorder>, count: usize) {
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for seen in recorder.seen() {
        all.insert(seen.text.clone());
        let key = seen.metadata.get("partitionKey").cloned().unwrap_or_default();
        if let Some(before) = last.insert(key.clone(), seen.text.clone()) {
            assert!(before <= seen.text, "key {key}: {} after {before}", seen.text);
        }
    }
    assert_eq!(all.len(), count);
}

pub(super) async fn a_refusal_holds_back_its_key(broker: &SharedPubSub) {
    let recorder = refusing_once("0002");
    let subscription = subscribe(broker, "suite-key-retry", "one", &recorder).await;
    for number in 0..20 {
        let key = if number % 2 == 0 { "even" } else { "odd" };
        publish(
            broker,
            "suite-key-retry",
            &format!("{number:04}"),
            &[("partitionKey", key)],
        )
        .await;
    }
    recorder.wait_for(21).await;
    assert_in_order(&recorder, 20);
    subscription.close().await;
}

pub(super) async fn a_trailing_star_takes_longer_topics(broker: &SharedPubSub) {
    let recorder = Recorder::new();
    let subscription = subscribe(broker, "suite-wild*", "one", &recorder).await;
    publish(broker, "suite-wild", "too short", &[]).await;
    publish(broker, "suite-wild1", "one", &[]).await;
    publish(broker, "suite-wilder", "two", &[]).await;
    recorder.wait_for(2).await;
    recorder.assert_quiet(QUIET).await;
    assert_eq!(sorted(recorder.texts()), ["one", "two"]);
    subscription.close().await;
}

pub(super) async fn an_expired_message_is_not_delivered(broker: &SharedPubSub) {
    publish(broker, "suite-ttl", "short", &[("ttlInSeconds", "1")]).await;
    publish(broker, "suite-ttl", "long", &[("ttlInSeconds", "3600")]).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let recorder = Recorder::new();
    let subscription = subscribe(broker, "suite-ttl", "one", &recorder).await;
    recorder.wait_for(1).await;
    recorder.assert_quiet(QUIET).await;
    assert_eq!(recorder.texts(), ["long"]);
    subscription.close().await;
}

pub(super) async fn a_closed_broker_refuses(broker: &SharedPubSub) {
    broker.close().await.unwrap();
    let message = Outgoing {
        topic: Topic::from("suite-plain"),
        data: "late".into(),
        content_type: None,
        metadata: Metadata::new(),
    };
    let refused = broker
        .publish(message)
        .await
        .expect_err("a closed broker must refuse");
    assert_eq!(refused.kind(), ErrorKind::Closed);
    let failures = publish_many(broker, "suite-plain", 0..2).await;
    assert_eq!(failures.len(), 2);
    let subscribed = broker
        .subscribe(request("suite-plain", "one", None), Recorder::new())
        .await;
    assert!(subscribed.is_err(), "a closed broker must refuse subscriptions");
}
