//! HTTP endpoints whose bodies are messages in JSON (upstream `pkg/api/http/universal.go`).

use http::{Response, StatusCode};
use outrigger_sidecar_api::{ApiError, ApiRequest, Body, Reply, errors};
use outrigger_wire::json::{self, Parse};
use prost::Message;

/// Reads the body; unknown fields are skipped, an empty body is an empty message.
pub(crate) async fn read<M: Message + Default>(
    request: &mut ApiRequest,
    full_name: &str,
) -> Result<M, ApiError> {
    let body = request.bytes().await?;
    if body.is_empty() {
        return Ok(M::default());
    }
    json::from_slice(full_name, &body, Parse { ignore_unknown: true }).map_err(errors::malformed_request)
}

/// Answers with a message.
pub(crate) fn reply<M: Message>(
    status: StatusCode,
    full_name: &str,
    message: &M,
) -> Result<Response<Body>, ApiError> {
    let value = json::to_json(full_name, message)
        .map_err(|error| errors::internal(format!("failed to encode response as JSON: {error}")))?;
    let mut response = Reply::json_bytes(value.to_string());
    *response.status_mut() = status;
    Ok(response)
}

/// 202 with an empty message.
pub(crate) fn accepted() -> Response<Body> {
    let mut response = Reply::json_bytes("{}");
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}
