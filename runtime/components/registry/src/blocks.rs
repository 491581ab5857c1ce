//! The lists, one per block. The order is that of `types.txt` and has no meaning.

use std::sync::Arc;

use outrigger_bindings::Binding;
use outrigger_component::Registration;
use outrigger_configuration::DynConfigurationStore;
use outrigger_conversation::DynConversation;
use outrigger_crypto::DynCryptoProvider;
use outrigger_lock::DynLockStore;
use outrigger_middleware::{Middleware, SharedMiddleware};
use outrigger_name_resolution::DynResolver;
use outrigger_pubsub::DynPubSub;
use outrigger_secrets::DynSecretStore;
use outrigger_state::DynStateStore;

/// State stores.
#[must_use]
pub fn state() -> Vec<Registration<dyn DynStateStore>> {
    vec![
        outrigger_state::memory_registration(),
        #[cfg(feature = "sqlite")]
        outrigger_components_sqlite::state::registration(),
        #[cfg(feature = "redis")]
        outrigger_components_redis::state::registration(),
        #[cfg(feature = "postgres")]
        outrigger_components_postgres::state::registration(),
    ]
}

/// Message brokers.
#[must_use]
pub fn pubsub() -> Vec<Registration<dyn DynPubSub>> {
    vec![
        outrigger_pubsub::memory_registration(),
        #[cfg(feature = "sqlite")]
        outrigger_components_sqlite::pubsub::registration(),
        #[cfg(feature = "redis")]
        outrigger_components_redis::pubsub::registration(),
        #[cfg(feature = "rabbitmq")]
        outrigger_components_rabbitmq::pubsub::RABBITMQ,
    ]
}

/// Input and output bindings.
#[must_use]
pub fn bindings() -> Vec<Registration<Binding>> {
    vec![
        #[cfg(feature = "bindings")]
        outrigger_components_bindings::CRON,
        #[cfg(feature = "bindings")]
        outrigger_components_bindings::HTTP,
        #[cfg(feature = "bindings")]
        outrigger_components_bindings::LOCAL_STORAGE,
        #[cfg(feature = "redis")]
        outrigger_components_redis::bindings::registration(),
    ]
}

/// Which sides a binding type has, input and output. Only an opened instance knows for sure, but who offers the type
/// to others must say before; a type that is not named here has both.
#[must_use]
pub fn binding_sides(type_name: &str) -> (bool, bool) {
    match type_name.to_ascii_lowercase().as_str() {
        "bindings.cron" => (true, false),
        "bindings.http"
        | "bindings.localstorage"
        | "bindings.redis"
        | "bindings.postgresql"
        | "bindings.postgres" => (false, true),
        _ => (true, true),
    }
}

/// Secret stores.
#[must_use]
pub fn secret_stores() -> Vec<Registration<dyn DynSecretStore>> {
    vec![
        outrigger_secrets::memory_registration(),
        #[cfg(feature = "secretstores")]
        outrigger_components_secretstores::FILE,
        #[cfg(feature = "secretstores")]
        outrigger_components_secretstores::ENV,
        #[cfg(feature = "secretstores")]
        outrigger_components_secretstores::VAULT,
    ]
}

/// Configuration stores.
#[must_use]
pub fn configuration() -> Vec<Registration<dyn DynConfigurationStore>> {
    vec![
        outrigger_configuration::memory_registration(),
        #[cfg(feature = "sqlite")]
        outrigger_components_sqlite::configuration::registration(),
        #[cfg(feature = "redis")]
        outrigger_components_redis::configuration::registration(),
        #[cfg(feature = "postgres")]
        outrigger_components_postgres::configuration::registration(),
    ]
}

/// Locks.
#[must_use]
pub fn lock() -> Vec<Registration<dyn DynLockStore>> {
    vec![
        outrigger_lock::memory_registration(),
        #[cfg(feature = "sqlite")]
        outrigger_components_sqlite::lock::registration(),
        #[cfg(feature = "redis")]
        outrigger_components_redis::lock::registration(),
    ]
}

/// Cryptography providers.
#[must_use]
pub fn crypto() -> Vec<Registration<dyn DynCryptoProvider>> {
    vec![
        #[cfg(feature = "crypto")]
        outrigger_components_crypto::LOCAL_STORAGE,
        #[cfg(feature = "crypto")]
        outrigger_components_crypto::JWKS,
    ]
}

/// Language models.
#[must_use]
pub fn conversation() -> Vec<Registration<dyn DynConversation>> {
    vec![
        #[cfg(feature = "conversation")]
        outrigger_components_conversation::ECHO,
    ]
}

/// HTTP middleware.
#[must_use]
pub fn middleware() -> Vec<Registration<dyn Middleware>> {
    vec![
        #[cfg(feature = "middleware")]
        outrigger_components_middleware::UPPERCASE,
        #[cfg(feature = "middleware")]
        outrigger_components_middleware::ROUTER_ALIAS,
        #[cfg(feature = "middleware")]
        outrigger_components_middleware::BEARER,
        #[cfg(all(unix, feature = "middleware"))]
        outrigger_components_middleware::EXTERNAL,
        #[cfg(feature = "middleware")]
        outrigger_components_middleware::OAUTH2,
        #[cfg(feature = "middleware")]
        outrigger_components_middleware::CLIENT_CREDENTIALS,
        #[cfg(feature = "middleware")]
        outrigger_components_middleware::OPA,
        #[cfg(feature = "middleware")]
        outrigger_components_middleware::RATE_LIMIT,
        #[cfg(feature = "middleware")]
        outrigger_components_middleware::ROUTER_CHECKER,
        #[cfg(feature = "middleware")]
        outrigger_components_middleware::VALIDATOR,
        #[cfg(feature = "wasm")]
        outrigger_components_middleware::WASM,
    ]
}

/// A handler that a Configuration can name without there being a component of that name: only
/// `middleware.http.validator`, which is ours and does something useful without metadata (A9.6).
#[must_use]
pub fn built_in_middleware(type_name: &str, name: &str) -> Option<SharedMiddleware> {
    #[cfg(feature = "middleware")]
    if type_name == "middleware.http.validator" {
        return Some(Arc::new(outrigger_components_middleware::Validator::bare(name)));
    }
    let _ = (type_name, name);
    None
}

/// Name resolvers. A Configuration names them without the prefix (`mdns`); see
/// [`Category::type_name`](crate::Category::type_name).
#[must_use]
pub fn name_resolution() -> Vec<Registration<dyn DynResolver>> {
    vec![
        #[cfg(feature = "name-resolution")]
        crate::resolvers::MDNS,
        #[cfg(feature = "name-resolution")]
        outrigger_components_name_resolution::CONSUL,
        #[cfg(feature = "name-resolution")]
        outrigger_components_name_resolution::DNS,
        #[cfg(feature = "name-resolution")]
        outrigger_components_name_resolution::NAME_FORMAT,
        #[cfg(all(unix, feature = "name-resolution"))]
        crate::resolvers::REGISTRY,
        #[cfg(feature = "sqlite")]
        outrigger_components_sqlite::name_resolution::registration(),
    ]
}
