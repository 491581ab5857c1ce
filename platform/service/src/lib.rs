//! What the platform services share (requirements F1, F5, F7, E1.8, E1.9, E2.7, Z1).
//!
//! - [`host`] runs a service: settings, telemetry, an HTTP and a gRPC server, recovery before readiness, a graceful
//!   end.
//! - [`backend`] is state and events by the sidecar, or by the gateway (`PLATFORM_BACKEND`); a service does not see
//!   which.
//! - [`status`] makes gRPC errors with a reason that programs can read.

pub mod backend;
pub mod host;
pub mod server;
pub mod settings;
pub mod status;

pub use backend::{Backend, BackendError, Deliveries, Delivery, Expect, Stored};
pub use host::{Context, Service, run};
pub use settings::Definition;
