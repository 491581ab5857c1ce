//! The WebSocket manager (requirements I1 to I7): connections to the outside, their messages as events.
//!
//! A user asks for a connection; the service keeps it up, publishes what comes on it to a topic, and sends what it is
//! given. Several instances share the work: each connection is held by one of them, and taken over by another when
//! that one is lost.
//!
//! - [`machine`] is a connection's life as a pure state machine; `link` the way to its task, `task` what that does,
//!   `talk` one opening of its socket, `outlet` the way of its messages to a topic, `clerk` the way of its news to state and to those who watch.
//! - [`Manager`] is what users ask; `ownership` decides with other instances who holds what; `registry` is state.
//! - [`names`] has every name that others rely on.
//!
//! Promises: messages of one connection are published in their order, and none is dropped in silence: while they
//! cannot be published the socket is not read, and what is dropped in the end is counted. A message may be published
//! twice, with the same id, after an answer was lost. While a connection is down, what the server sends is lost.

mod clerk;
mod dial;
mod error;
mod events;
mod grpc;
mod link;
pub mod machine;
mod manager;
mod migration;
pub mod names;
mod outlet;
mod ownership;
mod record;
mod registry;
mod request;
mod service;
mod settings;
mod talk;
mod target;
mod task;
mod tasks;

pub use dial::Dialer;
pub use error::CallError;
pub use manager::{Connection, Manager};
pub use record::{ConnectionRecord, InstanceRecord, Status};
pub use service::service;
pub use settings::{Limits, definition};
pub use target::{Reach, Target, TargetError};
