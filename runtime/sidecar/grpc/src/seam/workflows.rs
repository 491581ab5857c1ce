//! Workflow management.

use outrigger_sidecar_api::{ApiError, errors::workflow};
use outrigger_wire::dapr::proto::runtime::v1::{
    GetWorkflowRequest, GetWorkflowResponse, PauseWorkflowRequest, PurgeWorkflowRequest,
    RaiseEventWorkflowRequest, ResumeWorkflowRequest, StartWorkflowRequest, StartWorkflowResponse,
    TerminateWorkflowRequest,
};

/// Longest id of a new instance, in bytes.
const MAX_INSTANCE_ID: usize = 64;

/// The workflow management API; every version and HTTP ask the same. Terminate and purge are recursive. An instance
/// that is not there is answered by [`WorkflowsApi::get`] with no properties.
#[tonic::async_trait]
#[allow(missing_docs, reason = "named by the methods of the API")]
pub trait WorkflowsApi: Send + Sync + 'static {
    async fn start(&self, request: StartWorkflowRequest) -> Result<StartWorkflowResponse, ApiError>;
    async fn get(&self, request: GetWorkflowRequest) -> Result<GetWorkflowResponse, ApiError>;
    async fn purge(&self, request: PurgeWorkflowRequest) -> Result<(), ApiError>;
    async fn terminate(&self, request: TerminateWorkflowRequest) -> Result<(), ApiError>;
    async fn pause(&self, request: PauseWorkflowRequest) -> Result<(), ApiError>;
    async fn resume(&self, request: ResumeWorkflowRequest) -> Result<(), ApiError>;
    async fn raise_event(&self, request: RaiseEventWorkflowRequest) -> Result<(), ApiError>;
}

/// Checks an instance id; `creates` holds it to the rules of new ones.
///
/// # Errors
/// When it is empty, too long, or holds more than letters, digits, dashes and underscores.
pub fn check_instance_id(id: &str, creates: bool) -> Result<(), ApiError> {
    if id.is_empty() {
        return Err(workflow::instance_id_missing());
    }
    if !creates {
        return Ok(());
    }
    if id.len() > MAX_INSTANCE_ID {
        return Err(workflow::instance_id_too_long(MAX_INSTANCE_ID));
    }
    if id.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-')) {
        Ok(())
    } else {
        Err(workflow::instance_id_invalid(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_new_instances_are_narrow() {
        assert_eq!(
            check_instance_id("", false).unwrap_err().code(),
            "ERR_INSTANCE_ID_PROVIDED_MISSING"
        );
        assert!(check_instance_id("any thing", false).is_ok());
        assert_eq!(
            check_instance_id("any thing", true).unwrap_err().code(),
            "ERR_INSTANCE_ID_INVALID"
        );
        assert_eq!(
            check_instance_id(&"a".repeat(65), true).unwrap_err().code(),
            "ERR_INSTANCE_ID_TOO_LONG"
        );
        assert!(check_instance_id("Order_1-ü", true).is_ok());
    }
}
