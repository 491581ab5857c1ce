//! The error table: every answer of the public APIs that is not a success (wire.md §2; upstream
//! `pkg/messages/predefined.go`, `pkg/api/errors`). Codes, statuses and texts are Dapr's; handlers only name the row.

pub mod actor;
pub mod pubsub;
pub mod scheduler;
pub mod state;
pub mod workflow;

use std::fmt::Display;

use http::StatusCode;
use tonic::Code;

use crate::{ApiError, Category};

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident($($arg:ident),*) => $category:ident $code:literal $http:literal $grpc:ident $text:literal;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name($($arg: impl Display),*) -> ApiError {
                ApiError::new(
                    $code,
                    Category::$category,
                    StatusCode::from_u16($http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                    Code::$grpc,
                    format!($text),
                )
            }
        )*
    };
}

rows! {
    /// A request that makes no sense.
    bad_request(cause) => Common "ERR_BAD_REQUEST" 400 InvalidArgument "invalid request: {cause}";
    /// An API this runtime does not serve here.
    api_unimplemented() => Common "ERR_API_UNIMPLEMENTED" 501 Unimplemented "this API is currently not implemented";
    /// The body could not be read.
    body_read(cause) => Common "ERR_BODY_READ" 400 InvalidArgument "failed to read request body: {cause}";
    /// The body is not what the route expects.
    malformed_request(cause) => Common "ERR_MALFORMED_REQUEST" 400 InvalidArgument "failed deserializing HTTP body: {cause}";
    /// The data field cannot be encoded.
    malformed_request_data(cause) => Common "ERR_MALFORMED_REQUEST_DATA" 500 Internal "can't serialize request data field: {cause}";
    /// A baggage header that is none.
    invalid_baggage(cause) => Common "ERR_MALFORMED_REQUEST" 400 InvalidArgument "invalid baggage header: {cause}";
    /// An answer could not be encoded.
    malformed_response(cause) => Common "ERR_MALFORMED_RESPONSE" 500 Internal "{cause}";
    /// Something of ours failed.
    internal(cause) => Common "ERR_INTERNAL" 500 Internal "{cause}";

    /// Invocation failed.
    direct_invoke(id, cause) => ServiceInvocation "ERR_DIRECT_INVOKE" 500 Internal "failed to invoke, id: {id}, err: {cause}";
    /// No target was named.
    direct_invoke_no_app_id() => ServiceInvocation "ERR_DIRECT_INVOKE" 404 NotFound "failed getting app id either from the URL path or the header dapr-app-id";
    /// Invocation is not ready yet.
    direct_invoke_not_ready() => ServiceInvocation "ERR_DIRECT_INVOKE" 500 Internal "invoke API is not ready";
    /// The sidecar has no app.
    app_channel_nil() => Common "ERR_APP_CHANNEL_NIL" 500 Internal "app channel is not initialized";

    /// Not ready.
    health_not_ready(targets) => Health "ERR_HEALTH_NOT_READY" 500 Internal "dapr is not ready: {targets}";
    /// Not ready for outbound calls.
    outbound_health_not_ready() => Health "ERR_OUTBOUND_HEALTH_NOT_READY" 500 Internal "dapr outbound is not ready";
    /// Asked for the health of another app.
    health_app_id_not_match() => Health "ERR_HEALTH_APPID_NOT_MATCH" 500 Internal "dapr app-id does not match";

    /// No secret store at all.
    secret_store_not_configured() => Secret "ERR_SECRET_STORES_NOT_CONFIGURED" 500 FailedPrecondition "secret store is not configured";
    /// No secret store of that name.
    secret_store_not_found(name) => Secret "ERR_SECRET_STORE_NOT_FOUND" 401 InvalidArgument "failed finding secret store with key {name}";
    /// The scopes deny it.
    secret_permission_denied(key, store) => Secret "ERR_PERMISSION_DENIED" 403 PermissionDenied "access denied by policy to get \"{key}\" from \"{store}\"";
    /// The store failed.
    secret_get(key, store, cause) => Secret "ERR_SECRET_GET" 500 Internal "failed getting secret with key {key} from secret store {store}: {cause}";
    /// The store failed to list.
    bulk_secret_get(store, cause) => Secret "ERR_SECRET_GET" 500 Internal "failed getting secrets from secret store {store}: {cause}";

    /// No crypto component at all.
    crypto_providers_not_configured() => Crypto "ERR_CRYPTO_PROVIDERS_NOT_CONFIGURED" 500 Internal "crypto providers not configured";
    /// No crypto component of that name.
    crypto_provider_not_found(name) => Crypto "ERR_CRYPTO_PROVIDER_NOT_FOUND" 400 InvalidArgument "crypto provider {name} not found";
    /// A key could not be read.
    crypto_get_key(key, cause) => Crypto "ERR_CRYPTO_KEY" 500 Internal "failed to retrieve key {key}: {cause}";
    /// An operation failed.
    crypto_operation(cause) => Crypto "ERR_CRYPTO" 500 Internal "failed to perform operation: {cause}";

    /// No lock store at all.
    lock_stores_not_configured() => Lock "ERR_LOCK_STORE_NOT_CONFIGURED" 500 FailedPrecondition "lock store is not configured";
    /// No resource named.
    lock_resource_id_empty(store) => Common "ERR_MALFORMED_REQUEST" 400 InvalidArgument "ResourceId is empty in lock store {store}";
    /// No owner named.
    lock_owner_empty(store) => Common "ERR_MALFORMED_REQUEST" 400 InvalidArgument "LockOwner is empty in lock store {store}";
    /// No positive time.
    lock_expiry_not_positive(store) => Common "ERR_MALFORMED_REQUEST" 400 InvalidArgument "ExpiryInSeconds is not positive in lock store {store}";
    /// No lock store of that name.
    lock_store_not_found(name) => Lock "ERR_LOCK_STORE_NOT_FOUND" 400 InvalidArgument "lock store {name} not found";
    /// The store failed to lock.
    try_lock_failed(cause) => Lock "ERR_TRY_LOCK" 500 Internal "failed to try acquiring lock: {cause}";
    /// The store failed to unlock.
    unlock_failed(cause) => Lock "ERR_UNLOCK" 500 Internal "failed to release lock: {cause}";

    /// No configuration store at all.
    configuration_stores_not_configured() => Configuration "ERR_CONFIGURATION_STORE_NOT_CONFIGURED" 500 FailedPrecondition "configuration stores not configured";
    /// No configuration store of that name.
    configuration_store_not_found(name) => Configuration "ERR_CONFIGURATION_STORE_NOT_FOUND" 400 InvalidArgument "configuration store {name} not found";
    /// The store failed.
    configuration_get(keys, store, cause) => Configuration "ERR_CONFIGURATION_GET" 500 Internal "failed to get {keys} from Configuration store {store}: {cause}";
    /// Updates cannot reach an app that is not there.
    configuration_no_app_channel() => Common "ERR_APP_CHANNEL_NIL" 500 Internal "app channel is not initialized. cannot subscribe to configuration updates";
    /// The store failed to subscribe.
    configuration_subscribe(keys, store, cause) => Configuration "ERR_CONFIGURATION_SUBSCRIBE" 500 Internal "failed to subscribe {keys} from Configuration store {store}: {cause}";
    /// The subscription could not be ended.
    configuration_unsubscribe(id, cause) => Configuration "ERR_CONFIGURATION_UNSUBSCRIBE" 500 Internal "failed to unsubscribe to configuration request {id}: {cause}";

    /// No conversation component of that name.
    conversation_not_found(name) => Conversation "ERR_CONVERSATION_NOT_FOUND" 400 InvalidArgument "failed finding conversation component {name}";
    /// Parameters that make no sense.
    conversation_invalid_params(name) => Conversation "ERR_CONVERSATION_INVALID_PARMS" 400 InvalidArgument "failed conversing with component {name}: invalid params";
    /// Parameters that make no sense, and why.
    conversation_invalid_params_because(name, cause) => Conversation "ERR_CONVERSATION_INVALID_PARMS" 400 InvalidArgument "failed conversing with component {name}: invalid params: {cause}";
    /// The component failed.
    conversation_invoke(name, cause) => Conversation "ERR_CONVERSATION_INVOKE" 500 Internal "failed conversing with component {name}: {cause}";
    /// Nothing was said.
    conversation_missing_inputs(name) => Conversation "ERR_CONVERSATION_MISSING_INPUTS" 400 InvalidArgument "failed conversing with component {name}: missing inputs in request";

    /// The output binding failed.
    invoke_output_binding(name, cause) => Binding "ERR_INVOKE_OUTPUT_BINDING" 500 Internal "error invoking output binding {name}: {cause}";

    /// Actors need a state store marked for them.
    actor_runtime_not_found() => Actor "ERR_ACTOR_RUNTIME_NOT_FOUND" 500 Internal "the state store is not configured to use the actor runtime. Have you set the - name: actorStateStore value: \"true\" in your state store component file?";
    /// Actors need a placement service.
    actor_no_placement() => Actor "ERR_ACTOR_NO_PLACEMENT" 400 Unavailable "placement service is not configured";
}
