//! The behaviour suite: what the sidecar relies on in every broker. Backends call [`run`] from their tests.
//!
//! The checks are generic over what a broker promises ([`Promises`]); each uses topics of its own, so they share
//! one broker. Waits are on conditions with a deadline.

mod checks;
mod recorder;

use std::time::Duration;

pub use recorder::{Recorder, Seen};

use crate::SharedPubSub;

/// How long a check waits for something that must happen.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What a broker under test promises beyond the trait's contract.
#[derive(Debug, Clone, Copy)]
pub struct Promises {
    /// A refused message comes again by itself.
    pub redelivers: bool,
    /// Subscriptions of one group share the messages; otherwise each gets all (in-memory, as upstream).
    pub competes: bool,
    /// A message published before the first subscription of a group reaches it.
    pub keeps: bool,
    /// Messages with equal `partitionKey` keep their order, also around a refusal (A2.7).
    pub ordered_keys: bool,
    /// Handlers of one subscription at once, if there is a fixed bound.
    pub concurrency: Option<usize>,
}

/// As [`run`], for a broker that carries payloads only, as its upstream does: nothing of a publish request's metadata
/// comes out at the other end.
///
/// # Panics
/// When the broker breaks a promise.
pub async fn run_without_metadata<F, Fut>(broker: F, promises: Promises)
where
    F: Fn() -> Fut,
    Fut: Future<Output = SharedPubSub>,
{
    run_checks(broker, promises, false).await;
}

/// Runs every check that applies. `broker` opens a fresh handle on the same backing each time it is called, or
/// clones the one handle there is.
///
/// # Panics
/// When the broker breaks a promise.
pub async fn run<F, Fut>(broker: F, promises: Promises)
where
    F: Fn() -> Fut,
    Fut: Future<Output = SharedPubSub>,
{
    run_checks(broker, promises, true).await;
}

async fn run_checks<F, Fut>(broker: F, promises: Promises, carries_metadata: bool)
where
    F: Fn() -> Fut,
    Fut: Future<Output = SharedPubSub>,
{
    let shared = broker().await;
    let capabilities = shared.capabilities();
    checks::delivers_data_and_metadata(&shared, carries_metadata).await;
    checks::every_group_gets_every_message(&shared).await;
    checks::bulk_publish_reaches_subscribers(&shared, carries_metadata).await;
    checks::bulk_subscription_gets_batches(&shared).await;
    checks::a_panicking_handler_does_not_end_the_subscription(&shared).await;
    checks::a_closed_subscription_gets_nothing_more(&shared).await;
    checks::close_waits_for_the_handler(&shared).await;
    checks::what_the_handler_did_not_see_reaches_the_successor(&shared).await;
    checks::a_topic_does_not_reach_another(&shared).await;
    if let Some(concurrency) = promises.concurrency {
        checks::handlers_stay_within_the_bound(&shared, concurrency).await;
    }
    if promises.redelivers {
        checks::a_refused_message_comes_again(&shared).await;
        checks::an_entry_refused_in_a_batch_comes_again_alone(&shared).await;
    }
    if promises.competes {
        checks::instances_of_a_group_share(&shared).await;
    }
    if promises.keeps {
        checks::a_first_subscription_gets_what_was_published_before(&shared).await;
    }
    if promises.ordered_keys {
        checks::equal_keys_keep_their_order(&shared, promises.competes).await;
        if promises.redelivers {
            checks::a_refusal_holds_back_its_key(&shared).await;
        }
    }
    if capabilities.wildcards {
        checks::a_trailing_star_takes_longer_topics(&shared).await;
    }
    if capabilities.message_ttl && promises.keeps {
        checks::an_expired_message_is_not_delivered(&shared).await;
    }
    let closing = broker().await;
    checks::a_closed_broker_refuses(&closing).await;
}
