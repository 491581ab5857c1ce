//! Rows of the jobs API; all rich (upstream `pkg/api/errors/scheduler.go`).

use std::{collections::BTreeMap, fmt::Display};

use http::StatusCode;
use tonic::Code;

use crate::{ApiError, Category, Detail};

/// What an error tells beside its text.
pub type Facts = BTreeMap<String, String>;

fn row(reason: &'static str, http: StatusCode, grpc: Code, message: String, facts: Facts) -> ApiError {
    ApiError::new("", Category::Job, http, grpc, message).with_detail(Detail::ErrorInfo {
        reason: reason.into(),
        metadata: Some(facts),
    })
}

fn bad(reason: &'static str, message: &str, facts: Facts) -> ApiError {
    row(
        reason,
        StatusCode::BAD_REQUEST,
        Code::InvalidArgument,
        message.to_owned(),
        facts,
    )
}

fn failed(reason: &'static str, message: String, facts: Facts) -> ApiError {
    row(
        reason,
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::Internal,
        message,
        facts,
    )
}

/// There is no job in the request.
#[must_use]
pub fn job_empty(facts: Facts) -> ApiError {
    bad("DAPR_SCHEDULER_EMPTY", "Job is empty", facts)
}

/// The job has no name.
#[must_use]
pub fn name_empty(facts: Facts) -> ApiError {
    bad("DAPR_SCHEDULER_JOB_NAME_EMPTY", "Name is empty", facts)
}

/// The job has neither schedule nor due time.
#[must_use]
pub fn schedule_empty(facts: Facts) -> ApiError {
    bad("DAPR_SCHEDULER_SCHEDULE_EMPTY", "Schedule is empty", facts)
}

/// The job is named in the body, where only the URL may name it.
#[must_use]
pub fn name_in_body(facts: Facts) -> ApiError {
    bad(
        "DAPR_SCHEDULER_JOB_NAME",
        "Set the job name in the url only",
        facts,
    )
}

/// The job could not be scheduled; `grpc` and `http` are those of the scheduler's answer, internal where it gave none.
#[must_use]
pub fn schedule_failed(facts: Facts, http: StatusCode, grpc: Code, cause: impl Display) -> ApiError {
    row(
        "DAPR_SCHEDULER_SCHEDULE_JOB",
        http,
        grpc,
        format!("failed to schedule job due to: {cause}"),
        facts,
    )
}

/// The job could not be read.
#[must_use]
pub fn get_failed(facts: Facts, cause: impl Display) -> ApiError {
    failed(
        "DAPR_SCHEDULER_GET_JOB",
        format!("failed to get job due to: {cause}"),
        facts,
    )
}

/// The jobs could not be listed.
#[must_use]
pub fn list_failed(facts: Facts, cause: impl Display) -> ApiError {
    failed(
        "DAPR_SCHEDULER_LIST_JOBS",
        format!("failed to list jobs due to: {cause}"),
        facts,
    )
}

/// The job could not be deleted.
#[must_use]
pub fn delete_failed(facts: Facts, cause: impl Display) -> ApiError {
    failed(
        "DAPR_SCHEDULER_DELETE_JOB",
        format!("failed to delete job due to: {cause}"),
        facts,
    )
}
