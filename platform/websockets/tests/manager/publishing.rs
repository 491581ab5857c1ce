//! I4: messages as events.

use std::time::Instant as Clock;

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tonic::Code;

use crate::instance::{Instance, payloads};
use crate::peer::Peer;
use crate::until;
use crate::world::World;

pub(crate) async fn messages_are_published_in_the_envelope(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let id = instance.connect(&peer).await;
    peer.say(Message::text("before"));
    until("it was read", || async {
        instance.list().await[0].content_type == "text/plain"
    })
    .await;
    instance.publish(&id, "ticks").await.unwrap();
    assert_eq!(instance.list().await[0].topic, "ticks");
    peer.say(Message::text("text"));
    peer.say(Message::binary(&[0_u8, 255][..]));
    until("both came", || async { cluster.published_count("ticks") == 2 }).await;
    let events = cluster.published("ticks");
    for (event, payload, kind, sequence) in [
        (&events[0], "dGV4dA==", "text/plain", "1"),
        (&events[1], "AP8=", "application/octet-stream", "2"),
    ] {
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["type"], "com.virtufin.websocketmanager.message");
        assert_eq!(event["source"], "urn:com.virtufin.websocketmanager");
        assert_eq!(event["subject"], format!("connection/{id}"));
        assert_eq!(event["datacontenttype"], "application/json");
        assert_eq!(event["sequence"], sequence);
        assert_eq!(event["time"], event["data"]["Timestamp"]);
        assert!(event["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        let mut data = event["data"].clone();
        data.as_object_mut().unwrap().remove("Timestamp");
        assert_eq!(
            data,
            json!({"WebSocketId": id, "WebSocketUrl": peer.url(), "Payload": payload, "ContentType": kind})
        );
    }
    assert_ne!(events[0]["id"], events[1]["id"]);
}

pub(crate) async fn topics_of_the_services_and_what_is_no_topic_are_refused(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let id = instance.connect(&peer).await;
    for topic in [
        "",
        "a b",
        "workmanager.lifecycle",
        "websocketmanager.lifecycle",
        "state-changes",
    ] {
        let error = instance.publish(&id, topic).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{topic}: {error}");
    }
    let strict = Instance::start_with(&cluster, "two", &["--strict-topics=true"]).await;
    let id = strict.connect(&peer).await;
    let error = strict.publish(&id, "ticks").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    strict
        .publish(&id, "act.exchange.binance.ticker.update")
        .await
        .unwrap();
}

pub(crate) async fn a_stop_holds_at_once(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let id = instance.connect(&peer).await;
    instance.publish(&id, "ticks").await.unwrap();
    let flood = format!("flood {}", cluster.scaled(5000));
    instance.say(&id, flood.as_bytes(), "text/plain").await.unwrap();
    until("some came", || async { !cluster.published("ticks").is_empty() }).await;
    instance.stop_publish(&id).await.unwrap();
    let published = cluster.published_count("ticks");
    assert_eq!(instance.list().await[0].topic, "");
    let echo = instance
        .ask(&id, b"still here", "text/plain", 60_000)
        .await
        .unwrap();
    assert_eq!(echo, b"still here", "everything before it was read");
    assert_eq!(cluster.published_count("ticks"), published);
    // And publishing can begin again.
    instance.publish(&id, "again").await.unwrap();
    peer.say(Message::text("new"));
    until("it came", || async { payloads(&cluster, "again") == ["new"] }).await;
}

pub(crate) async fn while_events_cannot_be_passed_on_nothing_is_lost_and_order_is_kept(cluster: World) {
    let peer = Peer::start().await;
    // Space for eight messages; all others wait in sockets and at the server.
    let instance = Instance::start_with(&cluster, "one", &["--publish-queue-bytes=4096"]).await;
    let id = instance.connect(&peer).await;
    instance.publish(&id, "ticks").await.unwrap();
    cluster.set_broker_down(true);
    let count = cluster.scaled(5000);
    let flood = format!("flood {count}");
    instance.say(&id, flood.as_bytes(), "text/plain").await.unwrap();
    until("some were read", || async {
        instance.list().await[0].content_type == "text/plain"
    })
    .await;
    cluster.set_broker_down(false);
    until("all came", || async { cluster.published_count("ticks") >= count }).await;
    let expected: Vec<_> = (1..=count).map(|number| number.to_string()).collect();
    assert!(payloads(&cluster, "ticks") == expected);
    let numbers = cluster.published("ticks");
    let sequence = numbers
        .iter()
        .map(|event| event["sequence"].as_str().unwrap().to_owned());
    assert!(sequence.eq(expected), "the sequence is that of the messages");
}

pub(crate) async fn a_single_message_waits_for_the_broker_too(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let id = instance.connect(&peer).await;
    instance.publish(&id, "ticks").await.unwrap();
    cluster.set_broker_down(true);
    peer.say(Message::text("alone"));
    until("it was read", || async {
        instance.list().await[0].content_type == "text/plain"
    })
    .await;
    // It was tried in vain by now, or is being tried.
    let echo = instance.ask(&id, b"still here", "", 20_000).await.unwrap();
    assert_eq!(echo, b"still here");
    cluster.set_broker_down(false);
    until("it came", || async { payloads(&cluster, "ticks") == ["alone"] }).await;
}

pub(crate) async fn large_messages_pass_one_by_one(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let id = instance.connect(&peer).await;
    instance.publish(&id, "ticks").await.unwrap();
    let large = "x".repeat(900_000);
    for _ in 0..5 {
        peer.say(Message::text(large.clone()));
    }
    until("all came", || async { cluster.published_count("ticks") == 5 }).await;
    assert!(
        payloads(&cluster, "ticks")
            .iter()
            .all(|payload| *payload == large)
    );
    // One that is larger than a connection takes breaks it, and says so.
    peer.say(Message::text("x".repeat(3 << 20)));
    until("it was told", || async {
        let told = cluster.published("websocketmanager.lifecycle");
        told.iter()
            .any(|event| event["data"]["error_type"] == "too_large")
    })
    .await;
}

/// A figure: what one connection passes on, in a debug build beside other tests. The floor is the wait's deadline.
#[allow(clippy::print_stderr, reason = "the figure is for people")]
pub(crate) async fn thousands_of_messages_a_second_pass(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let id = instance.connect(&peer).await;
    instance.publish(&id, "ticks").await.unwrap();
    let began = Clock::now();
    let count = cluster.scaled(20_000);
    let flood = format!("flood {count}");
    instance.say(&id, flood.as_bytes(), "text/plain").await.unwrap();
    until("all came", || async { cluster.published_count("ticks") >= count }).await;
    let took = began.elapsed();
    assert_eq!(payloads(&cluster, "ticks").last(), Some(&count.to_string()));
    eprintln!(
        "{count} messages in {took:?}: {:.0} a second",
        count as f64 / took.as_secs_f64()
    );
}
