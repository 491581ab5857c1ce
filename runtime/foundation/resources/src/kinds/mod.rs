//! The resource kinds as typed values; each file is one kind (wire.md §13–§15).

mod component;
mod http_endpoint;
mod mcp_rules;
mod mcp_server;
mod name_value;
mod object;
mod resiliency;
mod subscription;
mod workflow_access_policy;

pub use component::{Component, ComponentSpec, DEFAULT_INIT_TIMEOUT, component_log_name};
pub use http_endpoint::{HttpEndpoint, HttpEndpointSpec, Tls, TlsDocument};
pub use mcp_rules::InvalidMcpServer;
pub use mcp_server::{
    McpAuth, McpEndpoint, McpHook, McpMiddleware, McpMiddlewareWorkflow, McpOAuth2, McpOwner, McpRemote,
    McpServer, McpServerCatalog, McpServerSpec, McpStdio, Spiffe, SpiffeJwt,
};
pub use name_value::{DynamicValue, NameValue, SecretKeyRef};
pub use object::{Auth, ObjectMeta, Origin, Resource};
pub use resiliency::{
    ActorPolicyNames, CircuitBreaker, ComponentPolicyNames, EndpointPolicyNames, Policies, PolicyNames,
    Resiliency, ResiliencySpec, Retry, RetryMatching, Targets,
};
pub(crate) use subscription::SubscriptionV1;
pub use subscription::{BulkSubscribe, Routes, Rule, Subscription, SubscriptionSpec};
pub use workflow_access_policy::{
    ActivityRule, WorkflowAccessPolicy, WorkflowAccessPolicyRule, WorkflowAccessPolicySpec, WorkflowCaller,
    WorkflowRule,
};
