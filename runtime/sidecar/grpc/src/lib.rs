//! The public gRPC server: `dapr.proto.runtime.v1.Dapr`, the durable task protocol, reflection, and everything else
//! handed to the invocation proxy.
//!
//! It is one hyper service by path (design D1). A call passes, outermost first (upstream `pkg/api/grpc/server.go`):
//! bound on calls under way → API lists → API token → tracing → metrics → API log → message limits → method. A
//! method is one line that asks the service of its block; engines that may be absent plug in by the traits of this
//! crate, and [`absent`] answers in their place.

pub mod absent;
mod answer;
mod api;
mod call;
mod erased;
pub mod http_jobs;
mod http_proto;
pub mod http_workflows;
mod meter;
mod methods;
mod reflection;
mod seam;
mod serve;
mod server;
mod token;
mod trace_layer;

pub use methods::api_rules;
pub use seam::{
    ActorEvents, ActorsApi, ControlApi, JobScope, JobsApi, TaskHub, WorkflowsApi, check_actor_type,
    check_instance_id, check_name,
};
pub use serve::serve;
pub use server::{GrpcOptions, GrpcServer, MAX_IN_FLIGHT};
