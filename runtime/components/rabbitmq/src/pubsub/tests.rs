//! Against the broker named by `OUTRIGGER_TEST_RABBITMQ`; without it each says that it is skipped.

use std::{sync::Arc, time::Duration};

use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use outrigger_component::{ErrorKind, Metadata, Properties};
use outrigger_pubsub::{
    DynPubSub, Outgoing, OutgoingEntry, SharedPubSub, SubscribeRequest, Verdict,
    suite::{self, Promises, Recorder},
};
use outrigger_types::Topic;

use super::{broker::RabbitPubSub, config::Config};

mod proxy;
mod restart;

/// The broker's URI, or a printed reason.
#[allow(clippy::print_stderr, clippy::disallowed_methods, reason = "a test's own")]
fn server() -> Option<String> {
    let uri = std::env::var("OUTRIGGER_TEST_RABBITMQ").ok();
    if uri.is_none() {
        eprintln!("skipped: OUTRIGGER_TEST_RABBITMQ is not set (cargo xtask services)");
    }
    uri
}

/// A name of this test alone: the broker is shared, and keeps what earlier runs left.
fn unique(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4().simple())
}

/// Durable queues that stay, refused messages that come again; with more metadata.
async fn open(uri: &str, more: &[(&str, &str)]) -> RabbitPubSub {
    let kept = [
        ("connectionString", uri),
        ("deletedWhenUnused", "false"),
        ("requeueInFailure", "true"),
        ("reconnectWaitSeconds", "1"),
    ];
    let properties = Properties::from_pairs(kept.into_iter().chain(more.iter().copied()));
    RabbitPubSub::open(Config::parse(&properties).unwrap())
        .await
        .unwrap()
}

async fn shared(uri: &str, more: &[(&str, &str)]) -> SharedPubSub {
    Arc::new(open(uri, more).await)
}

fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn message(topic: &str, text: &str, pairs: &[(&str, &str)]) -> Outgoing {
    Outgoing {
        topic: Topic::from(topic),
        data: text.to_owned().into(),
        content_type: None,
        metadata: metadata(pairs),
    }
}

fn request(topic: &str, group: &str, pairs: &[(&str, &str)]) -> SubscribeRequest {
    SubscribeRequest {
        topic: Topic::from(topic),
        group: group.to_owned(),
        metadata: metadata(pairs),
        bulk: None,
    }
}

/// A client without our code, to look at the broker from outside.
async fn observer(uri: &str) -> (Connection, Channel) {
    // Its reading of a path of `/` differs from everybody else's.
    let uri = uri.trim_end_matches('/');
    let connection = Connection::connect(uri, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let reached = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        tokio::time::timeout(suite::DEADLINE * 3, reached).await.is_ok(),
        "{what}"
    );
}

/// Messages that wait in a queue.
async fn waiting(channel: &Channel, queue: &str) -> u32 {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), passive, FieldTable::default())
        .await
        .unwrap()
        .message_count()
}

fn promises(concurrency: Option<usize>) -> Promises {
    Promises {
        redelivers: true,
        competes: true,
        // A queue gets what is published after its group's first subscription.
        keeps: false,
        ordered_keys: false,
        concurrency,
    }
}

