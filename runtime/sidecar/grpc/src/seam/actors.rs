//! Actors.

use futures::stream::BoxStream;
use outrigger_sidecar_api::{ApiError, errors};
use outrigger_wire::dapr::proto::runtime::v1::{
    ExecuteActorStateTransactionRequest, GetActorReminderRequest, GetActorReminderResponse,
    GetActorStateRequest, GetActorStateResponse, InvokeActorRequest, InvokeActorResponse,
    ListActorRemindersRequest, ListActorRemindersResponse, RegisterActorReminderRequest,
    RegisterActorTimerRequest, SubscribeActorEventsRequestAlpha1, SubscribeActorEventsResponseAlpha1,
    UnregisterActorReminderRequest, UnregisterActorRemindersByTypeRequest,
    UnregisterActorRemindersByTypeResponse, UnregisterActorTimerRequest,
};
use tonic::{Status, Streaming};

/// What an app gets on its actor callback stream.
pub type ActorEvents = BoxStream<'static, Result<SubscribeActorEventsResponseAlpha1, Status>>;

/// Prefix of the actor types that workflows are made of.
const RESERVED_PREFIX: &str = "dapr.internal.";

/// The actor runtime, as the gRPC API asks it. Checks of types and names are the implementation's.
#[tonic::async_trait]
#[allow(missing_docs, reason = "named by the methods of the API")]
pub trait ActorsApi: Send + Sync + 'static {
    async fn register_timer(&self, request: RegisterActorTimerRequest) -> Result<(), ApiError>;
    async fn unregister_timer(&self, request: UnregisterActorTimerRequest) -> Result<(), ApiError>;
    async fn register_reminder(&self, request: RegisterActorReminderRequest) -> Result<(), ApiError>;
    async fn unregister_reminder(&self, request: UnregisterActorReminderRequest) -> Result<(), ApiError>;
    async fn unregister_reminders_by_type(
        &self,
        request: UnregisterActorRemindersByTypeRequest,
    ) -> Result<UnregisterActorRemindersByTypeResponse, ApiError>;
    async fn list_reminders(
        &self,
        request: ListActorRemindersRequest,
    ) -> Result<ListActorRemindersResponse, ApiError>;
    async fn get_reminder(
        &self,
        request: GetActorReminderRequest,
    ) -> Result<GetActorReminderResponse, ApiError>;
    async fn get_state(&self, request: GetActorStateRequest) -> Result<GetActorStateResponse, ApiError>;
    async fn state_transaction(&self, request: ExecuteActorStateTransactionRequest) -> Result<(), ApiError>;
    async fn invoke(&self, request: InvokeActorRequest) -> Result<InvokeActorResponse, ApiError>;
    /// `SubscribeActorEventsAlpha1`; the first message of the request registers the app's types.
    async fn subscribe_events(
        &self,
        request: Streaming<SubscribeActorEventsRequestAlpha1>,
    ) -> Result<ActorEvents, Status>;
}

/// Refuses the types that the workflow runtime owns (upstream `RejectInternalActorType`).
///
/// # Errors
/// `ERR_ACTOR_TYPE_RESERVED`.
pub fn check_actor_type(actor_type: &str) -> Result<(), ApiError> {
    if actor_type.starts_with(RESERVED_PREFIX) {
        return Err(errors::actor::type_reserved(actor_type));
    }
    Ok(())
}

/// Refuses names that could change the path they become part of (upstream `method.ValidateName`).
///
/// # Errors
/// The text that follows `invalid request: `.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.contains(['#', '?', '\0', '/', '\\']) {
        return Err(format!("name contains forbidden character: {name:?}"));
    }
    if let Some(at) = name.bytes().position(|byte| byte < 0x20 || byte == 0x7f) {
        return Err(format!(
            "name contains control character at position {at}: {name:?}"
        ));
    }
    if matches!(name, "." | "..") {
        return Err(format!("name is a path traversal sequence: {name:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_their_segment_are_refused() {
        for name in ["a/b", "a\\b", "a#", "a?b", "\0", ".", "..", "a\u{1}", "\u{7f}"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["", "a", "...", "a.b", "ü", "a%2fb"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
        assert_eq!(
            check_name("a\tb").unwrap_err(),
            "name contains control character at position 1: \"a\\tb\""
        );
    }

    #[test]
    fn types_of_the_workflow_runtime_are_reserved() {
        let error = check_actor_type("dapr.internal.default.app.workflow").unwrap_err();
        assert_eq!(error.http_status(), 403);
        assert!(check_actor_type("thermostat").is_ok());
    }
}
