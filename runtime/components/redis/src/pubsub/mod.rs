//! `pubsub.redis`: streams and consumer groups (components-contrib `pubsub/redis`).
//!
//! A topic is a stream, an event an entry with the fields `data` and `metadata`, a group and its one consumer are
//! both named by the consumer id, so that upstream's sidecars and ours share the work. An entry is acknowledged
//! after the app's word and never before. What was read and not acknowledged stays pending; entries pending for
//! `processingTimeout` are claimed every `redeliverInterval`, by whichever sidecar of the group looks first.
//! Sidecars that still work on an entry keep it theirs meanwhile (`ledger`), and one that goes away leaves what it
//! has not begun to be claimed at once.
//!
//! Where this differs from upstream, on purpose: a refused event is delivered again (upstream acknowledges it,
//! unless its time ran out), and events with one `partitionKey` are handled in order within a subscription.

mod broker;
mod config;
mod consumer;
mod entry;
mod ledger;
mod stream;
mod subscription;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_pubsub::DynPubSub;

pub use broker::RedisPubSub;

/// The component type `pubsub.redis`. Metadata: what [`crate`] shares, `consumerID`, `processingTimeout`,
/// `redeliverInterval`, `queueDepth`, `concurrency`, `maxLenApprox`, `streamTTL`.
#[must_use]
pub fn registration() -> Registration<dyn DynPubSub> {
    Registration {
        type_names: &["pubsub.redis"],
        versions: &["v1"],
        validate,
    }
}

fn validate(spec: &Spec) -> Result<Open<dyn DynPubSub>, Error> {
    let config = config::Config::parse(&spec.properties)?;
    Ok(open_with(move |_host| async move {
        Ok(Arc::new(RedisPubSub::open(config).await?) as Arc<dyn DynPubSub>)
    }))
}
