//! gRPC statuses as HTTP answers, with the codes and the body that `google/rpc/code.proto` and
//! `google/rpc/status.proto` give.

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode, header};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use tonic::{Code, Status};

/// The HTTP status of a gRPC code.
pub fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // "Client closed request", which has no registered number.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A code's name as gRPC writes it, such as `NOT_FOUND`.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The JSON of a status: `{"code":5,"message":"…","details":[…]}`. Details whose type neither `pool` nor
/// google.rpc has are `{"@type":…,"value":<Base64>}`.
pub fn status_json(pool: &DescriptorPool, status: &Status) -> Value {
    let details = tonic_types::pb::Status::decode(status.details())
        .map(|status| status.details)
        .unwrap_or_default();
    // Their types are looked up only when there are some: errors without details are the common ones.
    let common = (!details.is_empty())
        .then(|| DescriptorPool::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).ok())
        .flatten();
    let details: Vec<Value> = details
        .iter()
        .map(|detail| {
            let name = detail.type_url.rsplit('/').next().unwrap_or_default();
            [Some(pool), common.as_ref()]
                .into_iter()
                .flatten()
                .filter_map(|pool| pool.get_message_by_name(name))
                .find_map(|kind| {
                    any(
                        &detail.type_url,
                        &DynamicMessage::decode(kind, &detail.value[..]).ok()?,
                    )
                })
                .unwrap_or_else(|| json!({"@type": detail.type_url, "value": STANDARD.encode(&detail.value)}))
        })
        .collect();
    json!({"code": i32::from(status.code()), "message": status.message(), "details": details})
}

fn any(type_url: &str, message: &DynamicMessage) -> Option<Value> {
    let mut json = serde_json::to_value(message).ok()?;
    match json.as_object_mut() {
        Some(object) => {
            object.insert("@type".to_owned(), Value::String(type_url.to_owned()));
            Some(json)
        }
        None => Some(json!({"@type": type_url, "value": json})),
    }
}

/// The HTTP answer of a failed call.
pub fn error_response(pool: &DescriptorPool, status: &Status) -> Response {
    error_with(pool, status, http_status(status.code()))
}

pub(crate) fn error_with(pool: &DescriptorPool, status: &Status, code: StatusCode) -> Response {
    let body = status_json(pool, status).to_string();
    let json = HeaderValue::from_static("application/json");
    (code, [(header::CONTENT_TYPE, json)], body).into_response()
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    #[test]
    fn statuses_have_googles_numbers() {
        for (code, http) in [
            (0, 200),
            (1, 499),
            (2, 500),
            (3, 400),
            (4, 504),
            (5, 404),
            (6, 409),
            (7, 403),
            (8, 429),
            (9, 400),
            (10, 409),
            (11, 400),
            (12, 501),
            (13, 500),
            (14, 503),
            (15, 500),
            (16, 401),
        ] {
            assert_eq!(http_status(Code::from(code)).as_u16(), http, "code {code}");
        }
    }

    #[test]
    fn details_are_told_by_their_types() {
        let details =
            ErrorDetails::with_error_info("STALE", "virtufin", [("key".to_owned(), "a".to_owned())]);
        let status = Status::with_error_details(Code::Aborted, "no", details);
        assert_eq!(
            status_json(&DescriptorPool::new(), &status),
            json!({"code": 10, "message": "no", "details": [{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "STALE", "domain": "virtufin", "metadata": {"key": "a"},
            }]})
        );
    }
}
