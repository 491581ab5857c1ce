//! `/v1/grpc/…`: backends' methods, schemas and descriptors for those who speak HTTP only (R4).

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use http::{HeaderValue, StatusCode, header};
use outrigger_platform_transcoding::{code_name, error_response, http_status};
use outrigger_platform_wire::virtufin::FieldSchema;
use prost_reflect::DescriptorPool;
use serde::Deserialize;
use serde_json::{Value, json};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::api::{GatewayApi, describe, schema};

const MAX_BODY: usize = 4 << 20;

pub(super) fn routes(api: GatewayApi) -> Router {
    Router::new()
        .route("/v1/grpc/{service}/methods", get(methods))
        .route("/v1/grpc/{service}/schema/{*method}", get(schema_of))
        .route("/v1/grpc/{service}/protos", get(protos))
        .route("/v1/grpc/{service}/cache", delete(forget))
        .route("/v1/grpc/cache", delete(forget_all))
        .route("/v1/grpc/call", post(call))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(api)
}

/// A status as an HTTP answer.
struct Failed(Status);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        error_response(&DescriptorPool::new(), &self.0)
    }
}

async fn methods(State(api): State<GatewayApi>, Path(service): Path<String>) -> Result<Json<Value>, Failed> {
    let methods = api.methods(&service).await.map_err(Failed)?;
    let told: Vec<Value> = methods
        .iter()
        .map(|method| {
            let info = describe(method);
            json!({
                "name": info.name,
                "fullName": info.full_name,
                "inputType": info.input_type,
                "outputType": info.output_type,
                "streamingType": match (info.is_client_streaming, info.is_server_streaming) {
                    (false, false) => "unary",
                    (false, true) => "server",
                    (true, false) => "client",
                    (true, true) => "bidi",
                },
            })
        })
        .collect();
    Ok(Json(json!({"service": service, "methods": told})))
}

#[derive(Deserialize)]
struct Side {
    #[serde(rename = "type", default)]
    side: String,
}

async fn schema_of(
    State(api): State<GatewayApi>,
    Path((service, method)): Path<(String, String)>,
    Query(Side { side }): Query<Side>,
) -> Result<Json<Value>, Failed> {
    let service = api.backends.service(&service).map_err(Failed)?;
    let target = api.backends.method(&service, &method).await.map_err(Failed)?;
    let told = schema(&target.0, &side).map_err(Failed)?;
    Ok(Json(json!({
        "inputTypeName": told.input_type_name,
        "outputTypeName": told.output_type_name,
        "schemaType": told.schema_type,
        "fields": told.fields.iter().map(field).collect::<Vec<_>>(),
    })))
}

fn field(field: &FieldSchema) -> Value {
    json!({
        "name": field.name,
        "type": field.r#type,
        "typeName": field.type_name,
        "isRepeated": field.is_repeated,
        "isOptional": field.is_optional,
        "oneofGroup": field.oneof_group,
        "oneofCases": field.oneof_cases.iter().map(|case| json!({
            "name": case.name,
            "type": case.r#type,
            "typeName": case.type_name,
            "fieldNumber": case.field_number,
        })).collect::<Vec<_>>(),
    })
}

/// The encoded `FileDescriptorSet`, as protoc's `--descriptor_set_out` writes it.
async fn protos(State(api): State<GatewayApi>, Path(service): Path<String>) -> Result<Response, Failed> {
    let service = api.backends.service(&service).map_err(Failed)?;
    let descriptors = api.backends.descriptors(&service).await.map_err(Failed)?;
    let kind = HeaderValue::from_static("application/x-protobuf");
    Ok(([(header::CONTENT_TYPE, kind)], descriptors.pool.encode_to_vec()).into_response())
}

async fn forget(State(api): State<GatewayApi>, Path(service): Path<String>) -> Result<StatusCode, Failed> {
    let service = api.backends.service(&service).map_err(Failed)?;
    api.backends.forget(Some(&service.name));
    Ok(StatusCode::NO_CONTENT)
}

async fn forget_all(State(api): State<GatewayApi>) -> StatusCode {
    api.backends.forget(None);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallRequest {
    service: String,
    method: String,
    /// A message, or text that holds one as JSON.
    #[serde(default, alias = "request_data", alias = "data", alias = "request")]
    request_data: Value,
}

/// `{error, statusCode, data}`; the HTTP status is that of the call's outcome.
async fn call(
    State(api): State<GatewayApi>,
    request: Result<Json<CallRequest>, axum::extract::rejection::JsonRejection>,
) -> Response {
    let outcome = match request {
        Ok(Json(request)) => {
            let json = match request.request_data {
                Value::Null => String::new(),
                Value::String(text) => text,
                other => other.to_string(),
            };
            api.invoke_as_json(&request.service, &request.method, MetadataMap::new(), &json)
                .await
        }
        Err(rejection) => {
            let body =
                json!({"error": rejection.body_text(), "statusCode": "INVALID_ARGUMENT", "data": null});
            return (rejection.status(), Json(body)).into_response();
        }
    };
    let (status, body) = match outcome {
        Ok(answer) => {
            let data: Value = serde_json::from_str(&answer).unwrap_or_default();
            (
                StatusCode::OK,
                json!({"error": null, "statusCode": "OK", "data": data}),
            )
        }
        Err(status) => (
            http_status(status.code()),
            json!({"error": status.message(), "statusCode": code_name(status.code()), "data": null}),
        ),
    };
    (status, Json(body)).into_response()
}
