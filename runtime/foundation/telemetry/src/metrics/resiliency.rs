//! Resiliency metrics (`pkg/diagnostics/resiliency_monitoring.go`).

use super::{Counter, Families, Family, Gauge, Metrics, MetricsError};

/// The kinds of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// `circuitbreaker`.
    CircuitBreaker,
    /// `retry`.
    Retry,
    /// `timeout`.
    Timeout,
}

impl PolicyKind {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CircuitBreaker => "circuitbreaker",
            Self::Retry => "retry",
            Self::Timeout => "timeout",
        }
    }
}

/// Whether the call leaves the app or reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowDirection {
    /// `inbound`.
    Inbound,
    /// `outbound`.
    Outbound,
}

impl FlowDirection {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// The states of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitBreakerState {
    /// `closed`.
    Closed,
    /// `half-open`.
    HalfOpen,
    /// `open`.
    Open,
    /// `unknown`.
    Unknown,
}

impl CircuitBreakerState {
    const ALL: [Self; 4] = [Self::Closed, Self::HalfOpen, Self::Open, Self::Unknown];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
            Self::Unknown => "unknown",
        }
    }
}

/// The policy a sample is about.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The Resiliency resource.
    pub resource: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// The kind.
    pub kind: PolicyKind,
    /// The direction.
    pub flow: FlowDirection,
    /// `app_<id>`, `actor_<type>` or `<ComponentType>_<name>`.
    pub target: &'a str,
}

pub(super) struct ResiliencyFamilies {
    loaded: Family<Counter>,
    count: Family<Counter>,
    activations: Family<Counter>,
    breaker_state: Family<Gauge>,
}

const LABELS: [&str; 7] = [
    "app_id",
    "name",
    "policy",
    "namespace",
    "flow_direction",
    "target",
    "status",
];

impl ResiliencyFamilies {
    pub(super) fn new(families: &Families) -> Result<Self, MetricsError> {
        Ok(Self {
            loaded: families.counter(
                "resiliency/loaded",
                "Resiliency resources loaded",
                &["app_id", "name", "namespace"],
            )?,
            count: families.counter("resiliency/count", "Policies applied to calls", &LABELS)?,
            activations: families.counter(
                "resiliency/activations_total",
                "Policies that acted after a failure or a state change",
                &LABELS,
            )?,
            breaker_state: families.gauge(
                "resiliency/cb_state",
                "Circuit breaker states: 1 for the current state of a breaker, 0 for the others",
                &LABELS,
            )?,
        })
    }
}

fn labels<'a>(app_id: &'a str, policy: &Policy<'a>, status: &'a str) -> [&'a str; 7] {
    [
        app_id,
        policy.resource,
        policy.kind.as_str(),
        policy.namespace,
        policy.flow.as_str(),
        policy.target,
        status,
    ]
}

impl Metrics {
    /// Counts a Resiliency resource loaded.
    pub fn resiliency_loaded(&self, resource: &str, namespace: &str) {
        if let Some(inner) = self.0.as_deref() {
            inner
                .resiliency
                .loaded
                .with(&[&inner.app_id, resource, namespace], Counter::inc);
        }
    }

    /// Counts a policy applied to a call; a circuit breaker gives its state, which also sets the state gauges.
    pub fn resiliency_executed(&self, policy: &Policy<'_>, state: Option<CircuitBreakerState>) {
        let Some(inner) = self.0.as_deref() else { return };
        let status = state.map_or("", CircuitBreakerState::as_str);
        inner
            .resiliency
            .count
            .with(&labels(&inner.app_id, policy, status), Counter::inc);
        if policy.kind == PolicyKind::CircuitBreaker {
            for each in CircuitBreakerState::ALL {
                inner.resiliency.breaker_state.with(
                    &labels(&inner.app_id, policy, each.as_str()),
                    |series| {
                        series.set(i64::from(Some(each) == state));
                    },
                );
            }
        }
    }

    /// Counts a policy that acted: a retry, a timeout, a breaker that changed to `state`.
    pub fn resiliency_activated(&self, policy: &Policy<'_>, state: Option<CircuitBreakerState>) {
        let Some(inner) = self.0.as_deref() else { return };
        let status = state.map_or("", CircuitBreakerState::as_str);
        inner
            .resiliency
            .activations
            .with(&labels(&inner.app_id, policy, status), Counter::inc);
    }
}
