//! Bindings in another process (upstream `pkg/components/bindings/{input,output}_pluggable.go`). Both sides are
//! services of their own, with a connection and an Init each.

use std::{path::PathBuf, sync::Arc};

use futures::future::BoxFuture;
use outrigger_bindings::{
    DynInputBinding, DynOutputBinding, Event, EventHandler, InputBinding, InvokeError, InvokeRequest,
    InvokeResponse, OutputBinding, Reading,
};
use outrigger_component::{Error, Spec};
use outrigger_wire::dapr::proto::components::v1::{
    self as pb, input_binding_client::InputBindingClient, output_binding_client::OutputBindingClient,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{
    link::{Link, Wire},
    pubsub::properties,
    pull::{Feed, Pulling},
};
use crate::{
    MAX_MESSAGE,
    status::error,
    wire::{from_map, non_empty, to_map},
};

/// Most events of one binding in the app's hands (upstream knows no bound).
const EVENTS: usize = 256;

#[derive(Debug)]
struct PluggableOutput {
    link: Arc<Link>,
    operations: Vec<String>,
}

#[derive(Debug)]
struct PluggableInput {
    name: String,
    link: Arc<Link>,
}

fn output_client(wire: Wire) -> OutputBindingClient<Wire> {
    OutputBindingClient::new(wire).max_decoding_message_size(MAX_MESSAGE)
}

fn input_client(wire: Wire) -> InputBindingClient<Wire> {
    InputBindingClient::new(wire).max_decoding_message_size(MAX_MESSAGE)
}

/// Opens the output binding that listens at the socket.
pub(crate) async fn open_output(socket: PathBuf, spec: &Spec) -> Result<Arc<dyn DynOutputBinding>, Error> {
    let link = Link::open(socket, spec, properties(spec), |wire, metadata| {
        Box::pin(async move {
            let request = pb::OutputBindingInitRequest {
                metadata: Some(metadata),
            };
            output_client(wire).init(request).await.map(|_| ())
        })
    })
    .await?;
    let operations = output_client(link.wire().await?)
        .list_operations(pb::ListOperationsRequest {})
        .await
        .map_err(|status| error(&status))?
        .into_inner()
        .operations;
    Ok(Arc::new(PluggableOutput { link, operations }))
}

/// Opens the input binding that listens at the socket.
pub(crate) async fn open_input(socket: PathBuf, spec: &Spec) -> Result<Arc<dyn DynInputBinding>, Error> {
    let link = Link::open(socket, spec, properties(spec), |wire, metadata| {
        Box::pin(async move {
            let request = pb::InputBindingInitRequest {
                metadata: Some(metadata),
            };
            input_client(wire).init(request).await.map(|_| ())
        })
    })
    .await?;
    Ok(Arc::new(PluggableInput {
        name: spec.name.to_string(),
        link,
    }))
}

impl OutputBinding for PluggableOutput {
    fn operations(&self) -> Vec<&str> {
        self.operations.iter().map(String::as_str).collect()
    }

    async fn invoke(&self, request: InvokeRequest) -> Result<Option<InvokeResponse>, InvokeError> {
        let request = pb::InvokeRequest {
            data: request.data,
            metadata: to_map(&request.metadata),
            operation: request.operation,
        };
        let answer = output_client(self.link.wire().await?)
            .invoke(request)
            .await
            .map_err(|status| error(&status))?
            .into_inner();
        Ok(Some(InvokeResponse {
            data: (!answer.data.is_empty()).then_some(answer.data),
            metadata: from_map(answer.metadata),
            content_type: non_empty(answer.content_type),
        }))
    }

    async fn ping(&self) -> Result<(), Error> {
        let answer = output_client(self.link.wire().await?)
            .ping(pb::PingRequest {})
            .await;
        answer.map(|_| ()).map_err(|status| error(&status))
    }

    async fn close(&self) -> Result<(), Error> {
        self.link.close();
        Ok(())
    }
}

impl InputBinding for PluggableInput {
    async fn read(&self, handler: Arc<dyn EventHandler>) -> Result<Box<dyn Reading>, Error> {
        let feed = Events {
            name: format!("the reading from binding {}", self.name),
            handler,
        };
        let pulling = Pulling::start(Arc::clone(&self.link), feed).await?;
        Ok(Box::new(Running(pulling)))
    }

    async fn ping(&self) -> Result<(), Error> {
        let answer = input_client(self.link.wire().await?)
            .ping(pb::PingRequest {})
            .await;
        answer.map(|_| ()).map_err(|status| error(&status))
    }

    async fn close(&self) -> Result<(), Error> {
        self.link.close();
        Ok(())
    }
}

struct Running(Pulling);

impl Reading for Running {
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.finish())
    }
}

struct Events {
    name: String,
    handler: Arc<dyn EventHandler>,
}

impl Feed for Events {
    type In = pb::ReadResponse;
    type Out = pb::ReadRequest;

    fn open(
        &self,
        wire: Wire,
        answers: ReceiverStream<Self::Out>,
    ) -> BoxFuture<'static, Result<Response<Streaming<Self::In>>, Status>> {
        Box::pin(async move { input_client(wire).read(answers).await })
    }

    fn greeting(&self) -> Option<Self::Out> {
        None
    }

    fn handle(&self, message: Self::In) -> BoxFuture<'_, Option<Self::Out>> {
        Box::pin(async move {
            let event = Event {
                data: message.data,
                metadata: from_map(message.metadata),
                content_type: non_empty(message.content_type),
            };
            let (response_data, response_error) = match self.handler.handle(event).await {
                Ok(answer) => (answer.unwrap_or_default(), None),
                Err(error) => {
                    let message = error.chain();
                    (Default::default(), Some(pb::AckResponseError { message }))
                }
            };
            Some(pb::ReadRequest {
                response_data,
                message_id: message.message_id,
                response_error,
            })
        })
    }

    fn refuse(&self, message: Self::In) -> Option<Self::Out> {
        Some(pb::ReadRequest {
            message_id: message.message_id,
            response_error: Some(pb::AckResponseError {
                message: "input binding is closed".to_owned(),
            }),
            ..Self::Out::default()
        })
    }

    fn at_once(&self) -> usize {
        EVENTS
    }

    fn name(&self) -> &str {
        &self.name
    }
}
