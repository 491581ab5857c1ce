//! Trace (work in progress).
/// Makes spans.
#[derive(Debug, Clone, Default)]
pub struct Tracer;
