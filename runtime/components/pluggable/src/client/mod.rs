//! The end of a sidecar: components whose work is done in another process.

mod bindings;
mod link;
mod pubsub;
mod pull;
mod secrets;
mod state;

pub(crate) use bindings::{open_input, open_output};
pub(crate) use link::{connect, dial};
pub(crate) use pubsub::open_pubsub;
pub(crate) use secrets::open_secrets;
pub(crate) use state::open_state;
