//! Workflow management without actors: upstream asks for the actor runtime before it looks at the request.

use outrigger_sidecar_api::{ApiError, errors};
use outrigger_wire::dapr::proto::runtime::v1::{
    GetWorkflowRequest, GetWorkflowResponse, PauseWorkflowRequest, PurgeWorkflowRequest,
    RaiseEventWorkflowRequest, ResumeWorkflowRequest, StartWorkflowRequest, StartWorkflowResponse,
    TerminateWorkflowRequest,
};

use crate::WorkflowsApi;

/// No workflows.
#[derive(Debug, Clone, Copy, Default)]
pub struct AbsentWorkflows;

#[tonic::async_trait]
impl WorkflowsApi for AbsentWorkflows {
    async fn start(&self, _: StartWorkflowRequest) -> Result<StartWorkflowResponse, ApiError> {
        Err(errors::actor_no_placement())
    }

    async fn get(&self, _: GetWorkflowRequest) -> Result<GetWorkflowResponse, ApiError> {
        Err(errors::actor_no_placement())
    }

    async fn purge(&self, _: PurgeWorkflowRequest) -> Result<(), ApiError> {
        Err(errors::actor_no_placement())
    }

    async fn terminate(&self, _: TerminateWorkflowRequest) -> Result<(), ApiError> {
        Err(errors::actor_no_placement())
    }

    async fn pause(&self, _: PauseWorkflowRequest) -> Result<(), ApiError> {
        Err(errors::actor_no_placement())
    }

    async fn resume(&self, _: ResumeWorkflowRequest) -> Result<(), ApiError> {
        Err(errors::actor_no_placement())
    }

    async fn raise_event(&self, _: RaiseEventWorkflowRequest) -> Result<(), ApiError> {
        Err(errors::actor_no_placement())
    }
}
