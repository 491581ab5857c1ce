//! Apps that speak gRPC.

use std::sync::Arc;

use outrigger_sidecar_app_channel::{AppHealth, Protocol};
use outrigger_telemetry::trace::SpanContext;
use outrigger_wire::dapr::proto::{
    common::v1::{InvokeRequest, InvokeResponse},
    runtime::v1::{
        BindingEventRequest, BindingEventResponse, BulkPublishRequest, BulkPublishRequestEntry,
        BulkSubscribeConfig, JobEventRequest, JobEventResponse, ListInputBindingsResponse,
        ListTopicSubscriptionsResponse, PublishEventRequest, TopicEventBulkRequest, TopicEventBulkResponse,
        TopicEventBulkResponseEntry, TopicEventRequest, TopicEventResponse, TopicSubscription,
        app_callback_server::{AppCallback, AppCallbackServer},
        topic_event_bulk_request_entry::Event,
    },
};
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status};

use crate::support::{Bench, LONG, channel};

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
