//! Calls a handler so that its panic, or a wrong number of answers, is a refusal and never the end of a subscription.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use outrigger_component::Error;

use crate::{Delivery, Handler, Verdict};

/// Hands one message to the handler; a panic is [`Verdict::Retry`].
pub async fn handle(handler: &dyn Handler, delivery: Delivery) -> Verdict {
    AssertUnwindSafe(async { handler.handle(delivery).await })
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Verdict::Retry(Error::internal("the message handler panicked")))
}

/// Hands a batch to the handler; answers exactly one verdict per message. A message without an answer is refused,
/// as upstream treats entries an app leaves out of its bulk reply.
pub async fn handle_bulk(handler: &dyn Handler, deliveries: Vec<Delivery>) -> Vec<Verdict> {
    let count = deliveries.len();
    let mut verdicts = AssertUnwindSafe(async { handler.handle_bulk(deliveries).await })
        .catch_unwind()
        .await
        .unwrap_or_default();
    verdicts.truncate(count);
    while verdicts.len() < count {
        verdicts.push(Verdict::Retry(Error::internal(
            "the message handler gave no answer for this message",
        )));
    }
    verdicts
}
