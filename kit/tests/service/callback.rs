//! The same service, seen by a sidecar that speaks gRPC to its app.

use std::collections::HashMap;

use axum::Router;
use axum::routing::get;
use outrigger_kit::testing::Cluster;
use outrigger_kit::{Ack, App, BindingEvent, Event, Subscription};
use outrigger_wire::dapr::proto::common::v1::{HttpExtension, InvokeRequest, http_extension::Verb};
use outrigger_wire::dapr::proto::runtime::v1::app_callback_client::AppCallbackClient;
use outrigger_wire::dapr::proto::runtime::v1::app_callback_health_check_client::AppCallbackHealthCheckClient;
use outrigger_wire::dapr::proto::runtime::v1::{
    BindingEventRequest, TopicEventRequest, topic_event_response::TopicEventResponseStatus,
};
use serde::Deserialize;
use tonic::Code;

use super::{ask, run, until};

#[derive(Deserialize)]
struct Order {
    id: u32,
}

#[tokio::test]
async fn subscriptions_bindings_and_calls_work_over_grpc() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("app").await.unwrap();
    let app = App::new(super::once(&sidecar))
        .api_token("app-secret")
        .routes(Router::new().route("/greet", get(|| async { "hello" })))
        .subscribe(
            Subscription::new("pubsub", "orders").matching("event.type == \"urgent\""),
            |event: Event<Order>| async move {
                assert_eq!(event.extension("topic"), Some("orders"));
                match event.data.id {
                    1 => Ack::Success,
                    _ => Ack::Retry,
                }
            },
        )
        .binding("tick", |event: BindingEvent| async move {
            match event.metadata.get("speed") {
                Some(_) => Ack::Success,
                None => Ack::Retry,
            }
        });
    let running = run(&sidecar, app).await;
    until("ready", async || ask(&running.url, "/healthz").await.0 == 200).await;

    let channel = tonic::transport::Endpoint::from_shared(running.url.clone())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut stranger = AppCallbackClient::new(channel.clone());
    assert_eq!(
        stranger.list_input_bindings(()).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    let token = |mut request: tonic::Request<()>| {
        request
            .metadata_mut()
            .insert("dapr-api-token", "app-secret".parse().unwrap());
        Ok(request)
    };
    let mut app = AppCallbackClient::with_interceptor(channel.clone(), token);

    let listed = app.list_topic_subscriptions(()).await.unwrap().into_inner();
    let subscription = &listed.subscriptions[0];
    assert_eq!(subscription.topic, "orders");
    let rule = &subscription.routes.as_ref().unwrap().rules[0];
    assert_eq!(rule.r#match, "event.type == \"urgent\"");

    let event = |data: &'static str| TopicEventRequest {
        id: "1".to_owned(),
        source: "shop".to_owned(),
        r#type: "urgent".to_owned(),
        spec_version: "1.0".to_owned(),
        data_content_type: "application/json".to_owned(),
        topic: "orders".to_owned(),
        pubsub_name: "pubsub".to_owned(),
        path: rule.path.clone(),
        data: data.into(),
        extensions: None,
    };
    for (data, expected) in [
        (r#"{"id": 1}"#, TopicEventResponseStatus::Success),
        (r#"{"id": 2}"#, TopicEventResponseStatus::Retry),
        (r#"{"name": "x"}"#, TopicEventResponseStatus::Drop),
    ] {
        let answer = app.on_topic_event(event(data)).await.unwrap().into_inner();
        assert_eq!(answer.status(), expected, "{data}");
    }

    assert_eq!(
        app.list_input_bindings(()).await.unwrap().into_inner().bindings,
        ["tick"]
    );
    let tick = |metadata| BindingEventRequest {
        name: "tick".to_owned(),
        data: bytes::Bytes::new(),
        metadata,
    };
    let fast = HashMap::from([("speed".to_owned(), "9".to_owned())]);
    app.on_binding_event(tick(fast)).await.unwrap();
    assert!(app.on_binding_event(tick(HashMap::new())).await.is_err());

    let call = |method: &str| InvokeRequest {
        method: method.to_owned(),
        http_extension: Some(HttpExtension {
            verb: Verb::Get.into(),
            querystring: String::new(),
        }),
        ..InvokeRequest::default()
    };
    let answer = app.on_invoke(call("greet")).await.unwrap().into_inner();
    assert_eq!(answer.data.unwrap().value, b"hello");
    assert_eq!(
        app.on_invoke(call("nothing")).await.unwrap_err().code(),
        Code::NotFound
    );

    AppCallbackHealthCheckClient::new(channel)
        .health_check(())
        .await
        .unwrap();
    running.stop.cancel();
    drop(app);
    drop(stranger);
    running.task.await.unwrap().unwrap();
}
