//! Actors without a placement service.

use std::{fmt, sync::Arc};

use futures::{StreamExt as _, future, stream};
use http::{Method, Response};
use outrigger_sidecar_api::{ApiError, ApiRequest, Body, Endpoint, Group, errors, handler};
use outrigger_wire::dapr::proto::runtime::v1::{
    ExecuteActorStateTransactionRequest, GetActorReminderRequest, GetActorReminderResponse,
    GetActorStateRequest, GetActorStateResponse, InvokeActorRequest, InvokeActorResponse,
    ListActorRemindersRequest, ListActorRemindersResponse, RegisterActorReminderRequest,
    RegisterActorTimerRequest, SubscribeActorEventsRequestAlpha1, SubscribeActorEventsResponseAlpha1,
    SubscribeActorEventsResponseInitialAlpha1, UnregisterActorReminderRequest,
    UnregisterActorRemindersByTypeRequest, UnregisterActorRemindersByTypeResponse,
    UnregisterActorTimerRequest, subscribe_actor_events_request_alpha1::RequestType,
    subscribe_actor_events_response_alpha1::ResponseType,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::{ActorEvents, ActorsApi, check_actor_type, check_name};

/// Whether the app may open an actor callback stream: with a gRPC app channel or none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorStreams {
    /// It may. Nothing will ever come through.
    Accepted,
    /// The app channel speaks HTTP.
    Refused,
}

/// No actors.
#[derive(Clone)]
pub struct AbsentActors {
    streams: ActorStreams,
    shutdown: CancellationToken,
}

impl fmt::Debug for AbsentActors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbsentActors")
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

impl AbsentActors {
    /// Callback streams end at `shutdown`.
    #[must_use]
    pub fn new(streams: ActorStreams, shutdown: CancellationToken) -> Self {
        Self { streams, shutdown }
    }
}

/// The answer to all that passes the check of its type.
fn refuse<T>(actor_type: &str) -> Result<T, ApiError> {
    check_actor_type(actor_type)?;
    Err(errors::actor_no_placement())
}

#[tonic::async_trait]
impl ActorsApi for AbsentActors {
    async fn register_timer(&self, request: RegisterActorTimerRequest) -> Result<(), ApiError> {
        refuse(&request.actor_type)
    }

    async fn unregister_timer(&self, request: UnregisterActorTimerRequest) -> Result<(), ApiError> {
        refuse(&request.actor_type)
    }

    async fn register_reminder(&self, request: RegisterActorReminderRequest) -> Result<(), ApiError> {
        refuse(&request.actor_type)
    }

    async fn unregister_reminder(&self, request: UnregisterActorReminderRequest) -> Result<(), ApiError> {
        refuse(&request.actor_type)
    }

    async fn unregister_reminders_by_type(
        &self,
        request: UnregisterActorRemindersByTypeRequest,
    ) -> Result<UnregisterActorRemindersByTypeResponse, ApiError> {
        refuse(&request.actor_type)
    }

    async fn list_reminders(
        &self,
        request: ListActorRemindersRequest,
    ) -> Result<ListActorRemindersResponse, ApiError> {
        refuse(&request.actor_type)
    }

    async fn get_reminder(
        &self,
        request: GetActorReminderRequest,
    ) -> Result<GetActorReminderResponse, ApiError> {
        refuse(&request.actor_type)
    }

    async fn get_state(&self, request: GetActorStateRequest) -> Result<GetActorStateResponse, ApiError> {
        refuse(&request.actor_type)
    }

    async fn state_transaction(&self, request: ExecuteActorStateTransactionRequest) -> Result<(), ApiError> {
        refuse(&request.actor_type)
    }

    async fn invoke(&self, _: InvokeActorRequest) -> Result<InvokeActorResponse, ApiError> {
        // Workflow types are not reserved here: policies judge calls of theirs.
        Err(errors::actor_no_placement())
    }

