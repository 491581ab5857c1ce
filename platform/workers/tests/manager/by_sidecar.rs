//! The tests with state and events by the sidecar.

/// Whether state and events go by the gateway.
pub(crate) const GATEWAY: bool = false;

#[path = "code.rs"]
mod code;
#[path = "groups.rs"]
mod groups;
#[path = "lifecycle.rs"]
mod lifecycle;
#[path = "processing.rs"]
mod processing;
#[path = "recovery.rs"]
mod recovery;
#[path = "support.rs"]
pub(crate) mod support;
#[path = "wasm.rs"]
mod wasm;
