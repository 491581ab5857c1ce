//! Rows of the workflow API (upstream `pkg/messages/predefined.go`).

use std::fmt::Display;

use http::StatusCode;
use tonic::Code;

use crate::{ApiError, Category};

fn bad(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::new(
        code,
        Category::Workflow,
        StatusCode::BAD_REQUEST,
        Code::InvalidArgument,
        message,
    )
}

fn failed(code: &'static str, message: String) -> ApiError {
    ApiError::new(
        code,
        Category::Workflow,
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::Internal,
        message,
    )
}

/// No workflow was named.
#[must_use]
pub fn name_missing() -> ApiError {
    bad("ERR_WORKFLOW_NAME_MISSING", "workflow name is not configured")
}

/// The instance id is longer than `limit` bytes.
#[must_use]
pub fn instance_id_too_long(limit: usize) -> ApiError {
    bad(
        "ERR_INSTANCE_ID_TOO_LONG",
        format!("workflow instance ID exceeds the max length of {limit} characters"),
    )
}

/// The instance id holds more than letters, digits, dashes and underscores.
#[must_use]
pub fn instance_id_invalid(id: &str) -> ApiError {
    bad(
        "ERR_INSTANCE_ID_INVALID",
        format!(
            "workflow instance ID '{id}' is invalid: only alphanumeric and underscore characters are allowed"
        ),
    )
}

/// No instance was named.
#[must_use]
pub fn instance_id_missing() -> ApiError {
    bad("ERR_INSTANCE_ID_PROVIDED_MISSING", "no instance ID was provided")
}

/// No event was named.
#[must_use]
pub fn event_name_missing() -> ApiError {
    bad("ERR_WORKFLOW_EVENT_NAME_MISSING", "missing workflow event name")
}

/// There is no such instance.
#[must_use]
pub fn instance_not_found(id: &str) -> ApiError {
    ApiError::new(
        "ERR_INSTANCE_ID_NOT_FOUND",
        Category::Workflow,
        StatusCode::NOT_FOUND,
        Code::NotFound,
        format!("unable to find workflow with the provided instance ID: {id}"),
    )
}

/// The instance could not be read.
#[must_use]
pub fn get_failed(id: &str, cause: impl Display) -> ApiError {
    failed(
        "ERR_GET_WORKFLOW",
        format!("error while getting workflow info on instance '{id}': {cause}"),
    )
}

/// The workflow could not be started.
#[must_use]
pub fn start_failed(name: &str, cause: impl Display) -> ApiError {
    failed(
        "ERR_START_WORKFLOW",
        format!("error starting workflow '{name}': {cause}"),
    )
}

/// The instance could not be ended.
#[must_use]
pub fn terminate_failed(id: &str, cause: impl Display) -> ApiError {
    failed(
        "ERR_TERMINATE_WORKFLOW",
        format!("error terminating workflow '{id}': {cause}"),
    )
}

/// The event could not be raised.
#[must_use]
pub fn raise_event_failed(id: &str, cause: impl Display) -> ApiError {
    failed(
        "ERR_RAISE_EVENT_WORKFLOW",
        format!("error raising event on workflow '{id}': {cause}"),
    )
}

/// The instance could not be paused.
#[must_use]
pub fn pause_failed(id: &str, cause: impl Display) -> ApiError {
    failed(
        "ERR_PAUSE_WORKFLOW",
        format!("error pausing workflow {id}: {cause}"),
    )
}

/// The instance could not be resumed.
#[must_use]
pub fn resume_failed(id: &str, cause: impl Display) -> ApiError {
    failed(
        "ERR_RESUME_WORKFLOW",
        format!("error resuming workflow {id}: {cause}"),
    )
}

/// The instance could not be purged.
#[must_use]
pub fn purge_failed(id: &str, cause: impl Display) -> ApiError {
    failed(
        "ERR_PURGE_WORKFLOW",
        format!("error purging workflow {id}: {cause}"),
    )
}
