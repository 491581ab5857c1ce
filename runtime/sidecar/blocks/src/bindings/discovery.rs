//! Asks the app which input bindings it takes.

use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use outrigger_sidecar_api::Body;
use outrigger_sidecar_app_channel::{AppChannel, GrpcApp};

/// How long the app may think about it (upstream `startInputBinding`).
const TIMEOUT: Duration = Duration::from_secs(3);

/// Whether an HTTP app listens at the route: any success, or "not by this method".
pub(super) async fn http_app_takes(app: &AppChannel, route: &str) -> Result<bool, String> {
    let path = super::delivery::path(route);
    let ask = async {
        let request = Request::builder()
            .method(Method::OPTIONS)
            .uri(&path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::Empty)
            .map_err(|error| error.to_string())?;
        let response = app.send(request).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(response.status().is_success() || response.status() == StatusCode::METHOD_NOT_ALLOWED)
    };
    tokio::time::timeout(TIMEOUT, ask)
        .await
        .unwrap_or_else(|_| Err("context deadline exceeded".to_owned()))
        .map_err(|error| {
            format!(
                "could not invoke OPTIONS method on input binding subscription endpoint {path:?}: {error}"
            )
        })
}

/// The bindings a gRPC app lists; `None` when it does not say.
pub(super) async fn grpc_app_lists(app: &GrpcApp) -> Option<Vec<String>> {
    let mut client = app.callback();
    let listed = tokio::time::timeout(TIMEOUT, client.list_input_bindings(()))
        .await
        .ok()?;
    listed.ok().map(|answer| answer.into_inner().bindings)
}
