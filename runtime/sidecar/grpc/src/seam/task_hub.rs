//! The durable task protocol (`TaskHubSidecarService`), which workflow SDKs speak.

use http::{Request, Response};
use outrigger_wire::durabletask::task_hub_sidecar_service_server::{
    TaskHubSidecarService, TaskHubSidecarServiceServer,
};
use tonic::body::Body;

use crate::erased::Erased;

/// An implementation of the service, its type erased. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TaskHub(Erased);

impl TaskHub {
    /// Serves this implementation.
    pub fn new<T: TaskHubSidecarService>(service: T) -> Self {
        // Messages are bounded by the server around it.
        Self(Erased::new(
            TaskHubSidecarServiceServer::new(service)
                .max_decoding_message_size(usize::MAX)
                .max_encoding_message_size(usize::MAX),
        ))
    }

    pub(crate) async fn call(&self, request: Request<Body>) -> Response<Body> {
        self.0.call(request).await
    }
}
