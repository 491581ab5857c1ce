//! The state building block as served to apps: key prefixes, encryption at rest, HTTP and gRPC handlers, outbox hook.
//!
//! [`StateService`] is the one place where both surfaces meet: requests become operations of the block, with the
//! app's key prefix (A3.7), encryption (A3.9), the component's resiliency policy and metrics laid around them.

mod batch;
mod encryption;
mod go_value;
mod grpc;
mod http;
mod key_prefix;
mod outbox;
mod query;
mod service;

pub use encryption::{EncryptionKeys, NamedKey};
pub use key_prefix::{KeyPrefix, original_key};
pub use outbox::{Outbox, Prepared, TraceInfo};
pub use service::{StateService, StateServiceOptions, StoreSettings};
