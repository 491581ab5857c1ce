//! Identifiers, Go-style durations and the environment snapshot shared by every layer; no I/O.
//!
//! Wire types never pass the edge (design D4): inside, every id is a type of its own, so swapped arguments do
//! not compile.

pub mod duration;
mod environment;
mod grpc_code;
mod id;
mod rfc3339;
mod truthy;

pub use duration::{DurationError, GoDuration, Period};
pub use environment::Environment;
pub use grpc_code::grpc_code_name;
pub use id::{ActorId, ActorType, AppId, ComponentName, InvalidId, Namespace, PubsubName, StateKey, Topic};
pub use rfc3339::is_rfc3339;
pub use truthy::is_truthy;
