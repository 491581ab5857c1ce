//! Server reflection, v1 and v1alpha, of the services that this server has.

use std::sync::OnceLock;

use http::{Request, Response};
use outrigger_wire::DESCRIPTORS;
use tonic::{Status, body::Body};
use tonic_reflection::server::Builder;

use crate::{answer, erased::Erased};

/// What clients are told of, in grpc-go's order.
const SERVICES: [&str; 4] = [
    "TaskHubSidecarService",
    "dapr.proto.runtime.v1.Dapr",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// Both versions. Made when somebody asks: the tables of names are larger than all else in an idle server.
#[derive(Debug, Default)]
pub(crate) struct Reflection {
    v1: OnceLock<Option<Erased>>,
    v1alpha: OnceLock<Option<Erased>>,
}

fn builder() -> Builder<'static> {
    SERVICES.into_iter().fold(
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
            .include_reflection_service(false),
        Builder::with_service_name,
    )
}

impl Reflection {
    pub(crate) async fn v1(&self, request: Request<Body>) -> Response<Body> {
        call(
            self.v1
                .get_or_init(|| builder().build_v1().ok().map(Erased::new))
                .as_ref(),
            request,
        )
        .await
    }

    pub(crate) async fn v1alpha(&self, request: Request<Body>) -> Response<Body> {
        call(
            self.v1alpha
                .get_or_init(|| builder().build_v1alpha().ok().map(Erased::new))
                .as_ref(),
            request,
        )
        .await
    }
}

async fn call(service: Option<&Erased>, request: Request<Body>) -> Response<Body> {
    match service {
        Some(service) => service.call(request).await,
        // The descriptors are built in; a test holds them.
        None => answer::status(Status::internal("the built-in descriptors cannot be read")),
    }
}
