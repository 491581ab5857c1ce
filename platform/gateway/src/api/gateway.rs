//! `virtufin.Gateway`: services by name.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use outrigger_platform_transcoding::{code_name, from_json, to_json};
use outrigger_platform_wire::virtufin::gateway_server::Gateway;
use outrigger_platform_wire::virtufin::{
    Empty, GetMethodSchemaRequest, GetMethodSchemaResponse, InvokeJsonRequest, InvokeJsonResponse,
    InvokeRequest, InvokeResponse, ListMethodsRequest, ListMethodsResponse, ListServicesResponse, MethodInfo,
    SubscribeRequest, TopicEventRequest,
};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};

use super::schema;
use crate::backends::{Backends, call, is_plumbing, split};
use crate::events::{Filter, Hub};

/// Metadata of an answer with the details of a backend's error, which the answer's fields have no place for.
const DETAILS: &str = "backend-status-details-bin";
/// Metadata that is about the caller's own call and not for the backend.
const OWN: [&str; 8] = [
    "grpc-timeout",
    "grpc-accept-encoding",
    "grpc-encoding",
    "te",
    "content-type",
    "user-agent",
    "accept",
    "x-api-version",
];

/// Calls by name.
#[derive(Debug, Clone)]
pub struct GatewayApi {
    /// The services.
    pub backends: Arc<Backends>,
    /// Events.
    pub hub: Hub,
}

/// What came of calling a backend.
#[derive(Debug)]
struct Invoked<T> {
    outcome: Result<T, Status>,
}

impl<T> Invoked<T> {
    /// Success, the name of the status, its message.
    fn told(&self) -> (bool, String, String) {
        match &self.outcome {
            Ok(_) => (true, "OK".to_owned(), String::new()),
            Err(status) => (
                false,
                code_name(status.code()).to_owned(),
                status.message().to_owned(),
            ),
        }
    }

    /// Puts the error's details beside an answer.
    fn detail<R>(&self, response: &mut Response<R>) {
        let Err(status) = &self.outcome else { return };
        if !status.details().is_empty() {
            let details = MetadataValue::from_bytes(status.details());
            response
                .metadata_mut()
                .insert_bin(MetadataKey::from_static(DETAILS), details);
        }
    }
}

impl GatewayApi {
    /// A unary call with encoded messages, which pass as they are (G2.2). A method named in full needs no reflection.
    pub(crate) async fn invoke_raw(
        &self,
        service: &str,
        method: &str,
        metadata: MetadataMap,
        message: Bytes,
    ) -> Result<Bytes, Status> {
        let service = self.backends.service(service)?;
        let call = match split(method) {
            (Some(full), method) => call(full, method, metadata, message)?,
            (None, _) => self
                .backends
                .method(&service, method)
                .await?
                .call(metadata, message)?,
        };
        let (_, answer) = self.backends.unary(&service, call).await?;
        Ok(answer)
    }

    /// A unary call with messages as JSON (G2.1). Empty JSON stands for an empty message.
    pub(crate) async fn invoke_as_json(
        &self,
        service: &str,
        method: &str,
        metadata: MetadataMap,
        json: &str,
    ) -> Result<String, Status> {
        let service = self.backends.service(service)?;
        let mut target = self.backends.method(&service, method).await?;
        let json = if json.trim().is_empty() { "{}" } else { json };
        let message = match from_json(target.0.input(), json.as_bytes()) {
            Ok(message) => message,
            Err(_) => {
                // The message may have got a field since the service told of it.
                target = self.backends.method_anew(&service, method).await?;
                from_json(target.0.input(), json.as_bytes()).map_err(Status::invalid_argument)?
            }
        };
        let call = target.call(metadata, message.encode_to_vec().into())?;
        let (_, answer) = self.backends.unary(&service, call).await?;
        let answer = DynamicMessage::decode(target.0.output(), answer).map_err(|error| {
            // A deployed change of the message would show itself so.
            self.backends.forget(Some(&service.name));
            Status::internal(format!(
                "the answer is no {}: {error}",
                target.0.output().full_name()
            ))
        })?;
        to_json(&answer)
    }

    /// All methods of a service.
    pub(crate) async fn methods(&self, service: &str) -> Result<Vec<MethodDescriptor>, Status> {
        let service = self.backends.service(service)?;
        let descriptors = self.backends.descriptors(&service).await?;
        Ok(descriptors
            .services
            .iter()
            .filter(|name| !is_plumbing(name))
            .filter_map(|name| descriptors.pool.get_service_by_name(name))
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .collect())
    }
}

