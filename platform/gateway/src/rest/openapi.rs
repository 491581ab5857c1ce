//! The OpenAPI document of everything that the HTTP port serves now, and a page that reads it (G7.1).

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::response::{Html, IntoResponse as _};
use axum::routing::get;
use http::{HeaderValue, header};
use outrigger_platform_transcoding::{Info, LiveRoutes, merge, openapi};
use outrigger_platform_wire::{API_VERSION, descriptor_pool};
use serde_json::{Value, json};

use crate::api::NAMES;

const PAGE: &str = include_str!("swagger.html");
/// The page's own script and style, and this host.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

pub(super) fn routes(live: Arc<LiveRoutes>) -> Router {
    let told = move || {
        let document = document(&live);
        async move { Json(document) }
    };
    let page = || async { ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(PAGE)).into_response() };
    Router::new()
        .route("/openapi.json", get(told.clone()))
        .route("/swagger/v1/swagger.json", get(told))
        .route("/swagger", get(page))
        .route("/swagger/", get(page))
        .route("/swagger/index.html", get(page))
}

/// The document: the gateway's own routes, then those of backends.
pub fn document(live: &LiveRoutes) -> Value {
    let info = Info {
        title: "Virtufin gateway".to_owned(),
        version: API_VERSION.to_owned(),
        description: "The gateway's own services, and those behind it that have HTTP rules.".to_owned(),
    };
    let mut whole = openapi(descriptor_pool(), &NAMES, &info);
    merge(&mut whole, plain_routes());
    for mount in live.mounts().iter() {
        let pool = mount.transcoder.pool();
        let mut services: Vec<String> = mount
            .transcoder
            .rules()
            .map(|rule| rule.method.parent_service().full_name().to_owned())
            .collect();
        services.sort();
        services.dedup();
        merge(&mut whole, openapi(pool, &services, &Info::default()));
    }
    whole
}

/// The routes that no rule describes.
fn plain_routes() -> Value {
    let path =
        |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    let error = json!({
        "description": "A failed call.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/google.rpc.Status"}}},
    });
    let operation = |id: &str, summary: &str, parameters: Value, content: &str| {
        json!({
            "operationId": id, "summary": summary, "tags": ["grpc"], "parameters": parameters,
            "responses": {
                "200": {"description": "The answer.", "content": {content: {"schema": {}}}},
                "default": error,
            },
        })
    };
    let gone = |id: &str, summary: &str, parameters: Value| {
        json!({
            "operationId": id, "summary": summary, "tags": ["grpc"], "parameters": parameters,
            "responses": {"204": {"description": "Done."}, "default": error},
        })
    };
    let side =
        json!({"name": "type", "in": "query", "schema": {"type": "string", "enum": ["input", "output"]}});
    let health = |id: &str, summary: &str| {
        let answer = json!({"description": "How it is.", "content": {"application/json": {"schema": {"type": "object"}}}});
        json!({"operationId": id, "summary": summary, "tags": ["health"], "responses": {"200": answer, "503": answer}})
    };
    let mut call = operation(
        "grpc_call",
        "Calls a method of a backend with JSON.",
        json!([]),
        "application/json",
    );
    call["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": {
        "type": "object",
        "required": ["service", "method"],
        "properties": {
            "service": {"type": "string"}, "method": {"type": "string"}, "requestData": {"type": "object"},
        },
    }}}});
    json!({
        "tags": [
            {"name": "grpc", "description": "Backends by their own descriptors."},
            {"name": "health", "description": "How the gateway is."},
        ],
        "paths": {
            "/v1/grpc/{service}/methods": {"get": operation(
                "grpc_methods", "Methods of a backend.", json!([path("service")]), "application/json")},
            "/v1/grpc/{service}/schema/{method}": {"get": operation(
                "grpc_schema", "Fields of a method's message.",
                json!([path("service"), path("method"), side]), "application/json")},
            "/v1/grpc/{service}/protos": {"get": operation(
                "grpc_protos", "The backend's descriptors.", json!([path("service")]), "application/x-protobuf")},
            "/v1/grpc/call": {"post": call},
            "/v1/grpc/{service}/cache": {"delete": gone(
                "grpc_forget", "Reads a backend's descriptors anew.", json!([path("service")]))},
            "/v1/grpc/cache": {"delete": gone("grpc_forget_all", "Reads all descriptors anew.", json!([]))},
            "/health": {"get": health("health", "All checks.")},
            "/health/ready": {"get": health("health_ready", "The checks that requests rest on.")},
            "/health/live": {"get": health("health_live", "Whether the process answers.")},
        },
    })
}
