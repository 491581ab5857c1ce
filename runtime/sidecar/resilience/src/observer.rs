//! What resiliency does, for the metrics that are kept elsewhere.

use std::fmt;

use outrigger_engine_resiliency::{Direction, State};

/// The kind of a policy; prints as the `policy` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// A circuit breaker.
    CircuitBreaker,
    /// Retries.
    Retry,
    /// A timeout.
    Timeout,
}

impl PolicyKind {
    /// The spelling of the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CircuitBreaker => "circuitbreaker",
            Self::Retry => "retry",
            Self::Timeout => "timeout",
        }
    }
}

/// The labels of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyEvent<'a> {
    /// `name`: the resource loaded last.
    pub name: &'a str,
    /// `namespace` of that resource.
    pub namespace: &'a str,
    /// `policy`.
    pub policy: PolicyKind,
    /// `flow_direction`.
    pub direction: Direction,
    /// `target`: `app_<id>`, `actor_<type>` or `<Kind>_<component>`.
    pub target: &'a str,
    /// `status`: the state of a breaker, nothing for other policies.
    pub status: Option<State>,
}

/// Receives what there is to measure; implemented where the metrics live.
pub trait ResilienceObserver: fmt::Debug + Send + Sync {
    /// A resource was loaded (`resiliency/loaded`).
    fn loaded(&self, name: &str, namespace: &str);
    /// A policy was applied to an operation (`resiliency/count`). With a status it also sets the gauges
    /// `resiliency/cb_state`: 1 for that state, 0 for the others (`closed`, `half-open`, `open`, `unknown`).
    fn executed(&self, event: &PolicyEvent<'_>);
    /// A policy did something: first timeout, first retry, change of state (`resiliency/activations_total`).
    fn activated(&self, event: &PolicyEvent<'_>);
}
