//! Whom a transcoded request is handed to.

use bytes::{Buf as _, BufMut as _, Bytes};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt as _};
use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

/// A gRPC call with its encoded message.
#[derive(Debug, Clone)]
pub struct Call {
    /// `/package.Service/Method`.
    pub path: PathAndQuery,
    /// The request's metadata.
    pub metadata: MetadataMap,
    /// The encoded message.
    pub message: Bytes,
}

/// Encoded answers, in their order.
pub type Messages = BoxStream<'static, Result<Bytes, Status>>;

/// Answers gRPC calls: a channel, services of the same process, a pool.
pub trait Upstream: Send + Sync + 'static {
    /// A call with one answer, and the answer's metadata.
    fn unary(&self, call: Call) -> BoxFuture<'_, Result<(MetadataMap, Bytes), Status>>;

    /// A call with a stream of answers. The stream outlives this borrow; dropping it ends the call.
    fn server_streaming(&self, call: Call) -> BoxFuture<'_, Result<(MetadataMap, Messages), Status>>;
}

/// An [`Upstream`] of anything that speaks gRPC in terms of HTTP: a `tonic::transport::Channel`, or the
/// `tonic::service::Routes` (or axum router) of services in this process.
#[derive(Debug, Clone)]
pub struct GrpcUpstream<S> {
    service: S,
    max_message: usize,
}

impl<S> GrpcUpstream<S> {
    /// Answers of more than `max_message` bytes fail with `OUT_OF_RANGE`, as tonic says it.
    pub fn new(service: S, max_message: usize) -> Self {
        Self { service, max_message }
    }
}

impl<S> Upstream for GrpcUpstream<S>
where
    S: GrpcService<Body> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    S::Error: Send,
{
    fn unary(&self, call: Call) -> BoxFuture<'_, Result<(MetadataMap, Bytes), Status>> {
        Box::pin(async move {
            let mut grpc = self.ready().await?;
            let answer = grpc
                .unary(request(call.metadata, call.message), call.path, Raw)
                .await?;
            let (metadata, message, _) = answer.into_parts();
            Ok((metadata, message))
        })
    }

    fn server_streaming(&self, call: Call) -> BoxFuture<'_, Result<(MetadataMap, Messages), Status>> {
        Box::pin(async move {
            let mut grpc = self.ready().await?;
            let answer = grpc
                .server_streaming(request(call.metadata, call.message), call.path, Raw)
                .await?;
            let (metadata, messages, _) = answer.into_parts();
            Ok((metadata, messages.boxed()))
        })
    }
}

impl<S> GrpcUpstream<S>
where
    S: GrpcService<Body> + Clone,
{
    async fn ready(&self) -> Result<Grpc<S>, Status> {
        let mut grpc = Grpc::new(self.service.clone()).max_decoding_message_size(self.max_message);
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.into().to_string()))?;
        Ok(grpc)
    }
}

fn request(metadata: MetadataMap, message: Bytes) -> Request<Bytes> {
    Request::from_parts(metadata, tonic::Extensions::new(), message)
}

/// Messages as the bytes they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
