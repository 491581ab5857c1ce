use std::{
    sync::atomic::{AtomicUsize, Ordering as AtomicOrdering},
    time::Instant as StdInstant,
};

use futures::future::BoxFuture;
use outrigger_component::{Host, Properties};

use super::*;
use crate::{
    BulkOptions, Delivery, SharedPubSub, Verdict,
    suite::{self, Promises, Recorder},
};

fn promises(options: MemoryOptions) -> Promises {
    Promises {
        redelivers: options.redeliver_after.is_some(),
        competes: false,
        keeps: false,
        ordered_keys: true,
        concurrency: Some(options.concurrency),
    }
}

async fn run_suite(options: MemoryOptions) {
    let bus = MemoryPubSub::with_options(options);
    suite::run(
        || async { Arc::new(bus.clone()) as SharedPubSub },
        promises(options),
    )
    .await;
}

#[tokio::test]
async fn keeps_the_promises_of_upstream() {
    run_suite(MemoryOptions::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_promises_with_redelivery_and_concurrency() {
    let redeliver_after = Some(Duration::from_millis(10));
    run_suite(MemoryOptions {
        concurrency: 4,
        redeliver_after,
        ..MemoryOptions::default()
    })
    .await;
}

#[tokio::test]
async fn a_refused_message_is_dropped_by_default_as_upstream_does() {
    let bus: SharedPubSub = Arc::new(MemoryPubSub::new());
    let recorder = Recorder::scripted(|_, _| Verdict::Retry(Error::internal("no")));
    let subscription = bus.subscribe(request("topic"), recorder.clone()).await.unwrap();
    bus.publish(message("topic", "first")).await.unwrap();
    bus.publish(message("topic", "second")).await.unwrap();
    recorder.wait_for(2).await;
    recorder.assert_quiet(Duration::from_millis(100)).await;
    assert_eq!(recorder.texts(), ["first", "second"], "in order, once each");
    subscription.close().await;
}

#[tokio::test]
async fn a_full_queue_makes_publishers_wait_and_a_closed_subscription_lets_them_go() {
    let bus: SharedPubSub = Arc::new(MemoryPubSub::with_options(MemoryOptions {
        queue_depth: 3,
        ..MemoryOptions::default()
    }));
    let recorder = Recorder::asynchronous(|_, _| Box::pin(std::future::pending()));
    let subscription = bus.subscribe(request("topic"), recorder).await.unwrap();
    for _ in 0..3 {
        bus.publish(message("topic", "fits")).await.unwrap();
    }
    let waiting = bus.publish(message("topic", "waits"));
    tokio::pin!(waiting);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), &mut waiting)
            .await
            .is_err()
    );
    drop(subscription);
    tokio::time::timeout(suite::DEADLINE, waiting)
        .await
        .expect("must be let go")
        .unwrap();
}

#[tokio::test]
async fn a_batch_larger_than_the_queue_arrives_in_order() {
    let bus = MemoryPubSub::with_options(MemoryOptions {
        queue_depth: 7,
        ..MemoryOptions::default()
    });
    let recorder = Recorder::new();
    let subscription = PubSub::subscribe(&bus, request("topic"), recorder.clone())
        .await
        .unwrap();
    let entries = (0..100)
        .map(|number| entry(number, &format!("{number:03}")))
        .collect();
    assert!(
        PubSub::publish_bulk(&bus, &"topic".into(), entries, &Metadata::new())
            .await
            .is_empty()
    );
    recorder.wait_for(100).await;
    let expected: Vec<_> = (0..100).map(|number| format!("{number:03}")).collect();
    assert_eq!(recorder.texts(), expected);
    subscription.close().await;
}

#[tokio::test]
async fn the_file_sets_the_bounds() {
    let spec = |pairs: &[(&str, &str)]| Spec {
        name: "pubsub".into(),
        type_name: "pubsub.in-memory".to_owned(),
        version: "v1".to_owned(),
        properties: Properties::from_pairs(pairs.iter().copied()),
    };
    assert_eq!(
        MemoryOptions::parse(&spec(&[])).unwrap(),
        MemoryOptions::default()
    );
    let set = MemoryOptions::parse(&spec(&[
        ("QueueDepth", "5"),
        ("concurrency", "2"),
        ("redeliverInterval", "1s"),
    ]));
    let expected = MemoryOptions {
        queue_depth: 5,
        concurrency: 2,
        redeliver_after: Some(Duration::from_secs(1)),
    };
    assert_eq!(set.unwrap(), expected);
    assert!(MemoryOptions::parse(&spec(&[("queueDepth", "0")])).is_err());
    assert!(MemoryOptions::parse(&spec(&[("concurrency", "many")])).is_err());
    let opened = (registration().validate)(&spec(&[]))
        .unwrap()
        .run(Host::new("app", "."))
        .await
        .unwrap();
    assert_eq!(
        opened.capabilities().names(),
        ["SUBSCRIBE_WILDCARDS"],
        "what upstream's metadata lists"
    );
}