/// A method as `ListMethods` tells it.
pub(crate) fn describe(method: &MethodDescriptor) -> MethodInfo {
    MethodInfo {
        name: method.name().to_owned(),
        full_name: method.full_name().to_owned(),
        input_type: method.input().full_name().to_owned(),
        output_type: method.output().full_name().to_owned(),
        is_client_streaming: method.is_client_streaming(),
        is_server_streaming: method.is_server_streaming(),
    }
}

/// The caller's metadata for the backend.
fn passed_on(metadata: &MetadataMap) -> MetadataMap {
    let mut passed = metadata.clone();
    for name in OWN {
        passed.remove(name);
    }
    passed
}

#[tonic::async_trait]
impl Gateway for GatewayApi {
    type SubscribeStream = BoxStream<'static, Result<TopicEventRequest, Status>>;

    async fn invoke(&self, request: Request<InvokeRequest>) -> Result<Response<InvokeResponse>, Status> {
        let metadata = passed_on(request.metadata());
        let InvokeRequest {
            service,
            method,
            request_data,
        } = request.into_inner();
        let invoked = Invoked {
            outcome: self.invoke_raw(&service, &method, metadata, request_data).await,
        };
        let (success, status, message) = invoked.told();
        let mut response = Response::new(InvokeResponse {
            success,
            status,
            message,
            response_data: Bytes::new(),
        });
        invoked.detail(&mut response);
        if let Ok(data) = invoked.outcome {
            response.get_mut().response_data = data;
        }
        Ok(response)
    }

    async fn invoke_json(
        &self,
        request: Request<InvokeJsonRequest>,
    ) -> Result<Response<InvokeJsonResponse>, Status> {
        let metadata = passed_on(request.metadata());
        let InvokeJsonRequest {
            service,
            method,
            request_data,
        } = request.into_inner();
        let invoked = Invoked {
            outcome: self
                .invoke_as_json(&service, &method, metadata, &request_data)
                .await,
        };
        let (success, status, message) = invoked.told();
        let mut response = Response::new(InvokeJsonResponse {
            success,
            status,
            message,
            response_data: String::new(),
        });
        invoked.detail(&mut response);
        if let Ok(data) = invoked.outcome {
            response.get_mut().response_data = data;
        }
        Ok(response)
    }

    async fn list_services(&self, _: Request<Empty>) -> Result<Response<ListServicesResponse>, Status> {
        let services = self.backends.catalog().services();
        Ok(Response::new(ListServicesResponse {
            services: services.iter().map(|service| service.name.clone()).collect(),
        }))
    }

    async fn list_methods(
        &self,
        request: Request<ListMethodsRequest>,
    ) -> Result<Response<ListMethodsResponse>, Status> {
        let methods = self.methods(&request.into_inner().service).await?;
        Ok(Response::new(ListMethodsResponse {
            methods: methods.iter().map(describe).collect(),
        }))
    }

    async fn get_method_schema(
        &self,
        request: Request<GetMethodSchemaRequest>,
    ) -> Result<Response<GetMethodSchemaResponse>, Status> {
        let request = request.into_inner();
        let service = self.backends.service(&request.service)?;
        let target = self.backends.method(&service, &request.method).await?;
        Ok(Response::new(GetMethodSchemaResponse {
            schema: Some(schema(&target.0, &request.schema_type)?),
        }))
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let SubscribeRequest {
            services,
            topics,
            event_types,
        } = request.into_inner();
        let filter = Filter {
            services,
            topics,
            event_types,
        };
        let subscription = self
            .hub
            .subscribe(&filter.topics(self.backends.catalog()))
            .await?;
        let events = subscription.filter_map(move |event| {
            let event = match event {
                Err(status) => Some(Err(status)),
                Ok(event) => filter.scope(&event).map(|scope| {
                    let attributes = &event.attributes;
                    Ok(TopicEventRequest {
                        id: attributes.id.clone(),
                        source: attributes.source.clone(),
                        r#type: attributes.kind.clone(),
                        spec_version: "1.0".to_owned(),
                        data_content_type: attributes.content_type.clone().unwrap_or_default(),
                        topic: event.topic.clone(),
                        data: event.data.clone(),
                        pubsub_name: event.pubsub.clone(),
                        path: scope,
                        metadata: event
                            .extensions()
                            .map(|(name, value)| (name.clone(), value.to_owned()))
                            .collect(),
                    })
                }),
            };
            futures::future::ready(event)
        });
        Ok(Response::new(events.boxed()))
    }
}
