//! The pub/sub building block as served to apps: publish, subscribe, deliver, stream, outbox.
//!
//! * [`PubsubService`] publishes for both surfaces, with scopes (A2.9), envelopes (A2.1) and the component's
//!   resiliency policy laid around the broker, and keeps the app's subscriptions (A2.2).
//! * A subscription hands what its broker delivers to a postman: HTTP, gRPC or stream. Routing, dead letters (A2.5)
//!   and the meaning of the app's answer (A2.3) are decided here; redelivery is the broker's.
//! * [`PubsubOutbox`] joins a state transaction and its events.
//!
//! A subscription ends in order: pause, drain, close. What the app did not finish is released, never refused (P1).

mod batcher;
mod bulk_delivery;
mod bulk_entries;
mod component;
mod delivery;
mod gate;
mod manager;
mod outbox;
mod postman;
mod programmatic;
mod publish_grpc;
mod publish_http;
mod publisher;
mod service;
mod stream;
mod subscription;

pub use manager::{SubscriptionInfo, SubscriptionKind};
pub use outbox::{OutboxOptions, PubsubOutbox};
pub use programmatic::AskError;
pub use service::{PubsubOptions, PubsubService};
pub use stream::TopicEventStream;
