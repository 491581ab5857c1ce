//! The seam of the transactional outbox: state and event leave in one transaction (design §4).
//!
//! The pub/sub side implements it; the state service only calls it around a transaction.

use futures::future::BoxFuture;
use outrigger_state::Operation;

/// The trace context that goes into outbox events.
#[derive(Debug, Clone, Default)]
pub struct TraceInfo {
    /// `traceparent`, which upstream also calls the trace id.
    pub traceparent: String,
    /// `tracestate`.
    pub tracestate: String,
}

/// A transaction as the outbox wants it carried out.
#[derive(Debug)]
pub struct Prepared {
    /// The operations, markers added and projections taken out.
    pub operations: Vec<Operation>,
    /// The outbox's own ticket, handed back with the outcome.
    pub ticket: u64,
}

/// Publishes what a transaction changes.
pub trait Outbox: Send + Sync + 'static {
    /// Whether this state store has an outbox.
    fn enabled(&self, store: &str) -> bool;

    /// Hands the events to the broker's internal topic and adds their markers to the transaction. The error's text
    /// goes to the app.
    fn prepare<'a>(
        &'a self,
        store: &'a str,
        operations: Vec<Operation>,
        trace: TraceInfo,
    ) -> BoxFuture<'a, Result<Prepared, String>>;

    /// Tells how the transaction ended; events of a committed one may leave at once. Not called when the process
    /// dies in between: then the markers decide.
    fn settled(&self, ticket: u64, committed: bool);
}
