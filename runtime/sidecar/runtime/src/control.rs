//! What the app may do with its sidecar: shut it down, annotate it.

use std::{sync::Arc, time::Duration};

use http::{Method, Response};
use outrigger_sidecar_api::{ApiError, ApiRequest, Body, Endpoint, Group, Reply, handler};
use outrigger_types::is_truthy;
use outrigger_wire::dapr::proto::runtime::v1::{GetMetadataResponse, SetMetadataRequest};
use tokio_util::sync::CancellationToken;

use crate::metadata::MetadataApi;

const GROUP: Group = Group {
    name: "shutdown",
    version: "v1",
};
const POST: &[Method] = &[Method::POST];
/// Between the answer to a forced shutdown and the end, so that the answer leaves.
const FORCE_DELAY: Duration = Duration::from_millis(100);

/// Shutdown and metadata.
#[derive(Debug)]
pub(crate) struct Control {
    metadata: Arc<MetadataApi>,
    stop: CancellationToken,
    force: CancellationToken,
}

impl Control {
    pub(crate) fn new(metadata: Arc<MetadataApi>, stop: CancellationToken, force: CancellationToken) -> Self {
        Self {
            metadata,
            stop,
            force,
        }
    }

    pub(crate) fn endpoints(self: &Arc<Self>) -> Vec<Endpoint> {
        vec![Endpoint::new(
            POST,
            "v1.0",
            "shutdown",
            GROUP,
            "Shutdown",
            handler(self, Self::http_shutdown),
        )]
    }

    async fn http_shutdown(self: Arc<Self>, request: ApiRequest) -> Result<Response<Body>, ApiError> {
        self.begin(is_truthy(request.header("dapr-force-shutdown")));
        Ok(Reply::no_content())
    }

    fn begin(&self, force: bool) {
        if force {
            tracing::warn!(
                target: "dapr.api",
                "Force shutdown requested, exiting immediately without graceful shutdown"
            );
            let force = self.force.clone();
            tokio::spawn(async move {
                tokio::time::sleep(FORCE_DELAY).await;
                force.cancel();
            });
        } else {
            tracing::info!(target: "dapr.api", "Shutdown requested via API");
            self.stop.cancel();
        }
    }
}

impl outrigger_sidecar_grpc::ControlApi for Control {
    fn get_metadata(&self) -> GetMetadataResponse {
        self.metadata.grpc_get()
    }

    fn set_metadata(&self, request: SetMetadataRequest) {
        self.metadata.set(&request.key, request.value);
    }

    fn shutdown(&self, force: bool) {
        self.begin(force);
    }
}
