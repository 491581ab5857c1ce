//! Timeouts, retries and circuit breakers as pure state machines, and the resolution of policies for a target.
//!
//! The model is Dapr's Resiliency resource (A8, wire.md §15): named policies, and targets that pick them by name.
//! Time and random numbers come in as arguments; `outrigger-sidecar-resilience` supplies them and does the waiting.
//!
//! ```
//! use outrigger_engine_resiliency::{PolicySet, Resource};
//!
//! let mut set = PolicySet::built_in();
//! let resource = Resource {
//!     spec: outrigger_engine_resiliency::Spec {
//!         policies: outrigger_engine_resiliency::Policies {
//!             timeouts: [("fast".to_owned(), "500ms".to_owned())].into(),
//!             ..Default::default()
//!         },
//!         ..Default::default()
//!     },
//!     ..Default::default()
//! };
//! assert!(set.load(&resource).unwrap().is_empty());
//! assert!(set.app("orders").is_none(), "a named timeout applies only where a target names it");
//! ```

mod breaker;
mod load;
mod matching;
mod retry;
mod set;
mod spec;

pub use breaker::{BreakerSettings, CircuitBreaker, Permit, Rejection, State, Transition, Trip};
pub use load::{LoadError, Notice};
pub use matching::{Code, PatternError, StatusMatch};
pub use retry::{BackOff, BackOffKind, RetryPolicy, Verdict};
pub use set::{ActorScope, BuiltIn, ComponentKind, Direction, PolicySet, Resolved};
pub use spec::{
    ActorTarget, AppTarget, CircuitBreakerSpec, ComponentTarget, Metadata, Policies, PolicyNames, Resource,
    RetryMatching, RetrySpec, Spec, Targets,
};
