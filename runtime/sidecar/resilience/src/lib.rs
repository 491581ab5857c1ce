//! Runs operations under resiliency policies: the thin async shell over the engine.
//!
//! A call site asks the [`ResilienceProvider`] for the [`Policy`] of its target, once per operation, and runs the
//! operation through it. Where no policy applies that is one branch: nothing is allocated, spawned or boxed.
//!
//! Composition, outermost first: retry( circuit breaker( timeout( operation ))). A timeout drops the operation's
//! future, so its late result cannot surface; an operation that is dropped from outside counts as a failure for the
//! breaker, as a cancelled context does upstream.

mod breakers;
mod component;
mod observer;
mod provider;
mod run;

pub use observer::{PolicyEvent, PolicyKind, ResilienceObserver};
pub use outrigger_engine_resiliency::{
    BuiltIn, Code, ComponentKind, Direction, LoadError, PolicySet, Resource, State, Verdict as Retry,
};
pub use provider::{Policy, ResilienceProvider};
pub use run::{Retryable, RunError};
