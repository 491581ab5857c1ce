//! The API gateway: calls to services by name, events, state, configuration.

use std::collections::BTreeMap;

use bytes::Bytes;
use outrigger_platform_wire::virtufin::{
    self, ConfigService, DeleteStateRequest, Empty, GetAllStateRequest, GetConfigServiceRequest,
    GetMethodSchemaRequest, GetStateRequest, InvokeJsonRequest, InvokeRequest, ListConfigServicesRequest,
    ListMethodsRequest, MethodInfo, MethodSchema, PublishRequest, PubsubSubscribeRequest,
    PubsubSubscribeResponse, RegisterKeysRequest, SaveStateRequest, StatusResponse, SubscribeRequest,
    TopicEventRequest, UnsubscribeRequest, config_client::ConfigClient,
    gateway_client::GatewayClient as GatewayStub, pubsub_client::PubsubClient, state_client::StateClient,
};
use tonic::transport::Channel;

use crate::{
    Error, Options, Subscription,
    link::{Link, Transport},
};

mod dynamic;
mod reply;

pub use dynamic::Service;
pub use reply::{Ask, CORRELATION_ID};

/// The gateway's four services: `virtufin.Gateway`, `Pubsub`, `State` and `Config`.
#[derive(Debug, Clone)]
pub struct GatewayClient {
    link: Link,
}

/// Which message of a method a schema is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What the method takes.
    Input,
    /// What it answers.
    Output,
}

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// JSON where it is JSON, else text.
    pub value: String,
    /// For [`GatewayClient::save_state`] and [`GatewayClient::delete_state`].
    pub etag: String,
}

