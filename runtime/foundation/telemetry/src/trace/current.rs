//! The span whose work is under way in a task, for the log lines written meanwhile (C9).
//!
//! A task-local of two plain ids and no span of `tracing`: nearly every request writes no line at all, and a span of
//! the registry is allocated, given its ids as texts and entered at every poll whether a line comes or not.

use super::context::{SpanId, TraceId};

tokio::task_local! {
    static CURRENT: LogIds;
}

/// The ids that log lines get. What is spawned from the work is no part of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogIds(Option<(TraceId, SpanId)>);

impl LogIds {
    pub(super) const fn new(trace: TraceId, span: SpanId) -> Self {
        Self(Some((trace, span)))
    }

    /// Gives the lines of a future these ids. As cancel-safe as `work`.
    pub fn around<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }

    /// Gives the lines of a function these ids.
    pub fn within<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, work)
    }

    /// Those of the work that is under way here.
    pub(crate) fn current() -> Option<(TraceId, SpanId)> {
        CURRENT.try_with(|ids| ids.0).ok().flatten()
    }
}
