//! A gRPC server in this process that keeps what it is asked and answers what the test says.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt as _, stream};
use outrigger_platform_client::virtufin::{
    config_server, gateway_server, pubsub_server, state_server, web_socket_manager_server,
    work_manager_server, *,
};
use prost_reflect::prost::Message;
use tokio::{net::TcpListener, sync::broadcast};
use tokio_stream::wrappers::{BroadcastStream, TcpListenerStream};
use tonic::{Request, Response, Status, metadata::MetadataMap, transport::Server as Tonic};

/// What the server was asked.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Such as `list_workers`.
    pub(crate) method: &'static str,
    pub(crate) request: Vec<u8>,
    pub(crate) metadata: MetadataMap,
}

/// What a published event brings about on the open subscriptions.
type Replies = Box<dyn Fn(&PublishRequest) -> Vec<PubsubSubscribeResponse> + Send>;

#[derive(Default)]
struct Script {
    calls: Vec<Call>,
    answers: HashMap<&'static str, Result<Vec<u8>, Status>>,
    replies: Option<Replies>,
    order: Vec<&'static str>,
}

/// Clones are the same server.
#[derive(Clone)]
pub(crate) struct Server {
    script: Arc<Mutex<Script>>,
    events: broadcast::Sender<PubsubSubscribeResponse>,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            script: Arc::default(),
            events: broadcast::channel(64).0,
            port: listener.local_addr().unwrap().port(),
        };
        let serving = Tonic::builder()
            .add_service(gateway_server::GatewayServer::new(server.clone()))
            .add_service(pubsub_server::PubsubServer::new(server.clone()))
            .add_service(state_server::StateServer::new(server.clone()))
            .add_service(config_server::ConfigServer::new(server.clone()))
            .add_service(work_manager_server::WorkManagerServer::new(server.clone()))
            .add_service(web_socket_manager_server::WebSocketManagerServer::new(
                server.clone(),
            ))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        server
    }

    /// Has a method answer so; an empty message where nothing was said.
    pub(crate) fn answer(&self, method: &'static str, answer: &impl Message) {
        let answer = Ok(answer.encode_to_vec());
        self.script.lock().unwrap().answers.insert(method, answer);
    }

    pub(crate) fn refuse(&self, method: &'static str, status: Status) {
        self.script.lock().unwrap().answers.insert(method, Err(status));
    }

    pub(crate) fn reply(
        &self,
        replies: impl Fn(&PublishRequest) -> Vec<PubsubSubscribeResponse> + Send + 'static,
    ) {
        self.script.lock().unwrap().replies = Some(Box::new(replies));
    }

    /// Subscriptions begun and events published.
    pub(crate) fn order(&self) -> Vec<&'static str> {
        self.script.lock().unwrap().order.clone()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.script.lock().unwrap().calls.clone()
    }

    /// The request of the last call, which was of this method.
    pub(crate) fn last<M: Message + Default>(&self, method: &str) -> M {
        let call = self.calls().pop().expect("there was a call");
        assert_eq!(call.method, method);
        M::decode(call.request.as_slice()).unwrap()
    }

    #[allow(clippy::result_large_err, reason = "a status is what gRPC answers")]
    fn ask<A: Message + Default>(
        &self,
        method: &'static str,
        metadata: MetadataMap,
        request: &impl Message,
    ) -> Result<Response<A>, Status> {
        let mut script = self.script.lock().unwrap();
        script.calls.push(Call {
            method,
            request: request.encode_to_vec(),
            metadata,
        });
        match script.answers.get(method) {
            None => Ok(Response::new(A::default())),
            Some(Ok(bytes)) => Ok(Response::new(A::decode(bytes.as_slice()).unwrap())),
            Some(Err(status)) => Err(status.clone()),
        }
    }
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A service whose methods all go through [`Server::ask`]; `{ … }` holds those that do not.
macro_rules! service {
    ($service:path { $($method:ident($request:ty) -> $answer:ty;)* } $($rest:item)*) => {
        #[tonic::async_trait]
        impl $service for Server {
            $(async fn $method(&self, request: Request<$request>) -> Result<Response<$answer>, Status> {
                let (metadata, _, message) = request.into_parts();
                self.ask(stringify!($method), metadata, &message)
            })*
            $($rest)*
        }
    };
}

