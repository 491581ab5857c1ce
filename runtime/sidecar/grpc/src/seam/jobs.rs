//! Jobs.

use std::collections::BTreeMap;

use outrigger_sidecar_api::{ApiError, errors::scheduler};
use outrigger_types::{AppId, Namespace};
use outrigger_wire::dapr::proto::runtime::v1::{
    DeleteJobRequest, DeleteJobsByPrefixRequest, GetJobRequest, GetJobResponse, Job, ListJobsResponse,
    ScheduleJobRequest,
};

/// The jobs API; `Alpha1` methods and HTTP ask the same.
#[tonic::async_trait]
#[allow(missing_docs, reason = "named by the methods of the API")]
pub trait JobsApi: Send + Sync + 'static {
    async fn schedule(&self, request: ScheduleJobRequest) -> Result<(), ApiError>;
    async fn get(&self, request: GetJobRequest) -> Result<GetJobResponse, ApiError>;
    async fn delete(&self, request: DeleteJobRequest) -> Result<(), ApiError>;
    async fn delete_by_prefix(&self, request: DeleteJobsByPrefixRequest) -> Result<(), ApiError>;
    async fn list(&self) -> Result<ListJobsResponse, ApiError>;
}

/// Whose jobs they are. Errors name it.
#[derive(Debug, Clone)]
pub struct JobScope {
    /// The app.
    pub app_id: AppId,
    /// Its namespace; `default` where none is set (upstream `CurrentNamespace`).
    pub namespace: Namespace,
}

impl JobScope {
    /// What errors tell.
    #[must_use]
    pub fn facts(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("appID".to_owned(), self.app_id.to_string()),
            ("namespace".to_owned(), self.namespace.to_string()),
        ])
    }

    /// The checks before the scheduler is asked (upstream `pkg/api/universal/jobs.go`).
    ///
    /// # Errors
    /// When there is no job, or it has no name, or neither schedule nor due time.
    pub fn check_schedule(&self, request: ScheduleJobRequest) -> Result<Job, ApiError> {
        let job = request.job.ok_or_else(|| scheduler::job_empty(self.facts()))?;
        self.check_name(&job.name)?;
        if job.schedule.is_none() && job.due_time.is_none() {
            return Err(scheduler::schedule_empty(self.facts()));
        }
        Ok(job)
    }

    /// Refuses an empty name.
    ///
    /// # Errors
    /// `DAPR_SCHEDULER_JOB_NAME_EMPTY`.
    pub fn check_name(&self, name: &str) -> Result<(), ApiError> {
        if name.is_empty() {
            Err(scheduler::name_empty(self.facts()))
        } else {
            Ok(())
        }
    }
}
