//! Typed clients of the platform services (requirement E2.2): [`gateway`], [`workmanager`], [`websocketmanager`].
//!
//! Three layers, as in the packages of the other languages (E2.10): generated messages and stubs ([`virtufin`]), the
//! clients here with a method for every call of a service, and calls by name through the gateway
//! ([`gateway::GatewayClient::service`]).
//!
//! ```no_run
//! # async fn run() -> Result<(), outrigger_platform_client::Error> {
//! use outrigger_platform_client::{Options, gateway::GatewayClient};
//!
//! let gateway = GatewayClient::new(&Options::gateway())?;
//! for service in gateway.list_services().await? {
//!     println!("{service}: {} methods", gateway.list_methods(&service).await?.len());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A client is cheap to clone and connects when it is first used; a lost connection is made anew by the next call. Every
//! call carries the version of the contract, and a service that speaks another one answers with
//! [`Error::ApiVersionMismatch`] (E2.7). No call is repeated here: the sidecars do that.
//!
//! Cancel-safety: a dropped future cancels its call. The service may have carried it out all the same.

mod error;
pub mod gateway;
mod link;
mod options;
mod subscription;
mod tags;
pub mod websocketmanager;
pub mod workmanager;

pub use error::{Error, Failure, Violation};
pub use options::Options;
pub use outrigger_platform_wire::{API_VERSION, API_VERSION_HEADER, io, virtufin};
pub use subscription::Subscription;
