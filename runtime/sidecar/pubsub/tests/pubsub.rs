//! Publish and deliver, end to end in one process (A2.*).

mod outbox;
mod support;

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use http::StatusCode;
use outrigger_pubsub::{MemoryOptions, MemoryPubSub};
use outrigger_sidecar_app_channel::{AppHealth, Protocol};
use outrigger_sidecar_pubsub::SubscriptionKind;
use outrigger_telemetry::trace::SpanContext;
use outrigger_wire::dapr::proto::{
    common::v1::{InvokeRequest, InvokeResponse},
    runtime::v1::{
        BindingEventRequest, BindingEventResponse, BulkPublishRequest, BulkPublishRequestEntry,
        BulkSubscribeConfig, JobEventRequest, JobEventResponse, ListInputBindingsResponse,
        ListTopicSubscriptionsResponse, PublishEventRequest, SubscribeTopicEventsRequestAlpha1,
        SubscribeTopicEventsRequestInitialAlpha1, SubscribeTopicEventsRequestProcessedAlpha1,
        TopicEventBulkRequest, TopicEventBulkResponse, TopicEventBulkResponseEntry, TopicEventRequest,
        TopicEventResponse, TopicSubscription,
        app_callback_server::{AppCallback, AppCallbackServer},
        subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as ToServer,
        subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as ToClient,
        topic_event_bulk_request_entry::Event,
    },
};
use support::{Bench, LONG, body, broker, channel, rule, subscription};
use tokio::sync::{Notify, mpsc, watch};
use tonic::{Request, Response, Status};

#[tokio::test]
async fn an_event_goes_from_publish_to_app() {
    let mut bench = Bench::new().await;
    bench.subscribe(vec![subscription("t/a", "/in?x=1")]).await;
    let response = bench
        .call(
            "PublishEvent",
            "v1.0",
            "ps/t/a",
            "metadata.cloudevent.type=kind&metadata.key=v",
            "application/json",
            r#"{"b":1,"a":2}"#,
        )
        .await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let seen = bench.next().await;
    assert_eq!(seen.path, "/in?x=1");
    assert_eq!(seen.headers["content-type"], "application/cloudevents+json");
    assert_eq!(seen.headers["pubsubname"], "ps");
    assert_eq!(seen.headers["key"], "v");
    let event = seen.json();
    assert_eq!(event["type"], "kind");
    assert_eq!(event["source"], "app");
    assert_eq!(event["topic"], "t/a");
    assert_eq!(event["data"], serde_json::json!({"a": 2, "b": 1}));
    assert_eq!(event["specversion"], "1.0");
    let infos = bench.service.subscriptions();
    assert_eq!(infos.len(), 1);
    assert_eq!(infos[0].kind, SubscriptionKind::Declarative);
    assert_eq!(infos[0].rules, [(String::new(), "/in?x=1".to_owned())]);
}

