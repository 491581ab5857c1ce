//! `pubsub.sqlite`: durable publish and subscribe between processes of one machine, without a server. Ours.
//!
//! At-least-once (A2.6): publishing answers after the commit is on the disk; a message is a row, claimed by one
//! consumer of each group under a lease, and finished only after the handler's word. A consumer that dies loses its
//! claims at once when its doorbell is found dead, else when its lease runs out; late verdicts are fenced by the
//! claim's epoch. Messages with equal `partitionKey` metadata reach a group in order, one after the other, whatever
//! its number of instances (A2.7); others are handled side by side.
//!
//! A group is durable from its first subscription on, and starts at the oldest message kept, as
//! components-contrib `pubsub/redis` starts its groups: what was published while the app came up is not lost. It
//! then gets what was published while it was away, up to `messageRetention`. Messages that every group has finished
//! are kept for `settledRetention`, for groups yet to come.
//!
//! Latency between processes comes from doorbells (module `doorbell`); without them the file is looked at every
//! 250 ms.

mod broker;
mod claims;
mod config;
mod doorbell;
mod publish;
mod retention;
mod schema;
mod subscription;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_pubsub::DynPubSub;

/// `pubsub.sqlite`. Metadata besides that of `state.sqlite`'s connections (`connectionString`, `timeout`,
/// `busyTimeout`, `disableWAL`, `synchronous`):
///
/// | name | default | meaning |
/// | --- | --- | --- |
/// | `concurrency` | 10 | handlers of a subscription at once; also as subscription metadata, as `concurrencyMode` |
/// | `prefetch` | `concurrency` | messages claimed ahead of the handlers; 0 claims none ahead |
/// | `leaseDuration` | 30s | a claim without renewal is free for others after this |
/// | `redeliverInterval` | 1s | wait before a refused message comes again; doubles each time |
/// | `redeliverMaxInterval` | 60s | the longest such wait |
/// | `initialOffset` | oldest | where a new group begins: at the `oldest` message kept, or after the `newest` |
/// | `groupRetention` | | a group without readers is forgotten after this; unset, after `messageRetention` |
/// | `messageRetention` | 168h | messages are dropped after this, finished or not |
/// | `settledRetention` | 10m | finished messages are kept this long for new groups |
/// | `maxSizeMiB` | 1024 | publishing is refused when more is stored |
/// | `settledMaxSizeMiB` | 64 | finished messages go sooner when more is stored |
#[must_use]
pub fn registration() -> Registration<dyn DynPubSub> {
    Registration {
        type_names: &["pubsub.sqlite"],
        versions: &["v1"],
        validate,
    }
}

fn validate(spec: &Spec) -> Result<Open<dyn DynPubSub>, Error> {
    let config = config::Config::parse(&spec.properties)?;
    Ok(open_with(move |host| async move {
        Ok(Arc::new(broker::SqlitePubSub::open(config, host).await?) as Arc<dyn DynPubSub>)
    }))
}

#[cfg(test)]
mod tests;
