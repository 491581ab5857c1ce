//! Secrets, configuration, lock, cryptography, bindings and conversation as served to apps.
//!
//! Each block is one service, the place where its HTTP and gRPC surfaces meet: `XService::new(options)`,
//! `endpoints()` for HTTP and `grpc_*` functions for the gRPC server. Around each component call lie the policy of
//! its target and the metrics of its block. What happens behind the components is not known here.

mod bindings;
mod call;
mod configuration;
mod conversation;
mod crypto;
mod lock;
mod secrets;

pub use bindings::{
    AppState, BindingsService, BindingsServiceOptions, Direction, InputBindings, InputBindingsOptions,
    InvokeFailure, InvokeOutcome, NoApp,
};
pub use configuration::{ConfigurationService, ConfigurationServiceOptions, ConfigurationStream};
pub use conversation::{ConversationService, ConversationServiceOptions, Scrubber};
pub use crypto::{CryptoService, CryptoServiceOptions, CryptoStream, SUBTLE_CRYPTO};
pub use lock::{LockPrefix, LockService, LockServiceOptions};
pub use secrets::{SecretsService, SecretsServiceOptions};
