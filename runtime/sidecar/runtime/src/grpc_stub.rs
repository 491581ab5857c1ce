#![allow(missing_debug_implementations, unused, missing_docs, unreachable_pub)]
use std::sync::Arc;
use outrigger_sidecar_http::Bound;
use tokio_util::sync::CancellationToken;
#[derive(Clone)]
pub struct GrpcServer;
pub struct GrpcOptions<A,B,C,D,E,F,G,H,I,J,K,L,M,N,O,P,Q,R,S> { pub app_id:A, pub state:B, pub pubsub:C, pub secrets:D, pub configuration:E, pub lock:F, pub crypto:G, pub bindings:H, pub conversation:I, pub invocation:J, pub control:K, pub api_token:Option<L>, pub api_rules:M, pub metrics:N, pub tracer:O, pub max_body_size:P, pub read_buffer_size:Q, pub api_log:R, pub x: Option<S> }
impl GrpcServer { pub fn new<T>(_: T) -> Self { Self } }
pub trait ControlApi { fn get_metadata(&self)->outrigger_wire::dapr::proto::runtime::v1::GetMetadataResponse; fn set_metadata(&self, r: outrigger_wire::dapr::proto::runtime::v1::SetMetadataRequest); fn shutdown(&self, force: bool); }
pub async fn serve(_: Bound, _: GrpcServer, c: CancellationToken) { c.cancelled().await }
pub async fn serve_internal(l: tokio::net::TcpListener, s: outrigger_sidecar_invocation::InternalService, _: usize, c: CancellationToken) { s.serve_listener(l, c).await }
pub fn absent_endpoints() -> Vec<outrigger_sidecar_api::Endpoint> { Vec::new() }