#[tokio::test]
async fn publish_errors() {
    let scopes = [
        ("publishingScopes", "app=only"),
        ("allowedTopics", "only,other"),
        ("protectedTopics", "other"),
    ];
    let bench = Bench::with(Arc::new(MemoryPubSub::new()), &scopes).await;
    let single = ("PublishEvent", "v1.0");
    let bulk = ("BulkPublishEvent", "v1.0-alpha1");
    for ((name, version), path, query, content_type, sent, status, code, message) in [
        (
            single,
            "no/only",
            "",
            "",
            "",
            404,
            "ERR_PUBSUB_NOT_FOUND",
            "pubsub no is not found",
        ),
        (
            single,
            "ps/",
            "",
            "",
            "",
            404,
            "ERR_TOPIC_NAME_EMPTY",
            "topic is empty in pubsub ps",
        ),
        (
            single,
            "ps/only",
            "metadata.rawPayload=nope",
            "",
            "",
            400,
            "ERR_PUBSUB_REQUEST_METADATA",
            "failed deserializing metadata. Error: rawPayload value must be a valid boolean: actual is 'nope'",
        ),
        (
            single,
            "ps/only",
            "",
            "application/cloudevents+json",
            r#"{"}"#,
            500,
            "ERR_PUBSUB_CLOUD_EVENTS_SER",
            "cannot create cloudevent",
        ),
        (
            single,
            "ps/x",
            "",
            "",
            "",
            403,
            "ERR_PUBSUB_FORBIDDEN",
            "topic x is not allowed for app id app",
        ),
        (
            bulk,
            "ps/only",
            "",
            "",
            r#"{"entryID": "}"#,
            400,
            "ERR_PUBSUB_EVENTS_SER",
            "error when unmarshaling the request for topic only pubsub ps: unexpected EOF",
        ),
        (
            bulk,
            "ps/only",
            "",
            "",
            r#"[{"entryId":"1","event":5,"contentType":"text/plain"}]"#,
            400,
            "ERR_PUBSUB_EVENTS_SER",
            "error when marshalling cloud event envelope for topic only pubsub ps: error: mismatch between contentType and event",
        ),
        (
            bulk,
            "ps/only",
            "",
            "",
            r#"[{"entryId":"1","event":"a","contentType":"text/plain"},{"entryId":"1","event":"b","contentType":"text/plain"}]"#,
            400,
            "ERR_PUBSUB_EVENTS_SER",
            "error marshaling events to bytes for topic only pubsub ps. error: entryId is duplicated or not present for entry",
        ),
    ] {
        let response = bench.call(name, version, path, query, content_type, sent).await;
        assert_eq!(response.status().as_u16(), status, "{path} {sent}");
        let error = body(response).await;
        assert_eq!(error["errorCode"], code);
        assert_eq!(error["message"], message);
    }
    let status = bench
        .service
        .publish_event(
            PublishEventRequest {
                pubsub_name: "no".into(),
                topic: "t".into(),
                ..Default::default()
            },
            &SpanContext::default(),
        )
        .await
        .unwrap_err()
        .to_status();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::InvalidArgument, "pubsub no is not found")
    );
}

