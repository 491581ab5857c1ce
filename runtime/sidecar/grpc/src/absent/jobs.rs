//! Jobs without a scheduler address.

use http::StatusCode;
use outrigger_sidecar_api::{ApiError, errors::scheduler};
use outrigger_wire::dapr::proto::runtime::v1::{
    DeleteJobRequest, DeleteJobsByPrefixRequest, GetJobRequest, GetJobResponse, ListJobsResponse,
    ScheduleJobRequest,
};
use tonic::Code;

use crate::{JobScope, JobsApi};

/// Upstream's client for no address (`pkg/runtime/scheduler/internal/clients`).
const DISABLED: &str = "scheduler clients are disabled";
/// Where upstream logs what the scheduler refused.
const LOG: &str = "dapr.runtime";

/// No scheduler.
#[derive(Debug, Clone)]
pub struct AbsentJobs {
    scope: JobScope,
}

impl AbsentJobs {
    /// Jobs of nobody.
    #[must_use]
    pub fn new(scope: JobScope) -> Self {
        Self { scope }
    }
}

#[tonic::async_trait]
impl JobsApi for AbsentJobs {
    async fn schedule(&self, request: ScheduleJobRequest) -> Result<(), ApiError> {
        let job = self.scope.check_schedule(request)?;
        tracing::error!(target: LOG, "Error scheduling job {} due to: {DISABLED}", job.name);
        let internal = (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal);
        Err(scheduler::schedule_failed(
            self.scope.facts(),
            internal.0,
            internal.1,
            DISABLED,
        ))
    }

    async fn get(&self, request: GetJobRequest) -> Result<GetJobResponse, ApiError> {
        self.scope.check_name(&request.name)?;
        tracing::error!(target: LOG, "Error getting job {} due to: {DISABLED}", request.name);
        Err(scheduler::get_failed(self.scope.facts(), DISABLED))
    }

    async fn delete(&self, request: DeleteJobRequest) -> Result<(), ApiError> {
        self.scope.check_name(&request.name)?;
        tracing::error!(target: LOG, "Error deleting job: {} due to: {DISABLED}", request.name);
        Err(scheduler::delete_failed(self.scope.facts(), DISABLED))
    }

    async fn delete_by_prefix(&self, _: DeleteJobsByPrefixRequest) -> Result<(), ApiError> {
        tracing::error!(target: LOG, "Error deleting jobs by prefix due to: {DISABLED}");
        Err(scheduler::delete_failed(self.scope.facts(), DISABLED))
    }

    async fn list(&self) -> Result<ListJobsResponse, ApiError> {
        tracing::error!(target: LOG, "Error listing jobs due to: {DISABLED}");
        Err(scheduler::list_failed(self.scope.facts(), DISABLED))
    }
}