/// Budget (A10.6): 100,000 messages a second of 100 bytes in batches of 100. Run with
/// `cargo test --profile fast -p outrigger-pubsub -- --ignored --nocapture bulk_throughput`.
#[tokio::test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)]
async fn bulk_throughput() {
    struct Counter(AtomicUsize);
    impl Handler for Counter {
        fn handle(&self, _: Delivery) -> BoxFuture<'_, Verdict> {
            self.0.fetch_add(1, AtomicOrdering::Relaxed);
            Box::pin(async { Verdict::Ack })
        }
        fn handle_bulk(&self, deliveries: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
            self.0.fetch_add(deliveries.len(), AtomicOrdering::Relaxed);
            Box::pin(async move { deliveries.iter().map(|_| Verdict::Ack).collect() })
        }
    }
    for bulk in [
        None,
        Some(BulkOptions {
            max_messages: 100,
            max_wait: Duration::from_millis(10),
        }),
    ] {
        let bus = MemoryPubSub::new();
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        let asked = SubscribeRequest {
            bulk,
            ..request("topic")
        };
        let subscription = PubSub::subscribe(&bus, asked, counter.clone()).await.unwrap();
        let payload = Bytes::from(vec![b'x'; 100]);
        let started = StdInstant::now();
        const BATCHES: usize = 10_000;
        for _ in 0..BATCHES {
            let entries = (0..100)
                .map(|number| OutgoingEntry {
                    data: payload.clone(),
                    ..entry(number, "")
                })
                .collect();
            PubSub::publish_bulk(&bus, &"topic".into(), entries, &Metadata::new()).await;
        }
        while counter.0.load(AtomicOrdering::Relaxed) < BATCHES * 100 {
            tokio::task::yield_now().await;
        }
        let rate = (BATCHES * 100) as f64 / started.elapsed().as_secs_f64();
        println!(
            "in-memory, bulk subscription {}: {rate:.0} msg/s on one thread",
            bulk.is_some()
        );
        subscription.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_trickle_is_delivered_one_by_one_and_a_flood_in_batches() {
    const WAIT: Duration = Duration::from_millis(500);
    struct Sizes(Mutex<Vec<(Duration, usize)>>, Instant);
    impl Handler for Sizes {
        fn handle(&self, _: Delivery) -> BoxFuture<'_, Verdict> {
            Box::pin(async { Verdict::Ack })
        }
        fn handle_bulk(&self, deliveries: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
            let mut calls = self.0.lock().unwrap();
            calls.push((self.1.elapsed(), deliveries.len()));
            Box::pin(async move { deliveries.iter().map(|_| Verdict::Ack).collect() })
        }
    }
    for (published, wanted) in [
        (2, vec![(1, 1), (2, 1)]),
        (4, vec![(1, 1), (2, 1), (3, 1), (4, 1)]),
        (20, vec![(1, 20)]),
        (100, vec![(0, 100)]),
        (202, vec![(0, 100), (0, 100), (1, 1), (2, 1)]),
    ] {
        let bus = MemoryPubSub::new();
        let asked = SubscribeRequest {
            bulk: Some(BulkOptions {
                max_messages: 100,
                max_wait: WAIT,
            }),
            ..request("topic")
        };
        let calls = Arc::new(Sizes(Mutex::default(), Instant::now()));
        let subscription = PubSub::subscribe(&bus, asked, calls.clone()).await.unwrap();
        let entries = (0..published).map(|number| entry(number, "")).collect();
        PubSub::publish_bulk(&bus, &"topic".into(), entries, &Metadata::new()).await;
        tokio::time::sleep(WAIT * 6).await;
        let waits: Vec<_> = calls
            .0
            .lock()
            .unwrap()
            .iter()
            .map(|(at, size)| ((at.as_millis() / WAIT.as_millis()), *size))
            .collect();
        assert_eq!(waits, wanted, "{published} published");
        subscription.close().await;
    }
}

#[tokio::test]
async fn a_redelivery_that_waits_for_its_lane_is_no_time_to_wake_up_at() {
    use super::queue::{Fate, Item, Queue, Take};
    const WAIT: Duration = Duration::from_millis(500);
    let begin = Instant::now();
    let item = |key: Option<&str>| Item {
        data: Bytes::new(),
        metadata: Arc::default(),
        key: key.map(Into::into),
        at: begin,
    };
    let bulk = Some(BulkOptions {
        max_messages: 10,
        max_wait: WAIT,
    });
    let queue = Queue::new("topic".into(), 100, Default::default());
    assert!(queue.try_push(&vec![item(Some("lane")); 10]));
    let Take::Batch(batch) = queue.take(bulk, begin) else {
        panic!("a full batch")
    };
    let refused = batch.into_iter().map(|item| (item, Fate::Again(WAIT))).collect();
    queue.settle(refused, begin);
    let due = begin + WAIT * 2;
    // One of the lane goes again, the others are due and wait for it, as does a message of no lane.
    assert!(matches!(queue.take(bulk, due), Take::Batch(batch) if batch.len() == 1));
    assert!(queue.try_push(&[item(None)]));
    assert!(matches!(queue.take(bulk, due), Take::Wait(None)));
}

fn request(topic: &str) -> SubscribeRequest {
    SubscribeRequest {
        topic: topic.into(),
        group: "app".to_owned(),
        metadata: Metadata::new(),
        bulk: None,
    }
}

fn message(topic: &str, text: &str) -> Outgoing {
    let data = text.to_owned().into();
    Outgoing {
        topic: topic.into(),
        data,
        content_type: None,
        metadata: Metadata::new(),
    }
}

fn entry(number: usize, text: &str) -> OutgoingEntry {
    OutgoingEntry {
        id: number.to_string().into(),
        data: text.to_owned().into(),
        content_type: None,
        metadata: Metadata::new(),
    }
}
