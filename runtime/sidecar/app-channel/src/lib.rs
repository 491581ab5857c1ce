//! The channel to the app: HTTP and gRPC, concurrency, tokens, health probes, configuration.
//!
//! Everything that leaves the sidecar towards its own app goes through [`AppChannel`], so that the concurrency limit
//! (A1.5), the app's API token (B5) and the app middleware pipeline (A9.3) hold for all of it. What is sent where is
//! the callers' business: invocation, pub/sub, bindings, configuration, jobs.

mod app_config;
mod channel;
mod connector;
mod health;
mod lanes;
mod options;

pub use app_config::{AppConfig, EntityConfig, Reentrancy};
pub use channel::{AppChannel, AppError, GrpcApp, GrpcService};
pub use connector::{ConnectError, Connection, TcpConnector, tls_without_verification};
pub use health::{AppHealth, HealthOptions, HealthStatus};
pub use options::{AppChannelOptions, Protocol};