impl GatewayClient {
    /// A client that connects at its first call. Must be called where a Tokio runtime is.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub fn new(options: &Options) -> Result<Self, Error> {
        Ok(Self {
            link: Link::lazy(options)?,
        })
    }

    /// A client over a connection made elsewhere, such as one with TLS; host and port of the options are not looked at.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub fn over(channel: Channel, options: &Options) -> Result<Self, Error> {
        Ok(Self {
            link: Link::over(channel, options)?,
        })
    }

    fn gateway(&self) -> GatewayStub<Transport> {
        GatewayStub::new(self.link.transport())
    }

    fn pubsub(&self) -> PubsubClient<Transport> {
        PubsubClient::new(self.link.transport())
    }

    fn state(&self) -> StateClient<Transport> {
        StateClient::new(self.link.transport())
    }

    fn config(&self) -> ConfigClient<Transport> {
        ConfigClient::new(self.link.transport())
    }

    /// A backend to be called by the names of its methods (E2.10).
    pub fn service(&self, name: impl Into<String>) -> Service {
        Service::new(self.clone(), name.into())
    }

    /// Calls a unary method of a backend with an encoded message; the answer is an encoded message.
    ///
    /// # Errors
    /// The status of the backend or of the gateway.
    pub async fn invoke(
        &self,
        service: impl Into<String>,
        method: impl Into<String>,
        request: impl Into<Bytes>,
    ) -> Result<Bytes, Error> {
        let request = InvokeRequest {
            service: service.into(),
            method: method.into(),
            request_data: request.into(),
        };
        let answer = self.link.unary(self.gateway().invoke(request)).await?;
        succeeded(answer.success, &answer.status, answer.message)?;
        Ok(answer.response_data)
    }

    /// Calls a unary method of a backend with a message as JSON; the answer is JSON.
    ///
    /// # Errors
    /// The status of the backend or of the gateway.
    pub async fn invoke_json(
        &self,
        service: impl Into<String>,
        method: impl Into<String>,
        request: impl Into<String>,
    ) -> Result<String, Error> {
        let request = InvokeJsonRequest {
            service: service.into(),
            method: method.into(),
            request_data: request.into(),
        };
        let answer = self.link.unary(self.gateway().invoke_json(request)).await?;
        succeeded(answer.success, &answer.status, answer.message)?;
        Ok(answer.response_data)
    }

    /// The names of the backends.
    ///
    /// # Errors
    /// The status of the gateway.
    pub async fn list_services(&self) -> Result<Vec<String>, Error> {
        let answer = self.link.unary(self.gateway().list_services(Empty {})).await?;
        Ok(answer.services)
    }

    /// The methods of a backend, as it tells them itself.
    ///
    /// # Errors
    /// The status of the gateway; [`Error::NotFound`] for a backend that it does not know.
    pub async fn list_methods(&self, service: impl Into<String>) -> Result<Vec<MethodInfo>, Error> {
        let service = service.into();
        let request = ListMethodsRequest { service };
        let answer = self.link.unary(self.gateway().list_methods(request)).await?;
        Ok(answer.methods)
    }

    /// The fields of a message of a method.
    ///
    /// # Errors
    /// The status of the gateway; [`Error::NotFound`] for a backend or method that it does not know.
    pub async fn get_method_schema(
        &self,
        service: impl Into<String>,
        method: impl Into<String>,
        side: Side,
    ) -> Result<MethodSchema, Error> {
        let request = GetMethodSchemaRequest {
            service: service.into(),
            method: method.into(),
            schema_type: match side {
                Side::Input => "input",
                Side::Output => "output",
            }
            .to_owned(),
        };
        let answer = self.link.unary(self.gateway().get_method_schema(request)).await?;
        answer
            .schema
            .ok_or_else(|| Error::of_name("INTERNAL", "the answer has no schema".to_owned()))
    }

    /// Events of services, filtered by service, topic and event type (`Gateway.Subscribe`, G10); empty lists stand for
    /// all.
    ///
    /// # Errors
    /// The status of the gateway.
    pub async fn subscribe_events(
        &self,
        filter: SubscribeRequest,
    ) -> Result<Subscription<TopicEventRequest>, Error> {
        let events = self.link.unary(self.gateway().subscribe(filter)).await?;
        Ok(Subscription::new(events))
    }

    /// Publishes an event. [`PublishRequest::metadata`] holds its attributes (`ce-type`, …) and extensions.
    ///
    /// # Errors
    /// The status of the gateway.
    pub async fn publish_event(&self, request: PublishRequest) -> Result<(), Error> {
        let answer = self.link.unary(self.pubsub().publish_event(request)).await?;
        acknowledged(answer.status)
    }

    /// Every event of topics (`Pubsub.Subscribe`) from the time that this returns.
    ///
    /// # Errors
    /// The status of the gateway.
    pub async fn subscribe<T: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<Subscription<PubsubSubscribeResponse>, Error> {
        let topics = topics.into_iter().map(Into::into).collect();
        let request = PubsubSubscribeRequest { topics };
        let events = self.link.unary(self.pubsub().subscribe(request)).await?;
        Ok(Subscription::new(events))
    }

    /// Ends the subscription whose events carry this `subscription_id`.
    ///
    /// # Errors
    /// The status of the gateway; [`Error::NotFound`] for one that it does not know.
    pub async fn unsubscribe(&self, subscription_id: impl Into<String>) -> Result<(), Error> {
        let subscription_id = subscription_id.into();
        let request = UnsubscribeRequest { subscription_id };
        let answer = self.link.unary(self.pubsub().unsubscribe(request)).await?;
        acknowledged(answer.status)
    }

    /// Stores a value and gives its new ETag. The request's `service` is the caller's own name (F7).
    ///
    /// # Errors
    /// The status of the gateway; [`Error::Aborted`] if the request's ETag is not the stored one.
    pub async fn save_state(&self, request: SaveStateRequest) -> Result<String, Error> {
        let answer = self.link.unary(self.state().save_state(request)).await?;
        acknowledged(answer.status)?;
        Ok(answer.etag)
    }

    /// A stored value, if there is one.
    ///
    /// # Errors
    /// The status of the gateway.
    pub async fn get_state(
        &self,
        service: impl Into<String>,
        key: impl Into<String>,
    ) -> Result<Option<Stored>, Error> {
        let request = GetStateRequest {
            service: service.into(),
            key: key.into(),
        };
        let virtufin::GetStateResponse { value, etag, .. } =
            self.link.unary(self.state().get_state(request)).await?;
        Ok((!value.is_empty() || !etag.is_empty()).then_some(Stored { value, etag }))
    }

    /// All registered keys of a service that have a value.
    ///
    /// # Errors
    /// The status of the gateway.
    pub async fn get_all_state(&self, service: impl Into<String>) -> Result<BTreeMap<String, String>, Error> {
        let service = service.into();
        let request = GetAllStateRequest { service };
        let answer = self.link.unary(self.state().get_all_state(request)).await?;
        Ok(answer.values)
    }

    /// Makes keys known to [`Self::get_all_state`] and to the events of changes.
    ///
    /// # Errors
    /// The status of the gateway.
    pub async fn register_keys<K: Into<String>>(
        &self,
        service: impl Into<String>,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<(), Error> {
        let request = RegisterKeysRequest {
            service: service.into(),
            keys: keys.into_iter().map(Into::into).collect(),
        };
        let answer = self.link.unary(self.state().register_keys(request)).await?;
        acknowledged(answer.status)
    }

    /// Removes a value; a key that has none is no error.
    ///
    /// # Errors
    /// The status of the gateway; [`Error::Aborted`] if the request's ETag is not the stored one.
    pub async fn delete_state(&self, request: DeleteStateRequest) -> Result<(), Error> {
        let answer = self.link.unary(self.state().delete_state(request)).await?;
        acknowledged(answer.status)
    }

    /// The backends as they are configured (`Config.ListServices`).
    ///
    /// # Errors
    /// The status of the gateway.
    pub async fn list_config_services(&self) -> Result<Vec<ConfigService>, Error> {
        let request = ListConfigServicesRequest {};
        let answer = self.link.unary(self.config().list_services(request)).await?;
        Ok(answer.services)
    }

    /// A backend as it is configured (`Config.GetService`).
    ///
    /// # Errors
    /// The status of the gateway; [`Error::NotFound`] for one that it does not know.
    pub async fn get_config_service(&self, name: impl Into<String>) -> Result<ConfigService, Error> {
        let request = GetConfigServiceRequest { name: name.into() };
        let answer = self.link.unary(self.config().get_service(request)).await?;
        answer
            .service
            .ok_or_else(|| Error::of_name("INTERNAL", "the answer has no service".to_owned()))
    }
}

/// An answer that carries a status instead of being one.
fn succeeded(success: bool, status: &str, message: String) -> Result<(), Error> {
    if success {
        return Ok(());
    }
    Err(Error::of_name(status, message))
}

fn acknowledged(status: Option<StatusResponse>) -> Result<(), Error> {
    // A service that says nothing more than the gRPC status says that it went well.
    status.map_or(Ok(()), |status| {
        succeeded(status.success, &status.status, status.message)
    })
}
