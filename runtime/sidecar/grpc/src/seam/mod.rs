//! Where engines plug in: what the public API asks of actors, workflows, jobs and the sidecar itself.
//!
//! Each trait has one function per question of the API; both surfaces ask through it, so that an answer is the same
//! whether it leaves by HTTP or gRPC. [`crate::absent`] answers for engines that are not there.

mod actors;
mod control;
mod jobs;
mod task_hub;
mod workflows;

pub use actors::{ActorEvents, ActorsApi, check_actor_type, check_name};
pub use control::ControlApi;
pub use jobs::{JobScope, JobsApi};
pub use task_hub::TaskHub;
pub use workflows::{WorkflowsApi, check_instance_id};