    async fn subscribe_events(
        &self,
        mut request: Streaming<SubscribeActorEventsRequestAlpha1>,
    ) -> Result<ActorEvents, Status> {
        if self.streams == ActorStreams::Refused {
            return Err(Status::failed_precondition(
                "actor callback streaming requires a gRPC app channel",
            ));
        }
        let first = tokio::select! {
            () = self.shutdown.cancelled() => return Ok(stream::empty().boxed()),
            first = request.message() => first?,
        };
        let Some(first) = first else {
            return Ok(stream::empty().boxed());
        };
        if !matches!(first.request_type, Some(RequestType::InitialRequest(_))) {
            return Err(Status::invalid_argument(
                "first message must be SubscribeActorEventsRequestInitialAlpha1",
            ));
        }
        let registered = SubscribeActorEventsResponseAlpha1 {
            response_type: Some(ResponseType::InitialResponse(
                SubscribeActorEventsResponseInitialAlpha1 {},
            )),
        };
        // What the app says from here on answers nothing; the stream lasts as long as the app keeps it.
        let silence = request.filter_map(|message| future::ready(message.err().map(Err)));
        Ok(stream::once(future::ready(Ok(registered)))
            .chain(silence)
            .take_until(self.shutdown.clone().cancelled_owned())
            .boxed())
    }
}

/// The HTTP endpoints.
pub(super) fn endpoints() -> Vec<Endpoint> {
    const GET: &[Method] = &[Method::GET];
    const WRITE: &[Method] = &[Method::POST, Method::PUT];
    const DELETE: &[Method] = &[Method::DELETE];
    const CALL: &[Method] = &[Method::GET, Method::POST, Method::DELETE, Method::PUT];
    const GROUP: Group = Group {
        name: "actors",
        version: "v1",
    };
    let nothing = Arc::new(());
    let route = |methods, route, name, handler| Endpoint::new(methods, "v1.0", route, GROUP, name, handler);
    let with_body = || handler(&nothing, |_, request| reminder_or_timer(request));
    let without = || handler(&nothing, |_, request| by_type(request));
    const REMINDER: &str = "actors/{actorType}/{actorId}/reminders/{name}";
    const TIMER: &str = "actors/{actorType}/{actorId}/timers/{name}";
    vec![
        route(
            WRITE,
            "actors/{actorType}/{actorId}/state",
            "ExecuteActorStateTransaction",
            handler(&nothing, |_, request| transaction(request)),
        ),
        route(
            CALL,
            "actors/{actorType}/{actorId}/method/{method}",
            "InvokeActor",
            handler(&nothing, |_, _| future::ready(Err(errors::actor_no_placement()))),
        ),
        route(
            GET,
            "actors/{actorType}/{actorId}/state/{key}",
            "GetActorState",
            without(),
        ),
        route(WRITE, REMINDER, "RegisterActorReminder", with_body()),
        route(WRITE, TIMER, "RegisterActorTimer", with_body()),
        route(DELETE, REMINDER, "UnregisterActorReminder", without()),
        route(DELETE, TIMER, "UnregisterActorTimer", without()),
        route(GET, REMINDER, "GetActorReminder", without()),
    ]
}

async fn by_type(request: ApiRequest) -> Result<Response<Body>, ApiError> {
    refuse(request.param("actorType"))
}

async fn reminder_or_timer(mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
    check_actor_type(request.param("actorType"))?;
    let (Value::Object(_) | Value::Null) = document(&mut request).await? else {
        return Err(errors::malformed_request("the body is not a JSON object"));
    };
    check_name(request.param("name")).map_err(errors::bad_request)?;
    Err(errors::actor_no_placement())
}

async fn transaction(mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
    check_actor_type(request.param("actorType"))?;
    let (Value::Array(_) | Value::Null) = document(&mut request).await? else {
        return Err(errors::malformed_request("the body is not a JSON array"));
    };
    Err(errors::actor_no_placement())
}

/// The first JSON value of the body; what follows it is not looked at, as by Go's decoder.
async fn document(request: &mut ApiRequest) -> Result<Value, ApiError> {
    let body = request.bytes().await?;
    match serde_json::Deserializer::from_slice(&body)
        .into_iter::<Value>()
        .next()
    {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) if error.is_eof() => Err(errors::malformed_request("unexpected EOF")),
        Some(Err(error)) => Err(errors::malformed_request(error)),
        None => Err(errors::malformed_request("EOF")),
    }
}
