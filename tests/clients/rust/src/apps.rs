//! The two apps beside the sidecars; both speak gRPC, which is what this SDK serves, and note what reaches them.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use dapr::{
    appcallback::{
        BindingEventRequest, BindingEventResponse, InvokeRequest, InvokeResponse, JobEventRequest,
        JobEventResponse, ListInputBindingsResponse, ListTopicSubscriptionsResponse, TopicEventBulkRequest,
        TopicEventBulkResponse, TopicEventRequest, TopicEventResponse, TopicSubscription,
    },
    dapr::proto::runtime::v1::{
        BulkSubscribeConfig, TopicEventBulkResponseEntry,
        app_callback_server::{AppCallback, AppCallbackServer},
        topic_event_bulk_request_entry::Event,
        topic_event_response::TopicEventResponseStatus,
    },
};
use prost_types::Any;
use tonic::{Request, Response, Status};

type Arrived = HashMap<String, Vec<String>>;

/// An app by its name; clones share what arrived.
#[derive(Debug, Clone)]
pub struct App {
    name: &'static str,
    arrived: Arc<Mutex<Arrived>>,
}

impl App {
    /// Serves it on a port, in the background.
    pub fn start(name: &'static str, port: u16) -> Self {
        let app = Self {
            name,
            arrived: Arc::default(),
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = tonic::transport::Server::builder()
            .add_service(AppCallbackServer::new(app.clone()))
            .serve(address);
        tokio::spawn(async move {
            if let Err(error) = server.await {
                eprintln!("app {name}: {error}");
            }
        });
        app
    }

    /// What arrived from a topic or a binding.
    pub fn arrived(&self, key: &str) -> Vec<String> {
        let all = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).cloned().unwrap_or_default()
    }

    fn note(&self, key: &str, text: &[u8]) -> usize {
        let mut all = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        let list = all.entry(key.to_owned()).or_default();
        list.push(String::from_utf8_lossy(text).into_owned());
        list.len()
    }
}

#[async_trait::async_trait]
impl AppCallback for App {
    async fn on_invoke(&self, request: Request<InvokeRequest>) -> Result<Response<InvokeResponse>, Status> {
        let request = request.into_inner();
        if request.method != "echo" {
            return Err(Status::not_found(format!(
                "there is no method {}",
                request.method
            )));
        }
        let mut value = format!("{} heard ", self.name).into_bytes();
        value.extend(request.data.unwrap_or_default().value);
        Ok(Response::new(InvokeResponse {
            data: Some(Any {
                value,
                ..Any::default()
            }),
            content_type: "text/plain".to_owned(),
            ..InvokeResponse::default()
        }))
    }

    async fn list_topic_subscriptions(
        &self,
        _: Request<()>,
    ) -> Result<Response<ListTopicSubscriptionsResponse>, Status> {
        let topic = |topic: &str| TopicSubscription::new("pubsub".to_owned(), topic.to_owned(), None);
        let mut heaps = topic("heaps");
        heaps.bulk_subscribe = Some(BulkSubscribeConfig {
            enabled: true,
            max_messages_count: 10,
            max_await_duration_ms: 100,
        });
        let mut broken = topic("broken");
        "graveyard".clone_into(&mut broken.dead_letter_topic);
        Ok(Response::new(ListTopicSubscriptionsResponse {
            subscriptions: vec![
                topic("orders"),
                topic("unsteady"),
                topic("graveyard"),
                heaps,
                broken,
            ],
        }))
    }

    async fn on_topic_event(
        &self,
        request: Request<TopicEventRequest>,
    ) -> Result<Response<TopicEventResponse>, Status> {
        let event = request.into_inner();
        let times = self.note(&event.topic, &event.data);
        let status = match event.topic.as_str() {
            // The first delivery is refused and must come again.
            "unsteady" if times == 1 => TopicEventResponseStatus::Retry,
            "broken" => TopicEventResponseStatus::Drop,
            _ => TopicEventResponseStatus::Success,
        };
        Ok(Response::new(TopicEventResponse {
            status: status.into(),
        }))
    }

    async fn list_input_bindings(
        &self,
        _: Request<()>,
    ) -> Result<Response<ListInputBindingsResponse>, Status> {
        Ok(Response::new(ListInputBindingsResponse::binding(
            "tick".to_owned(),
        )))
    }

    async fn on_binding_event(
        &self,
        request: Request<BindingEventRequest>,
    ) -> Result<Response<BindingEventResponse>, Status> {
        let event = request.into_inner();
        self.note(&event.name, &event.data);
        Ok(Response::new(BindingEventResponse::default()))
    }

    async fn on_bulk_topic_event(
        &self,
        request: Request<TopicEventBulkRequest>,
    ) -> Result<Response<TopicEventBulkResponse>, Status> {
        let bulk = request.into_inner();
        let mut statuses = Vec::new();
        for entry in bulk.entries {
            match &entry.event {
                Some(Event::Bytes(bytes)) => self.note(&bulk.topic, bytes),
                Some(Event::CloudEvent(event)) => self.note(&bulk.topic, &event.data),
                None => 0,
            };
            statuses.push(TopicEventBulkResponseEntry {
                entry_id: entry.entry_id,
                status: TopicEventResponseStatus::Success.into(),
            });
        }
        Ok(Response::new(TopicEventBulkResponse { statuses }))
    }

    async fn on_job_event(&self, _: Request<JobEventRequest>) -> Result<Response<JobEventResponse>, Status> {
        Err(Status::unimplemented("no jobs"))
    }
}
