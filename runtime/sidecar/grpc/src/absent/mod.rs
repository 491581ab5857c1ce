//! What a sidecar answers without placement, scheduler and workflow engine: exactly what Dapr's does then (upstream
//! `pkg/actors/actors.go` with no placement address, `pkg/runtime/scheduler` with no scheduler address, and the
//! workflow engine over both).
//!
//! Checks of a request come before or after that answer in upstream's order, because clients see which one wins.

mod actors;
mod jobs;
mod task_hub;
mod workflows;

use std::sync::Arc;

use outrigger_sidecar_api::Endpoint;

pub use actors::{AbsentActors, ActorStreams};
pub use jobs::AbsentJobs;
pub use task_hub::AbsentTaskHub;
pub use workflows::AbsentWorkflows;

use crate::{JobScope, http_jobs, http_workflows};

/// The HTTP endpoints of actors, workflows and jobs where no engine is there: `actors/*`, `workflows/*` and `jobs/*`
/// in all versions.
#[must_use]
pub fn endpoints(scope: &JobScope) -> Vec<Endpoint> {
    let mut endpoints = actors::endpoints();
    endpoints.extend(http_workflows::endpoints(Arc::new(AbsentWorkflows)));
    endpoints.extend(http_jobs::endpoints(
        Arc::new(AbsentJobs::new(scope.clone())),
        scope.clone(),
    ));
    endpoints
}