#[tokio::test]
async fn a_broker_that_is_closed_fails_every_entry() {
    let memory = MemoryPubSub::new();
    let bench = Bench::with(Arc::new(memory.clone()), &[]).await;
    outrigger_pubsub::PubSub::close(&memory).await.unwrap();
    let sent = r#"[{"entryId":"1","event":"a","contentType":"text/plain"}]"#;
    let response = bench.call("BulkPublishEvent", "v1.0", "ps/t", "", "", sent).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(response.headers().contains_key("metadata.responsedata"));
    assert!(
        response.headers()["metadata.error"]
            .to_str()
            .unwrap()
            .starts_with("api error: code = Internal desc = error when publishing to topic t in pubsub ps")
    );
    assert_eq!(
        body(response).await,
        serde_json::json!({"failedEntries":[{"entryId":"1","error":"component is closed"}],
            "errorCode":"ERR_PUBSUB_PUBLISH_MESSAGE"})
    );
}

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
async fn what_the_app_says_decides() {
    let mut bench = Bench::new().await;
    bench.retry_inbound(10);
    let mut sub = subscription("t", "/in");
    sub.spec.dead_letter_topic = "dead".to_owned();
    bench.subscribe(vec![sub, subscription("dead", "/dead")]).await;

    // Tried again until it is taken.
    bench.answers(&[
        (500, ""),
        (200, r#"{"status":"RETRY"}"#),
        (200, r#"{"status":"odd"}"#),
        (200, "fine"),
    ]);
    bench.publish("t", "1").await;
    for _ in 0..4 {
        bench.next_is("/in", "1").await;
    }
    // Not wanted: to the dead letter topic as it was.
    for answer in [(200, r#"{"status":"DROP"}"#), (404, "")] {
        bench.answers(&[answer]);
        bench.publish("t", "2").await;
        bench.next_is("/in", "2").await;
        let dead = bench.next().await;
        assert_eq!(
            (dead.path.as_str(), &dead.json()["topic"]),
            ("/dead", &serde_json::json!("t"))
        );
        assert_eq!(dead.headers.get_all("pubsubname").iter().count(), 1);
    }
    // Retries spent: to the dead letter topic.
    bench.retry_inbound(2);
    bench.respond(|seen| {
        if seen.path == "/in" {
            (500, String::new())
        } else {
            (200, String::new())
        }
    });
    bench.publish("t", "3").await;
    for _ in 0..3 {
        bench.next_is("/in", "3").await;
    }
    bench.next_is("/dead", "3").await;
}

#[tokio::test]
async fn rules_raw_payloads_and_expired_events() {
    let mut bench = Bench::new().await;
    let mut rules = subscription("t", "");
    rules.spec.routes.rules = vec![rule(r#"event.type == "x""#, "/x")];
    rules.spec.dead_letter_topic = "dead".to_owned();
    let mut raw = subscription("raw", "/raw");
    raw.spec
        .metadata
        .insert("rawPayload".to_owned(), "true".to_owned());
    bench
        .subscribe(vec![rules, raw, subscription("dead", "/dead")])
        .await;

    let publish = async |topic: &str, query: &str, text: &str| {
        let response = bench
            .call("PublishEvent", "v1.0", topic, query, "text/plain", text)
            .await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    };
    publish("ps/t", "metadata.cloudevent.type=x", "1").await;
    publish("ps/t", "", "2").await;
    publish("ps/t", "metadata.cloudevent.type=x&metadata.ttl=0s", "3").await;
    publish("ps/t", "metadata.cloudevent.type=x", "4").await;
    publish("ps/raw", "metadata.rawPayload=true", "hi").await;
    let (mut taken, mut raw) = (Vec::new(), None);
    for _ in 0..4 {
        let seen = bench.next().await;
        match seen.path.as_str() {
            "/raw" => raw = Some(seen.json()),
            path => taken.push(format!("{path} {}", seen.json()["data"].as_str().unwrap())),
        }
    }
    taken.sort_unstable();
    // What has expired is expired as a dead letter too.
    assert_eq!(taken, ["/dead 2", "/x 1", "/x 4"]);
    let raw = raw.unwrap();
    assert_eq!(raw["data_base64"], "aGk=");
    assert_eq!(raw["topic"], "raw");
}

#[tokio::test]
async fn batches() {
    let mut bench = Bench::new().await;
    let mut sub = subscription("t", "/bulk");
    sub.spec.bulk_subscribe.enabled = true;
    sub.spec.bulk_subscribe.max_messages_count = 3;
    sub.spec.bulk_subscribe.max_await_duration_ms = 60_000;
    sub.spec.dead_letter_topic = "dead".to_owned();
    bench.subscribe(vec![sub, subscription("dead", "/dead")]).await;
    bench.respond(|seen| {
        if seen.path == "/dead" {
            return (200, String::new());
        }
        let statuses: Vec<_> = seen.json()["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                let status = match entry["event"]["data"].as_str().unwrap() {
                    "a" => "SUCCESS",
                    "b" => "DROP",
                    _ => "RETRY",
                };
                serde_json::json!({"entryId": entry["entryId"], "status": status})
            })
            .collect();
        (200, serde_json::json!({"statuses": statuses}).to_string())
    });
    let entries: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|data| serde_json::json!({"entryId": data, "event": data, "contentType": "text/plain"}))
        .collect();
    let response = bench
        .call(
            "BulkPublishEvent",
            "v1.0",
            "ps/t",
            "",
            "application/json",
            &serde_json::json!(entries).to_string(),
        )
        .await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let seen = bench.next().await;
    assert_eq!(seen.path, "/bulk");
    let batch = seen.json();
    assert_eq!(batch["type"], "com.dapr.event.sent.bulk");
    assert_eq!(batch["pubsubname"], "ps");
    assert_eq!(batch["entries"].as_array().unwrap().len(), 3);
    assert_eq!(batch["entries"][0]["contentType"], "application/cloudevents+json");
    bench.next_is("/dead", "b").await;
    bench.next_is("/dead", "c").await;
}

#[tokio::test]
async fn retries_of_a_batch_carry_what_failed() {
    let mut bench = Bench::new().await;
    bench.retry_inbound(1);
    let mut sub = subscription("t", "/bulk");
    sub.spec.bulk_subscribe.enabled = true;
    sub.spec.bulk_subscribe.max_messages_count = 2;
    sub.spec.bulk_subscribe.max_await_duration_ms = 60_000;
    bench.subscribe(vec![sub]).await;
    bench.respond(|seen| {
        let first = seen.json()["entries"][0]["entryId"].clone();
        (
            200,
            serde_json::json!({"statuses": [{"entryId": first, "status": "SUCCESS"}]}).to_string(),
        )
    });
    bench.publish("t", "1").await;
    bench.publish("t", "2").await;
    assert_eq!(bench.next().await.json()["entries"].as_array().unwrap().len(), 2);
    let second = bench.next().await.json();
    assert_eq!(second["entries"].as_array().unwrap().len(), 1);
    assert_eq!(second["entries"][0]["event"]["data"], "2");
}

#[tokio::test]
async fn an_unhealthy_app_gets_messages_later() {
    let mut bench = Bench::new().await;
    bench.subscribe(vec![subscription("t", "/in")]).await;
    bench.health.send_replace(AppHealth::Unhealthy {
        reason: "test".to_owned(),
    });
    bench.publish("t", "1").await;
    tokio::task::yield_now().await;
    // Stopping does not wait for what waits for the app, and loses nothing.
    bench.service.stop_app_subscriptions().await;
    assert!(bench.seen.try_recv().is_err());
    bench.health.send_replace(AppHealth::Healthy);
    bench.service.start_app_subscriptions().await.unwrap();
    bench.next_is("/in", "1").await;
}

#[tokio::test]
async fn shutdown_waits_for_deliveries_and_refuses_nothing() {
    let memory = MemoryPubSub::new();
    let mut bench = Bench::with(Arc::new(memory.clone()), &[]).await;
    let mut sub = subscription("t", "/in");
    sub.spec.dead_letter_topic = "dead".to_owned();
    bench.subscribe(vec![sub, subscription("dead", "/dead")]).await;
    let hold = Arc::new(Notify::new());
    *bench.app.hold.lock() = Some(Arc::clone(&hold));
    bench.answers(&[(500, "")]);
    bench.publish("t", "1").await;
    bench.publish("t", "2").await;
    bench.next_is("/in", "1").await;
    let service = Arc::clone(&bench.service);
    let stopping = tokio::spawn(async move { service.stop_forever().await });
    while bench.service.start_app_subscriptions().await.is_ok() && !stopping.is_finished() {
        // The failure of a delivery that a shutdown overtook is not held against the message.
        hold.notify_waiters();
        tokio::task::yield_now().await;
    }
    stopping.await.unwrap();
    *bench.app.hold.lock() = None;
    let next = outrigger_sidecar_pubsub::PubsubService::new(bench.options.clone());
    next.set_declarative(vec![subscription("t", "/in"), subscription("dead", "/dead")])
        .await
        .unwrap();
    next.start_app_subscriptions().await.unwrap();
    bench.next_is("/in", "1").await;
    bench.next_is("/in", "2").await;
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

struct GrpcApp {
    events: mpsc::UnboundedSender<TopicEventRequest>,
    batches: mpsc::UnboundedSender<TopicEventBulkRequest>,
}

#[tonic::async_trait]
impl AppCallback for GrpcApp {
    async fn on_invoke(&self, _: Request<InvokeRequest>) -> Result<Response<InvokeResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_topic_subscriptions(
        &self,
        _: Request<()>,
    ) -> Result<Response<ListTopicSubscriptionsResponse>, Status> {
        let bulk = BulkSubscribeConfig {
            enabled: true,
            max_messages_count: 2,
            max_await_duration_ms: 60_000,
        };
        let subscriptions = vec![
            TopicSubscription {
                pubsub_name: "ps".into(),
                topic: "t".into(),
                ..Default::default()
            },
            TopicSubscription {
                pubsub_name: "ps".into(),
                topic: "bulk".into(),
                bulk_subscribe: Some(bulk),
                ..Default::default()
            },
        ];
        Ok(Response::new(ListTopicSubscriptionsResponse { subscriptions }))
    }
    async fn on_topic_event(
        &self,
        request: Request<TopicEventRequest>,
    ) -> Result<Response<TopicEventResponse>, Status> {
        assert_eq!(request.metadata().get("pubsubname").unwrap(), "ps");
        let _ = self.events.send(request.into_inner());
        Ok(Response::new(TopicEventResponse::default()))
    }
    async fn list_input_bindings(
        &self,
        _: Request<()>,
    ) -> Result<Response<ListInputBindingsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn on_binding_event(
        &self,
        _: Request<BindingEventRequest>,
    ) -> Result<Response<BindingEventResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn on_bulk_topic_event(
        &self,
        request: Request<TopicEventBulkRequest>,
    ) -> Result<Response<TopicEventBulkResponse>, Status> {
        let batch = request.into_inner();
        let statuses = batch
            .entries
            .iter()
            .map(|entry| TopicEventBulkResponseEntry {
                entry_id: entry.entry_id.clone(),
                status: 0,
            })
            .collect();
        let _ = self.batches.send(batch);
        Ok(Response::new(TopicEventBulkResponse { statuses }))
    }
    async fn on_job_event(&self, _: Request<JobEventRequest>) -> Result<Response<JobEventResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tokio::test]
async fn grpc_apps() {
    let bench = Bench::new().await;
    let (sender, mut events) = mpsc::unbounded_channel();
    let (batch_sender, mut batches) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = GrpcApp {
        events: sender,
        batches: batch_sender,
    };
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(AppCallbackServer::new(app))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
    );
    let (_health, healthy) = watch::channel(AppHealth::Healthy);
    bench
        .options
        .app
        .store(Some(Arc::new(channel(port, Protocol::Grpc, healthy))));
    bench.service.start_app_subscriptions().await.unwrap();

    let publish = PublishEventRequest {
        pubsub_name: "ps".into(),
        topic: "t".into(),
        data: r#"{"a":1}"#.into(),
        data_content_type: "application/json".into(),
        metadata: [("cloudevent.source".to_owned(), "me".to_owned())].into(),
    };
    bench
        .service
        .publish_event(publish, &SpanContext::default())
        .await
        .unwrap();
    let event = tokio::time::timeout(LONG, events.recv()).await.unwrap().unwrap();
    assert_eq!(&event.data[..], br#"{"a":1}"#);
    assert_eq!(
        (event.source.as_str(), event.topic.as_str(), event.path.as_str()),
        ("me", "t", "")
    );
    assert!(event.extensions.unwrap().fields.contains_key("time"));

    let entry = |id: &str| BulkPublishRequestEntry {
        entry_id: id.into(),
        event: id.to_owned().into(),
        content_type: "text/plain".into(),
        ..Default::default()
    };
    let bulk = BulkPublishRequest {
        pubsub_name: "ps".into(),
        topic: "bulk".into(),
        entries: vec![entry("1"), entry("2")],
        ..Default::default()
    };
    let answer = bench
        .service
        .bulk_publish(bulk, "/m", &SpanContext::default())
        .await
        .unwrap();
    assert!(answer.failed_entries.is_empty());
    let batch = tokio::time::timeout(LONG, batches.recv()).await.unwrap().unwrap();
    assert_eq!(batch.entries.len(), 2);
    let Some(Event::CloudEvent(event)) = &batch.entries[1].event else {
        panic!("an event")
    };
    assert_eq!(&event.data[..], b"2");
}

type Incoming = mpsc::UnboundedSender<Result<SubscribeTopicEventsRequestAlpha1, Status>>;

fn open(bench: &Bench) -> (Incoming, outrigger_sidecar_pubsub::TopicEventStream) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let incoming = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    (sender, bench.service.subscribe_topic_events(incoming))
}

fn initial(pubsub: &str, topic: &str) -> Result<SubscribeTopicEventsRequestAlpha1, Status> {
    let initial = SubscribeTopicEventsRequestInitialAlpha1 {
        pubsub_name: pubsub.to_owned(),
        topic: topic.to_owned(),
        ..Default::default()
    };
    Ok(SubscribeTopicEventsRequestAlpha1 {
        subscribe_topic_events_request_type: Some(ToServer::InitialRequest(initial)),
    })
}

fn processed(id: &str, status: i32) -> Result<SubscribeTopicEventsRequestAlpha1, Status> {
    let event = SubscribeTopicEventsRequestProcessedAlpha1 {
        id: id.to_owned(),
        status: Some(TopicEventResponse { status }),
    };
    Ok(SubscribeTopicEventsRequestAlpha1 {
        subscribe_topic_events_request_type: Some(ToServer::EventProcessed(event)),
    })
}

async fn receive(stream: &mut outrigger_sidecar_pubsub::TopicEventStream) -> Result<ToClient, Status> {
    let message = tokio::time::timeout(LONG, stream.next())
        .await
        .unwrap()
        .unwrap()?;
    Ok(message.subscribe_topic_events_response_type.unwrap())
}

async fn event(stream: &mut outrigger_sidecar_pubsub::TopicEventStream) -> TopicEventRequest {
    match receive(stream).await.unwrap() {
        ToClient::EventMessage(event) => event,
        ToClient::InitialResponse(_) => panic!("an event"),
    }
}

#[tokio::test]
async fn streams() {
    let bench = Bench::new().await;
    bench.retry_inbound(5);
    // Health is the app's; streams prove themselves.
    bench.health.send_replace(AppHealth::Unknown);
    let (app, mut stream) = open(&bench);
    app.send(initial("ps", "t")).unwrap();
    assert!(matches!(
        receive(&mut stream).await.unwrap(),
        ToClient::InitialResponse(_)
    ));
    assert_eq!(bench.service.subscriptions()[0].kind, SubscriptionKind::Streaming);
    bench.publish("t", "1").await;
    let first = event(&mut stream).await;
    assert_eq!((&first.data[..], first.path.as_str()), (&b"1"[..], "/"));
    app.send(processed(&first.id, 1)).unwrap();
    let again = event(&mut stream).await;
    assert_eq!(again.id, first.id);
    app.send(processed(&again.id, 0)).unwrap();

    // The client goes away with an event in its hands: the next one gets it.
    bench.publish("t", "2").await;
    assert_eq!(&event(&mut stream).await.data[..], b"2");
    drop((app, stream));
    while !bench.service.subscriptions().is_empty() {
        tokio::task::yield_now().await;
    }
    let (app, mut stream) = open(&bench);
    app.send(initial("ps", "t")).unwrap();
    assert!(matches!(
        receive(&mut stream).await.unwrap(),
        ToClient::InitialResponse(_)
    ));
    let second = event(&mut stream).await;
    assert_eq!(&second.data[..], b"2");
    app.send(processed(&second.id, 0)).unwrap();

    bench.service.stop_forever().await;
    assert_eq!(receive(&mut stream).await.unwrap_err().message(), "stream closed");
}

#[tokio::test]
async fn a_client_that_leaves_during_the_shutdown_does_not_hold_it_up() {
    let bench = Bench::new().await;
    let (app, mut stream) = open(&bench);
    app.send(initial("ps", "t")).unwrap();
    assert!(receive(&mut stream).await.is_ok());
    bench.publish("t", "1").await;
    event(&mut stream).await;
    let stopping = bench.service.stop_forever();
    tokio::pin!(stopping);
    assert!(
        futures::poll!(&mut stopping).is_pending(),
        "the event is in flight"
    );
    drop((app, stream));
    // Far less than the deliveries in flight may take.
    tokio::time::timeout(Duration::from_secs(5), stopping)
        .await
        .expect("nothing is waited for");
}

#[tokio::test]
async fn stream_errors() {
    let bench = Bench::new().await;
    for (first, text) in [
        (initial("", "t"), "pubsubName is required"),
        (initial("ps", ""), "topic is required"),
        (initial("no", "t"), "pubsub no is not found"),
        (processed("x", 0), "initial request is required"),
    ] {
        let (app, mut stream) = open(&bench);
        app.send(first).unwrap();
        assert_eq!(receive(&mut stream).await.unwrap_err().message(), text);
    }
    let (app, mut stream) = open(&bench);
    app.send(initial("ps", "t")).unwrap();
    app.send(initial("ps", "t")).unwrap();
    assert!(receive(&mut stream).await.is_ok());
    assert_eq!(
        receive(&mut stream).await.unwrap_err().message(),
        "duplicate initial request received"
    );
    // A stream that never said what it wants does not keep the sidecar up.
    let (_app, mut silent) = open(&bench);
    bench.service.stop_forever().await;
    assert_eq!(
        receive(&mut silent).await.unwrap_err().message(),
        "api server closed"
    );
}

/// How fast messages go through, on request: `cargo test --profile fast -- --ignored --nocapture bulk_rate`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn bulk_rate() {
    const BATCHES: usize = 2000;
    let mut bench = Bench::new().await;
    let mut sub = subscription("t", "/bulk");
    sub.spec.bulk_subscribe.enabled = true;
    bench.subscribe(vec![sub]).await;
    #[derive(serde::Deserialize)]
    struct Batch<'a> {
        #[serde(borrow)]
        entries: Vec<Entry<'a>>,
    }
    #[derive(serde::Deserialize)]
    struct Entry<'a> {
        #[serde(rename = "entryId")]
        id: &'a str,
    }
    bench.respond(|seen| {
        let batch: Batch<'_> = serde_json::from_slice(&seen.body).unwrap();
        let mut text = String::from("{\"statuses\":[");
        for (at, entry) in batch.entries.iter().enumerate() {
            text.push_str(if at == 0 {
                "{\"entryId\":\""
            } else {
                ",{\"entryId\":\""
            });
            text.push_str(entry.id);
            text.push_str("\",\"status\":\"SUCCESS\"}");
        }
        text.push_str("]}");
        (200, text)
    });
    let entries: Vec<_> = (0..100)
        .map(|id| {
            serde_json::json!({"entryId": id.to_string(), "contentType": "application/json",
            "event": {"order": id, "text": "x".repeat(75)}})
        })
        .collect();
    let sent = serde_json::json!(entries).to_string();
    let start = std::time::Instant::now();
    for _ in 0..BATCHES {
        bench
            .call("BulkPublishEvent", "v1.0", "ps/t", "", "application/json", &sent)
            .await;
    }
    let published = start.elapsed();
    let mut bytes = 0;
    for _ in 0..BATCHES {
        bytes += bench.next().await.body.len();
    }
    let rate = (BATCHES * 100) as f64 / start.elapsed().as_secs_f64();
    assert!(bytes > 0);
    std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("{rate:.0} messages/s delivered, published in {published:?}\n"),
    )
    .unwrap();
}