service! {
    gateway_server::Gateway {
        invoke(InvokeRequest) -> InvokeResponse;
        invoke_json(InvokeJsonRequest) -> InvokeJsonResponse;
        list_services(Empty) -> ListServicesResponse;
        list_methods(ListMethodsRequest) -> ListMethodsResponse;
        get_method_schema(GetMethodSchemaRequest) -> GetMethodSchemaResponse;
    }
    type SubscribeStream = Events<TopicEventRequest>;
    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (metadata, _, message) = request.into_parts();
        self.ask::<Empty>("subscribe_events", metadata, &message)?;
        let events = (0..100).map(|number| {
            Ok(TopicEventRequest {
                id: number.to_string(),
                ..TopicEventRequest::default()
            })
        });
        let end = stream::once(async { Err(Status::data_loss("the end")) });
        Ok(Response::new(stream::iter(events).chain(end).boxed()))
    }
}

service! {
    pubsub_server::Pubsub {
        unsubscribe(UnsubscribeRequest) -> UnsubscribeResponse;
    }
    type SubscribeStream = Events<PubsubSubscribeResponse>;
    async fn subscribe(
        &self,
        request: Request<PubsubSubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (metadata, _, message) = request.into_parts();
        self.ask::<Empty>("subscribe", metadata, &message)?;
        let events = BroadcastStream::new(self.events.subscribe());
        self.script.lock().unwrap().order.push("subscribed");
        Ok(Response::new(events.map(|event| Ok(event.unwrap())).boxed()))
    }
    async fn publish_event(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let answer = self.ask("publish_event", metadata, &message);
        let mut script = self.script.lock().unwrap();
        script.order.push("published");
        for reply in script.replies.iter().flat_map(|replies| replies(&message)) {
            // Nobody may be there.
            let _ = self.events.send(reply);
        }
        answer
    }
}

service! {
    state_server::State {
        save_state(SaveStateRequest) -> SaveStateResponse;
        get_state(GetStateRequest) -> GetStateResponse;
        get_all_state(GetAllStateRequest) -> GetAllStateResponse;
        register_keys(RegisterKeysRequest) -> RegisterKeysResponse;
        delete_state(DeleteStateRequest) -> DeleteStateResponse;
    }
}

service! {
    config_server::Config {
        list_services(ListConfigServicesRequest) -> ListConfigServicesResponse;
        get_service(GetConfigServiceRequest) -> GetConfigServiceResponse;
    }
}

service! {
    work_manager_server::WorkManager {
        create_worker(CreateWorkerRequest) -> CreateWorkerResponse;
        list_workers(ListWorkersRequest) -> ListWorkersResponse;
        delete_worker(DeleteWorkerRequest) -> Empty;
        start_worker(StartWorkerRequest) -> Empty;
        stop_worker(StopWorkerRequest) -> Empty;
        recover_workers(RecoverWorkersRequest) -> RecoverWorkersResponse;
        get_worker_history(GetWorkerHistoryRequest) -> GetWorkerHistoryResponse;
        load_code_from_content(LoadCodeFromContentRequest) -> Empty;
        load_code_from_url(LoadCodeFromUrlRequest) -> Empty;
        load_code(LoadCodeRequest) -> Empty;
        set_tag(SetTagRequest) -> Empty;
        get_tag(GetTagRequest) -> GetTagResponse;
        set_tags(SetTagsRequest) -> Empty;
        get_tags(GetTagsRequest) -> GetTagsResponse;
    }
}

service! {
    web_socket_manager_server::WebSocketManager {
        connect(ConnectRequest) -> ConnectResponse;
        list(ListRequest) -> ListResponse;
        disconnect(DisconnectRequest) -> Empty;
        send(SendRequest) -> SendResponse;
        send_raw(SendRawRequest) -> Empty;
        start_publish(StartPublishRequest) -> Empty;
        stop_publish(StopPublishRequest) -> Empty;
        set_tag(SetTagRequest) -> Empty;
        get_tag(GetTagRequest) -> GetTagResponse;
        set_tags(SetTagsRequest) -> Empty;
        get_tags(GetTagsRequest) -> GetTagsResponse;
    }
}
