//! One sidecar as a value: options, wiring, life cycle, health, metadata, shutdown.
//!
//! [`Sidecar::start`] takes everything a sidecar depends on as values (design D13): options, environment, folders.
//! Nothing here reads the process' environment, folder or arguments, so several sidecars can live in one process.

mod assembly;
mod audit;
mod components;
mod control;
mod dependents;
mod documents;
mod front;
mod health;
mod host;
mod inventory;
mod lifecycle;
mod listeners;
mod local_time;
mod mcp;
mod metadata;
mod options;
mod pipelines;
mod policies;
mod profile;
mod pushes;
mod reload;
mod resolution;
mod sidecar;
mod telemetry;

pub use assembly::AssemblyError;
pub use health::{HealthApi, Readiness};
pub use listeners::Addresses;
pub use metadata::{ComponentInfo, Inventory, MetadataApi, RUNTIME_VERSION};
pub use options::{
    AppOptions, DEFAULT_GRACE, DEFAULT_MAX_BODY_SIZE, DEFAULT_READ_BUFFER_SIZE, DEFAULT_RECONCILE,
    MetricsListen, Mode, SidecarOptions,
};
pub use sidecar::{Exit, Sidecar};
