//! CloudEvents envelopes and the verdicts of delivery: ack, retry, drop, dead-letter.
//!
//! Everything a pub/sub message goes through between the API and the app, as pure functions (A2.1–A2.5, wire.md §4
//! and §6; upstream `pkg/runtime/pubsub`, `pkg/runtime/subscription`, components-contrib `pubsub/envelope.go`). Ids
//! and the time come in as arguments.
//!
//! * [`Publish`] makes the bytes a component publishes.
//! * [`Incoming`] reads what a component delivers, and [`Envelope`] is an event in between.
//! * [`answer`] and [`bulk`] read what the app said.

pub mod answer;
pub mod bulk;
pub mod content_type;
mod envelope;
pub mod go_json;
mod incoming;
mod metadata;
mod publish;
mod time;

pub use envelope::{Envelope, Field, UnexpectedData, field};
pub use go_json::{Error as JsonError, Numbers};
pub use incoming::{Delivery, Incoming, strip_namespace};
pub use metadata::{MetadataError, Overrides, is_raw_payload, parse_go_bool, property, ttl};
pub use publish::{NewEvent, Publish};
pub use time::Now;

/// Metadata of messages, requests and subscriptions.
pub type Metadata = std::collections::BTreeMap<String, String>;
