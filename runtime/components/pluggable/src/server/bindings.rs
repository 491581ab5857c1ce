//! A binding of ours as services, one per side.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, future::BoxFuture};
use outrigger_bindings::{Binding, DynInputBinding, DynOutputBinding, Event, EventHandler, InvokeRequest};
use outrigger_component::Error;
use outrigger_wire::dapr::proto::components::v1::{
    self as pb, input_binding_server::InputBinding, output_binding_server::OutputBinding,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{desk::Desk, instances::Instances};
use crate::{
    status::status,
    wire::{from_map, non_empty, to_map},
};

#[derive(Debug)]
pub(super) struct Input {
    instances: Instances<Binding>,
    ending: CancellationToken,
}

#[derive(Debug)]
pub(super) struct Output {
    instances: Instances<Binding>,
}

type Events = Desk<pb::ReadResponse, Result<Bytes, Error>>;

impl Input {
    pub(super) fn new(instances: Instances<Binding>, ending: CancellationToken) -> Self {
        Self { instances, ending }
    }

    fn of<T>(&self, request: &Request<T>) -> Result<Arc<dyn DynInputBinding>, Status> {
        let input = self.instances.of(request)?.input.clone();
        input.ok_or_else(|| Status::unimplemented("the binding does not read"))
    }
}

impl Output {
    pub(super) fn new(instances: Instances<Binding>) -> Self {
        Self { instances }
    }

    fn of<T>(&self, request: &Request<T>) -> Result<Arc<dyn DynOutputBinding>, Status> {
        let output = self.instances.of(request)?.output.clone();
        output.ok_or_else(|| Status::unimplemented("the binding cannot be called"))
    }
}

/// Hands events to the sidecar.
struct Counter(Arc<Events>);

impl EventHandler for Counter {
    fn handle(&self, event: Event) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        Box::pin(async move {
            let asked = self.0.ask(|message_id| pb::ReadResponse {
                data: event.data,
                metadata: to_map(&event.metadata),
                content_type: event.content_type.unwrap_or_default(),
                message_id,
            });
            match asked.await {
                Some(Ok(answer)) => Ok((!answer.is_empty()).then_some(answer)),
                Some(Err(error)) => Err(error),
                None => Err(Error::unavailable("the sidecar went away")),
            }
        })
    }
}

fn settle(desk: &Events, answer: pb::ReadRequest) {
    let outcome = match answer.response_error {
        None => Ok(answer.response_data),
        Some(error) => Err(Error::internal(error.message)),
    };
    desk.settle(&answer.message_id, outcome);
}

#[tonic::async_trait]
impl InputBinding for Input {
    type ReadStream = Pin<Box<dyn Stream<Item = Result<pb::ReadResponse, Status>> + Send>>;

    async fn init(
        &self,
        request: Request<pb::InputBindingInitRequest>,
    ) -> Result<Response<pb::InputBindingInitResponse>, Status> {
        let (caller, _, request) = request.into_parts();
        self.instances.init(&caller, request.metadata).await?;
        Ok(Response::new(pb::InputBindingInitResponse {}))
    }

    async fn read(
        &self,
        request: Request<Streaming<pb::ReadRequest>>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let input = self.of(&request)?;
        let mut answers = request.into_inner();
        let (desk, stream) = Desk::new();
        let desk = Arc::new(desk);
        let reading = input
            .read(Arc::new(Counter(Arc::clone(&desk))))
            .await
            .map_err(|error| status(&error))?;
        let (ending, over) = (self.ending.clone(), CancellationToken::new());
        let ended = over.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    answer = answers.message() => match answer {
                        Ok(Some(answer)) => settle(&desk, answer),
                        _ => break,
                    },
                    () = ending.cancelled() => {
                        let closing = reading.close();
                        tokio::pin!(closing);
                        loop {
                            tokio::select! {
                                () = &mut closing => break,
                                answer = answers.message() => match answer {
                                    Ok(Some(answer)) => settle(&desk, answer),
                                    _ => break,
                                },
                            }
                        }
                        break;
                    }
                }
            }
            desk.abandon();
            reading.close().await;
            over.cancel();
        });
        let stream = ReceiverStream::new(stream).take_until(ended.cancelled_owned());
        Ok(Response::new(Box::pin(stream)))
    }

    async fn ping(&self, request: Request<pb::PingRequest>) -> Result<Response<pb::PingResponse>, Status> {
        // Before the first Init there is only the process to answer for.
        if let Ok(input) = self.of(&request) {
            input.ping().await.map_err(|error| status(&error))?;
        }
        Ok(Response::new(pb::PingResponse {}))
    }
}

#[tonic::async_trait]
impl OutputBinding for Output {
    async fn init(
        &self,
        request: Request<pb::OutputBindingInitRequest>,
    ) -> Result<Response<pb::OutputBindingInitResponse>, Status> {
        let (caller, _, request) = request.into_parts();
        self.instances.init(&caller, request.metadata).await?;
        Ok(Response::new(pb::OutputBindingInitResponse {}))
    }

    async fn invoke(
        &self,
        request: Request<pb::InvokeRequest>,
    ) -> Result<Response<pb::InvokeResponse>, Status> {
        let output = self.of(&request)?;
        let request = request.into_inner();
        let asked = InvokeRequest {
            data: request.data,
            operation: request.operation,
            metadata: from_map(request.metadata),
        };
        let answer = output
            .invoke(asked)
            .await
            .map_err(|failed| status(&failed.error))?;
        Ok(Response::new(answer.map_or_else(
            pb::InvokeResponse::default,
            |answer| pb::InvokeResponse {
                data: answer.data.unwrap_or_default(),
                metadata: to_map(&answer.metadata),
                content_type: answer.content_type.and_then(non_empty).unwrap_or_default(),
            },
        )))
    }

    async fn list_operations(
        &self,
        request: Request<pb::ListOperationsRequest>,
    ) -> Result<Response<pb::ListOperationsResponse>, Status> {
        let output = self.of(&request)?;
        let operations = output.operations().into_iter().map(str::to_owned).collect();
        Ok(Response::new(pb::ListOperationsResponse { operations }))
    }

    async fn ping(&self, request: Request<pb::PingRequest>) -> Result<Response<pb::PingResponse>, Status> {
        // Before the first Init there is only the process to answer for.
        if let Ok(output) = self.of(&request) {
            output.ping().await.map_err(|error| status(&error))?;
        }
        Ok(Response::new(pb::PingResponse {}))
    }
}
