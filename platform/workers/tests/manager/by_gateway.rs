//! The tests with state and events by the gateway (F5).

/// Whether state and events go by the gateway.
pub(crate) const GATEWAY: bool = true;

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
#[allow(dead_code, reason = "processes go by the sidecar")]
mod support;
#[path = "wasm.rs"]
mod wasm;
