//! The durable task protocol without actors (upstream `durabletask-go` over `pkg/runtime/wfengine`). Errors keep the
//! code of the actor runtime's; grpc-go prints a wrapped status as its whole text.

use futures::stream;
use outrigger_sidecar_api::errors;
use outrigger_wire::durabletask::{
    ActivityResponse, CompleteTaskResponse, CreateInstanceRequest, CreateInstanceResponse,
    GetInstanceHistoryRequest, GetInstanceHistoryResponse, GetInstanceRequest, GetInstanceResponse,
    GetWorkItemsRequest, ListInstanceIDsRequest, ListInstanceIDsResponse, PurgeInstancesRequest,
    PurgeInstancesResponse, RaiseEventRequest, RaiseEventResponse, RerunWorkflowFromEventRequest,
    RerunWorkflowFromEventResponse, ResumeRequest, ResumeResponse, SuspendRequest, SuspendResponse,
    TerminateRequest, TerminateResponse, WorkItem, WorkflowResponse,
    purge_instances_request::Request as Purge, task_hub_sidecar_service_server::TaskHubSidecarService,
};
use tonic::{Request, Response, Status};

const LOG: &str = "dapr.wfengine.durabletask.backend";

/// No workflow engine.
#[derive(Debug, Clone, Copy, Default)]
pub struct AbsentTaskHub;

fn no_placement<T>() -> Result<T, Status> {
    Err(errors::actor_no_placement().to_status())
}

/// With a text before the cause, which then is printed with its code.
fn wrapped<T>(before: &str) -> Result<T, Status> {
    let cause = errors::actor_no_placement();
    Err(Status::new(
        cause.grpc_code(),
        format!("{before}: {}", cause.kit_text()),
    ))
}

/// A result that nobody waits for is no error.
fn unknown(what: &str) -> Response<CompleteTaskResponse> {
    tracing::warn!(target: LOG, "Ignoring complete task which no longer exists: {what}");
    Response::new(CompleteTaskResponse::default())
}

#[tonic::async_trait]
impl TaskHubSidecarService for AbsentTaskHub {
    type GetWorkItemsStream = stream::Empty<Result<WorkItem, Status>>;

    async fn hello(&self, _: Request<()>) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }

    async fn start_instance(
        &self,
        _: Request<CreateInstanceRequest>,
    ) -> Result<Response<CreateInstanceResponse>, Status> {
        wrapped("failed to create workflow instance")
    }

    async fn get_instance(
        &self,
        _: Request<GetInstanceRequest>,
    ) -> Result<Response<GetInstanceResponse>, Status> {
        no_placement()
    }

    async fn wait_for_instance_start(
        &self,
        _: Request<GetInstanceRequest>,
    ) -> Result<Response<GetInstanceResponse>, Status> {
        no_placement()
    }

    async fn wait_for_instance_completion(
        &self,
        _: Request<GetInstanceRequest>,
    ) -> Result<Response<GetInstanceResponse>, Status> {
        no_placement()
    }

    async fn raise_event(
        &self,
        _: Request<RaiseEventRequest>,
    ) -> Result<Response<RaiseEventResponse>, Status> {
        no_placement()
    }

    async fn terminate_instance(
        &self,
        _: Request<TerminateRequest>,
    ) -> Result<Response<TerminateResponse>, Status> {
        wrapped("failed to submit termination request")
    }

    async fn suspend_instance(
        &self,
        _: Request<SuspendRequest>,
    ) -> Result<Response<SuspendResponse>, Status> {
        no_placement()
    }

    async fn resume_instance(&self, _: Request<ResumeRequest>) -> Result<Response<ResumeResponse>, Status> {
        no_placement()
    }

    async fn purge_instances(
        &self,
        request: Request<PurgeInstancesRequest>,
    ) -> Result<Response<PurgeInstancesResponse>, Status> {
        if let Some(Purge::PurgeInstanceFilter(_)) = request.get_ref().request {
            return Err(Status::unknown("multi-instance purge is not unimplemented"));
        }
        wrapped(if request.get_ref().recursive {
            "failed to purge workflow state: failed to fetch workflow state"
        } else {
            "failed to purge workflow state"
        })
    }

    async fn get_work_items(
        &self,
        _: Request<GetWorkItemsRequest>,
    ) -> Result<Response<Self::GetWorkItemsStream>, Status> {
        let cause = errors::actor_no_placement().kit_text();
        let message = format!("unable to establish work item stream at this time: {cause}");
        tracing::warn!(target: LOG, "{message}");
        Err(Status::unavailable(message))
    }

    async fn complete_activity_task(
        &self,
        request: Request<ActivityResponse>,
    ) -> Result<Response<CompleteTaskResponse>, Status> {
        let ActivityResponse {
            instance_id, task_id, ..
        } = request.get_ref();
        Ok(unknown(&format!(
            "unknown instance ID/task ID combo: {instance_id}/{task_id}"
        )))
    }

    async fn complete_orchestrator_task(
        &self,
        request: Request<WorkflowResponse>,
    ) -> Result<Response<CompleteTaskResponse>, Status> {
        self.complete_workflow_task(request).await
    }

    async fn complete_workflow_task(
        &self,
        request: Request<WorkflowResponse>,
    ) -> Result<Response<CompleteTaskResponse>, Status> {
        Ok(unknown(&format!(
            "unknown instance ID: {}",
            request.get_ref().instance_id
        )))
    }

    async fn rerun_workflow_from_event(
        &self,
        request: Request<RerunWorkflowFromEventRequest>,
    ) -> Result<Response<RerunWorkflowFromEventResponse>, Status> {
        let request = request.get_ref();
        if request.new_instance_id.as_deref() == Some(request.source_instance_id.as_str()) {
            return Err(Status::invalid_argument(
                "rerun workflow instance ID must be different from the original instance ID",
            ));
        }
        no_placement()
    }

    async fn list_instance_i_ds(
        &self,
        _: Request<ListInstanceIDsRequest>,
    ) -> Result<Response<ListInstanceIDsResponse>, Status> {
        Err(Status::unknown("no state store with actor support found"))
    }

    async fn get_instance_history(
        &self,
        _: Request<GetInstanceHistoryRequest>,
    ) -> Result<Response<GetInstanceHistoryResponse>, Status> {
        no_placement()
    }
}
