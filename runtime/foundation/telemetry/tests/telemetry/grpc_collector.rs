//! A tonic server: what real collectors are made of.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tonic::{body::Body, codegen::BoxFuture, server::Grpc};

use crate::otlp::{Reply, Request};

pub(crate) type Calls = Arc<Mutex<Vec<(tonic::metadata::MetadataMap, Request)>>>;

#[derive(Clone, Default)]
pub(crate) struct Collector(pub(crate) Calls);

impl tonic::server::NamedService for Collector {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl tonic::server::UnaryService<Request> for Collector {
    type Response = Reply;
    type Future = BoxFuture<tonic::Response<Reply>, tonic::Status>;

    fn call(&mut self, request: tonic::Request<Request>) -> Self::Future {
        let (metadata, _, message) = request.into_parts();
        self.0.lock().unwrap().push((metadata, message));
        Box::pin(async { Ok(tonic::Response::new(Reply {})) })
    }
}

impl tonic::codegen::Service<http::Request<Body>> for Collector {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let collector = self.clone();
        Box::pin(async move {
            assert!(request.uri().path().ends_with("/Export"));
            let codec = tonic_prost::ProstCodec::<Reply, Request>::default();
            Ok(Grpc::new(codec).unary(collector, request).await)
        })
    }
}
