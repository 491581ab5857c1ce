//! The worker manager: user code that turns events into events (requirements H1, H3 to H5, H7).
//!
//! A *worker* is code, a topic it reads, and perhaps a *group* it takes turns with. An event of the topic goes in, the
//! event that comes out is published to the topic that its type names. `docs/workers.md` tells it to users.
//!
//! Who does what:
//! - [`manager`] is what callers can ask for; [`service`] speaks it over gRPC.
//! - [`local`] keeps the workers of this instance as the [`store`] says; [`recovery`] does so first.
//! - [`hub`] has one subscription per topic and gives each event to the topic's [`runner`]s.
//! - [`lock`] has the turns of groups; its protocol is pure and simulated.
//! - [`events`] makes outputs and dead letters; [`outlet`] publishes them, and the manager's own events.
//! - [`names`] has every name that others rely on.

pub mod code;
pub mod error;
pub mod events;
pub mod hub;
pub mod local;
pub mod lock;
pub mod manager;
mod migrate;
pub mod names;
pub mod outlet;
pub mod record;
pub mod recovery;
pub mod runner;
pub mod service;
pub mod settings;
pub mod store;
pub mod validate;

pub use error::ManagerError;
pub use manager::Manager;
