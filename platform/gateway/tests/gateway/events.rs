//! Events through the gateway (G5, G8, G9, G10).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use outrigger_platform_wire::io::cloudevents::v1::CloudEvent;
use outrigger_platform_wire::io::cloudevents::v1::cloud_event::cloud_event_attribute_value::Attr;
use outrigger_platform_wire::io::cloudevents::v1::cloud_event::{CloudEventAttributeValue, Data};
use outrigger_platform_wire::virtufin::pubsub_client::PubsubClient;
use outrigger_platform_wire::virtufin::{
    PublishRequest, PubsubSubscribeRequest, PubsubSubscribeResponse, SubscribeRequest, UnsubscribeRequest,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::harness::{Gateway, SOON, until};

fn event(topic: &str, data: &[u8], metadata: &[(&str, &str)]) -> PublishRequest {
    PublishRequest {
        topic: topic.to_owned(),
        data: Bytes::copy_from_slice(data),
        metadata: metadata
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        cloudevent: None,
    }
}

async fn subscribe(channel: &Channel, topics: &[&str]) -> Result<Streaming<PubsubSubscribeResponse>, Status> {
    let request = PubsubSubscribeRequest {
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
    };
    let answer = PubsubClient::new(channel.clone()).subscribe(request).await?;
    Ok(answer.into_inner())
}

async fn next<T>(events: &mut Streaming<T>) -> Result<Option<T>, Status> {
    tokio::time::timeout(SOON, events.message())
        .await
        .expect("an event comes")
}

impl Gateway {
    async fn publish(&self, request: PublishRequest) -> Result<(), Status> {
        self.pubsub().publish_event(request).await.map(drop)
    }

    async fn subscriptions(&self) -> String {
        self.health("subscriptions").await["description"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

#[tokio::test]
async fn both_forms_of_an_event_arrive_alike() {
    let gateway = Gateway::start(json!([]), &[]).await;
    let mut events = subscribe(&gateway.channel, &["orders"]).await.unwrap();
    let metadata = [
        ("ce-id", "7"),
        ("ce-source", "urn:x"),
        ("ce-type", "made"),
        ("ce-time", "2026-11-22T00:00:00Z"),
        ("ce-subject", "order/7"),
        ("ce-datacontenttype", "application/json"),
        ("correlationid", "c-1"),
        ("market.lane", "fast"),
    ];
    gateway
        .publish(event("orders", br#"{"a":1}"#, &metadata))
        .await
        .unwrap();
    let text = |text: &str| CloudEventAttributeValue {
        attr: Some(Attr::CeString(text.to_owned())),
    };
    let message = CloudEvent {
        id: "7".to_owned(),
        source: "urn:x".to_owned(),
        spec_version: "1.0".to_owned(),
        r#type: "made".to_owned(),
        attributes: [
            ("time", text("2026-11-22T00:00:00Z")),
            ("subject", text("order/7")),
            ("datacontenttype", text("application/json")),
            ("correlationid", text("c-1")),
            ("marketlane", text("fast")),
            (
                "count",
                CloudEventAttributeValue {
                    attr: Some(Attr::CeInteger(3)),
                },
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
        data: Some(Data::BinaryData(Bytes::from_static(br#"{"a":1}"#))),
    };
    let request = PublishRequest {
        topic: "orders".to_owned(),
        cloudevent: Some(message),
        ..PublishRequest::default()
    };
    gateway.publish(request).await.unwrap();
    let first = next(&mut events).await.unwrap().unwrap();
    let second = next(&mut events).await.unwrap().unwrap();
    // An extension that is no text is not told (G9), so the two are the same.
    assert_eq!(first, second);
    assert_eq!(first.topic, "orders");
    assert_eq!(first.data.as_ref(), br#"{"a":1}"#);
    assert_eq!(first.message_id, "7");
    assert_eq!(first.timestamp, "2026-11-22T00:00:00Z");
    let told: BTreeMap<&str, &str> = first
        .metadata
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        told,
        BTreeMap::from([
            ("ce-datacontenttype", "application/json"),
            ("ce-id", "7"),
            ("ce-source", "urn:x"),
            ("ce-specversion", "1.0"),
            ("ce-subject", "order/7"),
            ("ce-time", "2026-11-22T00:00:00Z"),
            ("ce-type", "made"),
            ("correlationid", "c-1"),
            ("marketlane", "fast"),
        ])
    );
    let published = gateway.cluster.published("orders");
    assert_eq!(published[1]["count"], 3);
    assert_eq!(published[0]["correlationid"], "c-1");
}

#[tokio::test]
async fn what_is_not_said_is_not_added() {
    let gateway = Gateway::start(json!([]), &[]).await;
    gateway.publish(event("t", b"plain", &[])).await.unwrap();
    let published = gateway.cluster.published("t");
    assert_eq!(published[0].get("correlationid"), None);
    assert_eq!(published[0]["data"], "plain");
    for request in [
        event("", b"x", &[]),
        event("t", b"x", &[("bad name", "x")]),
        event("t", b"x", &[("ce-id", "")]),
    ] {
        assert_eq!(
            gateway.publish(request).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
    let body = json!({"topic": "t", "data": "eyJhIjoxfQ==", "metadata": {"ce-type": "by-http"}});
    let answer = gateway.send("POST", "/v1/pubsub/publish", Some(&body)).await;
    assert_eq!(answer.json()["status"]["success"], true);
    let published = gateway.cluster.published("t");
    assert_eq!(
        (&published[1]["type"], &published[1]["data"]),
        (&json!("by-http"), &json!({"a": 1}))
    );
}

#[tokio::test]
async fn a_hundred_streams_read_one_subscription() {
    let gateway = Gateway::start(json!([]), &[]).await;
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(subscribe(&gateway.channel, &["ticks"]).await.unwrap());
    }
    assert_eq!(gateway.subscriptions().await, "100 open on 1 topics");
    for number in 0..20 {
        gateway
            .publish(event("ticks", number.to_string().as_bytes(), &[]))
            .await
            .unwrap();
    }
    for events in &mut streams {
        for number in 0..20 {
            let event = next(events).await.unwrap().unwrap();
            assert_eq!(event.data, number.to_string());
        }
    }
    // One ends by its id, which its events tell; the others go on.
    gateway.publish(event("ticks", b"last", &[])).await.unwrap();
    let mut one = streams.pop().unwrap();
    let id = next(&mut one).await.unwrap().unwrap().subscription_id;
    let request = UnsubscribeRequest { subscription_id: id };
    gateway.pubsub().unsubscribe(request.clone()).await.unwrap();
    assert!(next(&mut one).await.unwrap().is_none());
    assert_eq!(next(&mut streams[0]).await.unwrap().unwrap().data, "last");
    until("it is taken out", async || {
        gateway.subscriptions().await == "99 open on 1 topics"
    })
    .await;
    assert_eq!(
        gateway.pubsub().unsubscribe(request).await.unwrap_err().code(),
        Code::NotFound
    );
    drop(streams);
    until("all are taken out", async || {
        gateway.subscriptions().await == "0 open on 0 topics"
    })
    .await;
}

#[tokio::test]
async fn a_topic_is_read_anew_after_its_last_stream_left() {
    let gateway = Gateway::start(json!([]), &[]).await;
    for round in 0..3 {
        let mut events = subscribe(&gateway.channel, &["a", "b"]).await.unwrap();
        for topic in ["a", "b"] {
            gateway
                .publish(event(topic, round.to_string().as_bytes(), &[]))
                .await
                .unwrap();
        }
        let mut topics = Vec::new();
        for _ in 0..2 {
            let event = next(&mut events).await.unwrap().unwrap();
            assert_eq!(event.data, round.to_string());
            topics.push(event.topic);
        }
        topics.sort();
        assert_eq!(topics, ["a", "b"]);
        drop(events);
        until("it is taken out", async || {
            gateway.subscriptions().await == "0 open on 0 topics"
        })
        .await;
    }
    assert_eq!(
        subscribe(&gateway.channel, &[]).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn a_slow_reader_is_given_up_and_holds_up_nobody() {
    let gateway = Gateway::start(json!([]), &["--subscriber-queue=64"]).await;
    let mut slow = subscribe(&gateway.channel, &["t"]).await.unwrap();
    // A connection of its own: connections have a window too.
    let other = Endpoint::from_shared(format!("http://{}", gateway.grpc))
        .unwrap()
        .connect_lazy();
    let mut fast = subscribe(&other, &["t"]).await.unwrap();
    let data = vec![b'x'; 32 << 10];
    let reading = tokio::spawn(async move {
        let mut read = 0;
        while read < 400 {
            assert_eq!(next(&mut fast).await.unwrap().unwrap().data.len(), 32 << 10);
            read += 1;
        }
    });
    for _ in 0..400 {
        gateway.publish(event("t", &data, &[])).await.unwrap();
    }
    reading.await.unwrap();
    let status = loop {
        match next(&mut slow).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("too slow"), "{status}");
}

/// Passes bytes on until it is cut; then it keeps both ends open and is silent, as a network that went away.
async fn proxy(to: std::net::SocketAddr, cut: CancellationToken) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(to).await.unwrap();
        let (mut up, mut down) = (vec![0; 1 << 14], vec![0; 1 << 14]);
        loop {
            tokio::select! {
                biased;
                () = cut.cancelled() => break,
                read = client.read(&mut up) => server.write_all(&up[..read.unwrap()]).await.unwrap(),
                read = server.read(&mut down) => client.write_all(&down[..read.unwrap()]).await.unwrap(),
            }
        }
        std::future::pending::<()>().await;
        drop((client, server));
    });
    address
}

#[tokio::test]
async fn a_reader_that_vanished_is_noticed() {
    let gateway = Gateway::start(json!([]), &["--keep-alive-milliseconds=2000"]).await;
    let cut = CancellationToken::new();
    let address = proxy(gateway.web, cut.clone()).await;
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy();
    let mut events = subscribe(&channel, &["t"]).await.unwrap();
    gateway.publish(event("t", b"1", &[])).await.unwrap();
    assert_eq!(next(&mut events).await.unwrap().unwrap().data, "1");
    // Pings alone never reach the reader of events, and one that answers them stays.
    let quiet = tokio::time::timeout(Duration::from_millis(4_500), events.message()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert_eq!(gateway.subscriptions().await, "1 open on 1 topics");
    cut.cancel();
    until("it is taken out", async || {
        gateway.subscriptions().await == "0 open on 0 topics"
    })
    .await;
    drop(events);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_given_up() {
    let flags = [
        "--subscriber-patience-milliseconds=300",
        "--subscriber-queue=100000",
    ];
    let gateway = Gateway::start(json!([]), &flags).await;
    let events = subscribe(&gateway.channel, &["t"]).await.unwrap();
    let data = vec![b'x'; 256 << 10];
    // More than the windows of a connection hold.
    for _ in 0..60 {
        gateway.publish(event("t", &data, &[])).await.unwrap();
    }
    until("it is given up", async || {
        gateway.subscriptions().await == "0 open on 0 topics"
    })
    .await;
    drop(events);
}

#[tokio::test]
async fn what_waits_for_a_reader_is_bounded_in_bytes() {
    let flags = [
        "--subscriber-patience-milliseconds=600000",
        "--subscriber-queue-bytes=1048576",
    ];
    let gateway = Gateway::start(json!([]), &flags).await;
    let mut slow = subscribe(&gateway.channel, &["t"]).await.unwrap();
    let data = vec![b'x'; 256 << 10];
    // More than the windows of a connection and the queue hold, and far fewer events than wait at most.
    for _ in 0..100 {
        gateway.publish(event("t", &data, &[])).await.unwrap();
    }
    let mut read = 0;
    let end = loop {
        match next(&mut slow).await {
            Ok(Some(_)) => read += 1,
            Ok(None) => panic!("it ends with its reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::ResourceExhausted, "{end}");
    assert!(read < 100, "{read} events were read");
    // One event may be larger than the bound.
    let mut quick = subscribe(&gateway.channel, &["large"]).await.unwrap();
    let large = vec![b'x'; 1_200_000];
    gateway.publish(event("large", &large, &[])).await.unwrap();
    assert_eq!(next(&mut quick).await.unwrap().unwrap().data.len(), large.len());
}

#[tokio::test]
async fn topics_of_all_streams_are_bounded() {
    let gateway = Gateway::start(json!([]), &["--subscribed-topics=2"]).await;
    let both = subscribe(&gateway.channel, &["a", "b"]).await.unwrap();
    let _known = subscribe(&gateway.channel, &["b"]).await.unwrap();
    let status = subscribe(&gateway.channel, &["b", "c"]).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(gateway.subscriptions().await, "2 open on 2 topics");
    drop(both);
    until("there is room", async || {
        subscribe(&gateway.channel, &["b", "c"]).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn filters_choose_by_service_topic_and_type() {
    let gateway = Gateway::start(json!([{"name": "orders"}, {"name": "prices"}]), &[]).await;
    let ask = async |services: &[&str], topics: &[&str], types: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let request = SubscribeRequest {
            services: own(services),
            topics: own(topics),
            event_types: own(types),
        };
        gateway.gateway().subscribe(request).await.unwrap().into_inner()
    };
    let mut all = ask(&[], &[], &[]).await;
    let mut orders = ask(&["orders"], &[], &[]).await;
    let mut started = ask(&[], &[], &["started"]).await;
    let mut both = ask(&["prices"], &[], &["started"]).await;
    let mut topic = ask(&[], &["orders.lifecycle"], &[]).await;
    for (topic, kind) in [
        ("orders.lifecycle", "created"),
        ("orders.lifecycle", "started"),
        ("prices.lifecycle", "started"),
    ] {
        let metadata = [
            ("ce-type", kind),
            ("ce-source", "elsewhere"),
            ("correlationid", "c"),
        ];
        gateway.publish(event(topic, b"{}", &metadata)).await.unwrap();
    }
    // Topics are read side by side, so only the order within one is known.
    let told = async |events: &mut Streaming<_>, count: usize| {
        let mut told = Vec::new();
        for _ in 0..count {
            let event: outrigger_platform_wire::virtufin::TopicEventRequest =
                next(events).await.unwrap().unwrap();
            assert_eq!(event.metadata["correlationid"], "c");
            told.push(format!("{} {} {}", event.topic, event.r#type, event.path));
        }
        told.sort();
        told
    };
    assert_eq!(
        told(&mut all, 3).await,
        [
            "orders.lifecycle created global",
            "orders.lifecycle started global",
            "prices.lifecycle started global"
        ]
    );
    assert_eq!(
        told(&mut orders, 2).await,
        [
            "orders.lifecycle created orders",
            "orders.lifecycle started orders"
        ]
    );
    assert_eq!(
        told(&mut started, 2).await,
        [
            "orders.lifecycle started event-type/started",
            "prices.lifecycle started event-type/started"
        ]
    );
    assert_eq!(
        told(&mut both, 1).await,
        ["prices.lifecycle started event-type/started/prices"]
    );
    assert_eq!(
        told(&mut topic, 2).await,
        [
            "orders.lifecycle created orders/orders.lifecycle",
            "orders.lifecycle started orders/orders.lifecycle"
        ]
    );
}

#[tokio::test]
async fn streams_end_when_the_gateway_stops() {
    let gateway = Gateway::start(json!([]), &[]).await;
    let mut events = subscribe(&gateway.channel, &["t"]).await.unwrap();
    let ended = tokio::spawn(async move { next(&mut events).await });
    gateway.stop().await;
    assert_eq!(ended.await.unwrap().unwrap_err().code(), Code::Unavailable);
}