/// The suite's topics have fixed names: what an earlier run left there goes first.
async fn sweep(uri: &str) {
    let (_connection, channel) = observer(uri).await;
    for topic in [
        "plain",
        "groups",
        "bulk-publish",
        "bulk",
        "panic",
        "closed",
        "dropped",
        "drain",
        "successor",
        "here",
        "bound",
        "retry",
        "retry-bulk",
        "compete",
    ] {
        for group in ["one", "two"] {
            let queue = format!("{group}-suite-{topic}");
            channel
                .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
                .await
                .unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_promises() {
    let Some(uri) = server() else { return };
    sweep(&uri).await;
    suite::run_without_metadata(|| shared(&uri, &[("prefetchCount", "8")]), promises(Some(8))).await;
    // One after the other: the suites share the names of queues.
    sweep(&uri).await;
    suite::run_without_metadata(
        || shared(&uri, &[("concurrency", "single"), ("publisherConfirm", "true")]),
        Promises {
            // A single handler at a time, but the other instance's prefetched messages wait for it.
            concurrency: Some(1),
            ..promises(None)
        },
    )
    .await;
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn table(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in pairs {
        table.insert((*key).into(), value.clone());
    }
    table
}

/// The broker itself compares declarations: it refuses one that differs in any part, so declaring again what upstream
/// declares proves ours equal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_and_exchanges_are_declared_as_upstream_declares_them() {
    let Some(uri) = server() else { return };
    let broker = open(
        &uri,
        &[
            ("enableDeadLetter", "true"),
            ("maxLen", "100"),
            ("maxLenBytes", "100000"),
            ("exchangeKind", "topic"),
        ],
    )
    .await;
    let (connection, channel) = observer(&uri).await;
    let (topic, app) = (unique("orders"), unique("app"));
    let queue = format!("{app}-{topic}");
    let pairs = [
        ("maxPriority", "300"),
        ("singleActiveConsumer", "true"),
        ("routingKey", "a.*,b"),
    ];
    let recorder = Recorder::new();
    let subscription = DynPubSub::subscribe(&broker, request(&topic, &app, &pairs), recorder.clone())
        .await
        .unwrap();
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let exchange = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let lengths = [
        ("x-max-length", AMQPValue::LongLongInt(100)),
        ("x-max-length-bytes", AMQPValue::LongLongInt(100_000)),
    ];
    let mut arguments = lengths.to_vec();
    arguments.extend([
        ("x-dead-letter-exchange", text(&format!("dlx-{queue}"))),
        ("x-max-priority", AMQPValue::ShortShortUInt(255)),
        ("x-queue-type", text("classic")),
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
    ]);
    channel
        .queue_declare(queue.as_str().into(), durable, table(&arguments))
        .await
        .unwrap();
    let mut dead = lengths.to_vec();
    dead.push(("x-queue-mode", text("lazy")));
    channel
        .queue_declare(format!("dlq-{queue}").into(), durable, table(&dead))
        .await
        .unwrap();
    for (name, kind) in [
        (topic.clone(), ExchangeKind::Topic),
        (format!("dlx-{queue}"), ExchangeKind::Fanout),
    ] {
        channel
            .exchange_declare(name.into(), kind, exchange, FieldTable::default())
            .await
            .unwrap();
    }
    // The bindings: one that exists and routes.
    for key in ["a.x", "b", "c"] {
        DynPubSub::publish(&broker, message(&topic, key, &[("routingKey", key)]))
            .await
            .unwrap();
    }
    recorder.wait_for(2).await;
    recorder.assert_quiet(Duration::from_millis(150)).await;
    assert_eq!(recorder.texts(), ["a.x", "b"]);
    subscription.close().await;

    // The check is one: a declaration that differs is refused.
    let other = channel
        .queue_declare(queue.as_str().into(), durable, table(&lengths))
        .await;
    assert!(other.is_err(), "the broker did not compare");
    DynPubSub::close(&broker).await.unwrap();
    connection.close(200, "OK".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defaults_and_quorum_queues_are_upstreams_too() {
    let Some(uri) = server() else { return };
    let (connection, channel) = observer(&uri).await;
    let (topic, app) = (unique("plain"), unique("app"));
    let defaults = Properties::from_pairs([("connectionString", uri.as_str())]);
    let broker = RabbitPubSub::open(Config::parse(&defaults).unwrap())
        .await
        .unwrap();
    let subscription = DynPubSub::subscribe(&broker, request(&topic, &app, &[]), Recorder::new())
        .await
        .unwrap();
    let options = QueueDeclareOptions {
        durable: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(
            format!("{app}-{topic}").into(),
            options,
            table(&[("x-queue-type", text("classic"))]),
        )
        .await
        .unwrap();
    let exchange = ExchangeDeclareOptions {
        durable: true,
        auto_delete: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(
            topic.as_str().into(),
            ExchangeKind::Fanout,
            exchange,
            FieldTable::default(),
        )
        .await
        .unwrap();
    subscription.close().await;
    // The last queue took the exchange with it; the publisher, who declared it before, declares it again.
    for text in ["first", "second"] {
        DynPubSub::publish(&broker, message(&topic, text, &[]))
            .await
            .unwrap();
        channel
            .exchange_delete(
                topic.as_str().into(),
                lapin::options::ExchangeDeleteOptions::default(),
            )
            .await
            .unwrap();
    }

    let keeping = open(&uri, &[]).await;
    let queue = unique("quorum");
    let pairs = [("queueType", "quorum"), ("queueName", queue.as_str())];
    let subscription = DynPubSub::subscribe(&keeping, request(&topic, "", &pairs), Recorder::new()).await;
    // The exchange is there from the first broker's publishing, and auto-delete: another form is refused at once.
    drop(subscription);
    let topic = unique("other");
    let subscription = DynPubSub::subscribe(&keeping, request(&topic, "", &pairs), Recorder::new())
        .await
        .unwrap();
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(
            queue.as_str().into(),
            options,
            table(&[("x-queue-type", text("quorum"))]),
        )
        .await
        .unwrap();
    subscription.close().await;
    connection.close(200, "OK".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_exists_otherwise_fails_the_subscription_at_once() {
    let Some(uri) = server() else { return };
    let broker = open(&uri, &[]).await;
    let (topic, app) = (unique("taken"), unique("app"));
    let subscribe = |pairs: &'static [(&'static str, &'static str)]| {
        DynPubSub::subscribe(&broker, request(&topic, &app, pairs), Recorder::new())
    };
    subscribe(&[]).await.unwrap().close().await;
    let refused = subscribe(&[("queueType", "quorum")]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Configuration);
    assert!(refused.chain().contains("PRECONDITION"), "{}", refused.chain());
    let invalid = subscribe(&[("queueType", "stream")]).await.unwrap_err();
    assert_eq!(
        invalid.message(),
        "invalid queue type stream. Valid types are classic and quorum"
    );
    let nameless = DynPubSub::subscribe(&broker, request(&topic, "", &[]), Recorder::new()).await;
    assert!(
        nameless
            .unwrap_err()
            .message()
            .starts_with("consumerID is required")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_messages_become_dead_letters_and_released_ones_do_not() {
    let Some(uri) = server() else { return };
    let broker = open(
        &uri,
        &[("enableDeadLetter", "true"), ("requeueInFailure", "false")],
    )
    .await;
    let (connection, channel) = observer(&uri).await;
    let (topic, app) = (unique("dead"), unique("app"));
    let queue = format!("{app}-{topic}");
    let recorder = Recorder::scripted(|index, text| match (text, index) {
        ("bad", _) => Verdict::Retry(outrigger_component::Error::unavailable("no")),
        (_, 0..=1) => Verdict::Release,
        _ => Verdict::Ack,
    });
    let subscription = DynPubSub::subscribe(&broker, request(&topic, &app, &[]), recorder.clone())
        .await
        .unwrap();
    DynPubSub::publish(&broker, message(&topic, "bad", &[]))
        .await
        .unwrap();
    recorder.wait_for(1).await;
    DynPubSub::publish(&broker, message(&topic, "released", &[]))
        .await
        .unwrap();
    recorder.wait_for(3).await;
    let dead = format!("dlq-{queue}");
    until("the refused message is a dead letter", async || {
        waiting(&channel, &dead).await == 1
    })
    .await;
    let letter = channel
        .basic_get(dead.as_str().into(), BasicGetOptions { no_ack: true })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(letter.delivery.data, b"bad");
    subscription.close().await;
    assert_eq!(waiting(&channel, &dead).await, 0);
    assert_eq!(waiting(&channel, &queue).await, 0);
    connection.close(200, "OK".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn properties_of_messages_are_upstreams_both_ways() {
    let Some(uri) = server() else { return };
    let broker = open(
        &uri,
        &[
            ("deliveryMode", "2"),
            ("ttlInSeconds", "60"),
            ("publishMessagePropertiesToMetadata", "true"),
        ],
    )
    .await;
    let (connection, channel) = observer(&uri).await;
    let topic = unique("props");
    let recorder = Recorder::new();
    let subscription = DynPubSub::subscribe(&broker, request(&topic, "app", &[]), recorder.clone())
        .await
        .unwrap();
    let probe = unique("probe");
    channel
        .queue_declare(
            probe.as_str().into(),
            QueueDeclareOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    channel
        .queue_bind(
            probe.as_str().into(),
            topic.as_str().into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let pairs = [
        ("contentType", "application/json"),
        ("messageid", "m-1"),
        ("correlationID", "c-1"),
        ("type", "kind"),
        ("priority", "999"),
        ("ttlInSeconds", "30"),
        ("ignored", "x"),
    ];
    DynPubSub::publish(&broker, message(&topic, "full", &pairs))
        .await
        .unwrap();
    DynPubSub::publish(&broker, message(&topic, "bare", &[("ttl", "never")]))
        .await
        .unwrap();
    recorder.wait_for(2).await;
    let mut seen = recorder.seen();
    seen.sort_by(|one, two| two.text.cmp(&one.text));
    assert_eq!(
        seen[0].metadata,
        metadata(&[
            ("metadata.contenttype", "application/json"),
            ("metadata.correlationid", "c-1"),
            ("metadata.messageid", "m-1"),
            ("metadata.type", "kind"),
        ])
    );
    assert_eq!(
        seen[1].metadata,
        metadata(&[("metadata.contenttype", "text/plain")])
    );
    let mut got = Vec::new();
    for _ in 0..2 {
        let one = channel
            .basic_get(probe.as_str().into(), BasicGetOptions { no_ack: true })
            .await
            .unwrap()
            .unwrap();
        let properties = one.delivery.properties.clone();
        got.push((
            properties.expiration().as_ref().map(ToString::to_string),
            *properties.priority(),
            *properties.delivery_mode(),
            properties.headers().is_some(),
        ));
    }
    assert_eq!(got[0], (Some("30000".to_owned()), Some(255), Some(2), false));
    assert_eq!(got[1], (Some("60000".to_owned()), None, Some(2), false));
    subscription.close().await;
    connection.close(200, "OK".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_tells_which_entries_the_broker_refused() {
    let Some(uri) = server() else { return };
    let broker = open(&uri, &[]).await;
    let (connection, channel) = observer(&uri).await;
    let topic = unique("full");
    // Publishing declares the exchange.
    DynPubSub::publish(&broker, message(&topic, "nobody listens", &[]))
        .await
        .unwrap();
    let queue = unique("small");
    let small = table(&[
        ("x-max-length", AMQPValue::LongLongInt(2)),
        ("x-overflow", text("reject-publish")),
    ]);
    channel
        .queue_declare(queue.as_str().into(), QueueDeclareOptions::default(), small)
        .await
        .unwrap();
    channel
        .queue_bind(
            queue.as_str().into(),
            topic.as_str().into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let entries = (0..600)
        .map(|number| OutgoingEntry {
            id: format!("{number}").into(),
            data: "x".into(),
            content_type: None,
            metadata: Metadata::new(),
        })
        .collect();
    let failures =
        DynPubSub::publish_bulk(&broker, &Topic::from(topic.as_str()), entries, &Metadata::new()).await;
    let kept = usize::try_from(waiting(&channel, &queue).await).unwrap();
    assert!((1..=20).contains(&kept), "{kept}");
    assert_eq!(failures.len(), 600 - kept);
    assert!(
        failures
            .iter()
            .all(|failure| failure.error.message() == "did not receive confirmation of publishing")
    );
    connection.close(200, "OK".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_broker_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let uri = format!("amqp://me:hidden@127.0.0.1:{port}");
    let properties = Properties::from_pairs([("connectionString", uri.as_str())]);
    let error = RabbitPubSub::open(Config::parse(&properties).unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!error.chain().contains("hidden"), "{}", error.chain());
}
