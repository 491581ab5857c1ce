//! Rows of the state API; the rich ones follow upstream `pkg/api/errors/state.go`.

use std::{collections::BTreeMap, fmt::Display};

use http::StatusCode;
use tonic::Code;

use crate::{ApiError, Category, Detail};

fn row(code: &'static str, http: StatusCode, grpc: Code, message: String) -> ApiError {
    ApiError::new(code, Category::State, http, grpc, message)
}

fn resource(store: impl Display) -> Detail {
    Detail::ResourceInfo {
        resource_type: "state",
        resource_name: store.to_string(),
        owner: String::new(),
        description: String::new(),
    }
}

fn reason(reason: &'static str, metadata: Option<BTreeMap<String, String>>) -> Detail {
    Detail::ErrorInfo {
        reason: reason.into(),
        metadata,
    }
}

fn app(app_id: &str) -> Option<BTreeMap<String, String>> {
    (!app_id.is_empty()).then(|| BTreeMap::from([("appID".to_owned(), app_id.to_owned())]))
}

/// No state store of that name.
#[must_use]
pub fn not_found(store: impl Display, app_id: &str) -> ApiError {
    row(
        "ERR_STATE_STORE_NOT_FOUND",
        StatusCode::BAD_REQUEST,
        Code::InvalidArgument,
        format!("state store {store} is not found"),
    )
    .with_detail(reason("DAPR_STATE_NOT_FOUND", app(app_id)))
}

/// No state store at all.
#[must_use]
pub fn not_configured(store: impl Display, app_id: &str) -> ApiError {
    row(
        "ERR_STATE_STORE_NOT_CONFIGURED",
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::FailedPrecondition,
        format!("state store {store} is not configured"),
    )
    .with_detail(reason("DAPR_STATE_NOT_CONFIGURED", app(app_id)))
}

/// A key that may not be.
#[must_use]
pub fn invalid_key(store: impl Display, key: impl Display, message: impl Display) -> ApiError {
    row(
        "ERR_MALFORMED_REQUEST",
        StatusCode::BAD_REQUEST,
        Code::InvalidArgument,
        message.to_string(),
    )
    .with_detail(Detail::BadRequest {
        field: key.to_string(),
        description: message.to_string(),
    })
    .with_detail(resource(store))
    .with_detail(reason("DAPR_STATE_ILLEGAL_KEY", None))
}

/// The store has no transactions.
#[must_use]
pub fn transactions_not_supported(store: impl Display) -> ApiError {
    row(
        "ERR_STATE_STORE_NOT_SUPPORTED",
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unimplemented,
        format!("state store {store} doesn't support transactions"),
    )
    .with_detail(Detail::Help {
        description: "Check the list of state stores and the features they support",
        url: "https://docs.dapr.io/reference/components-reference/supported-state-stores/",
    })
    .with_detail(resource(store))
    .with_detail(reason("DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED", None))
}

/// More operations than the store takes in one transaction.
#[must_use]
pub fn too_many_operations(store: impl Display, count: usize, max: usize) -> ApiError {
    row(
        "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS",
        StatusCode::BAD_REQUEST,
        Code::InvalidArgument,
        format!("the transaction contains {count} operations, which is more than what the state store supports: {max}"),
    )
    .with_detail(resource(store))
    .with_detail(reason(
        "DAPR_STATE_TOO_MANY_TRANSACTIONS",
        Some(BTreeMap::from([
            ("currentOpsTransaction".to_owned(), count.to_string()),
            ("maxOpsPerTransaction".to_owned(), max.to_string()),
        ])),
    ))
}

/// The store cannot search.
#[must_use]
pub fn query_unsupported(store: impl Display) -> ApiError {
    row(
        "ERR_STATE_STORE_NOT_SUPPORTED",
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::Internal,
        "state store does not support querying".to_owned(),
    )
    .with_detail(resource(store))
    .with_detail(reason("DAPR_STATE_QUERYING_NOT_SUPPORTED", None))
}

/// The search failed.
#[must_use]
pub fn query_failed(store: impl Display, cause: impl Display) -> ApiError {
    row(
        "ERR_STATE_QUERY",
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::Internal,
        format!("state store {store} query failed: {cause}"),
    )
    .with_detail(resource(store))
    .with_detail(reason("DAPR_STATE_QUERY_FAILED", None))
}

/// Reading failed.
#[must_use]
pub fn get_failed(key: impl Display, store: impl Display, cause: impl Display) -> ApiError {
    row(
        "ERR_STATE_GET",
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::Internal,
        format!("fail to get {key} from state store {store}: {cause}"),
    )
}

/// Deleting failed.
#[must_use]
pub fn delete_failed(key: impl Display, cause: impl Display) -> ApiError {
    row(
        "ERR_STATE_DELETE",
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::Internal,
        format!("failed deleting state with key {key}: {cause}"),
    )
}

/// Saving failed.
#[must_use]
pub fn save_failed(store: impl Display, cause: impl Display) -> ApiError {
    row(
        "ERR_STATE_SAVE",
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::Internal,
        format!("failed saving state in state store {store}: {cause}"),
    )
}

/// Deleting many failed.
#[must_use]
pub fn bulk_delete_failed(store: impl Display, cause: impl Display) -> ApiError {
    row(
        "ERR_STATE_BULK_DELETE",
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::Internal,
        format!("failed deleting state in state store {store}: {cause}"),
    )
}

/// An operation a transaction does not know.
#[must_use]
pub fn operation_not_supported(operation: impl Display) -> ApiError {
    row(
        "ERR_NOT_SUPPORTED_STATE_OPERATION",
        StatusCode::BAD_REQUEST,
        Code::Unimplemented,
        format!("operation type {operation} not supported"),
    )
}

/// A transaction failed.
#[must_use]
pub fn transaction_failed(cause: impl Display) -> ApiError {
    row(
        "ERR_STATE_TRANSACTION",
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::Internal,
        format!("error while executing state transaction: {cause}"),
    )
}
