//! Names of the platform's topics, who may publish to them, and the envelope of what is published (requirements
//! K1–K3, grammar of R6). Pure: no broker, no clock, no state.
//!
//! - [`Topic`] reads and writes names; a name that no rule of the grammar makes is no topic.
//! - [`check`] is what a publisher asks before it publishes: the grammar, and whether the scenario may be written to.
//! - [`Envelope`] has the CloudEvents attributes that a topic implies, so that no publisher makes them up.

mod check;
mod envelope;
mod segment;
mod topic;

pub use check::{PublishError, ScenarioStatus, Scenarios, check};
pub use envelope::{Clock, Envelope};
pub use segment::{Id, LIVE, Name, ScenarioId};
pub use topic::{Category, Lane, Topic, TopicError, Trading};
