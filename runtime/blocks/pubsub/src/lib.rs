//! The pub/sub building block: trait, requests, capabilities, in-memory backend and behaviour suite.
//!
//! Knows nothing of CloudEvents, scopes, routing or dead letters: those are the sidecar's. A backend moves opaque
//! messages and redelivers what its handler did not take (A2.6).

mod broker;
pub mod guard;
mod memory;
mod message;
pub mod suite;

pub use broker::{
    BulkOptions, Capabilities, DynPubSub, Handler, PubSub, SharedPubSub, SubscribeRequest, Subscription,
    SubscriptionControl,
};
pub use memory::{MemoryOptions, MemoryPubSub, registration as memory_registration};
pub use message::{BulkFailure, Delivery, EntryId, Outgoing, OutgoingEntry, Verdict};
