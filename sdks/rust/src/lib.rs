//! Typed clients of the platform services (requirement E2.2).

pub use outrigger_platform_wire::{API_VERSION, virtufin};
