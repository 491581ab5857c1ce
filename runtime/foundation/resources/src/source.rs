//! Where resources come from.

use std::{path::PathBuf, sync::Arc};

use futures::future::BoxFuture;

use crate::{
    configuration::Configuration,
    decode::{Decoder, Dialect},
    finding::{Finding, Warning},
    kinds::{Component, HttpEndpoint, McpServer, Resiliency, Resource, Subscription, WorkflowAccessPolicy},
    yaml::Node,
};

/// Why a kind could not be loaded; the text is upstream's.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// A directory cannot be read.
    #[error("open {}: {}", path.display(), crate::configuration::io_text(source))]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// Names that are taken, one message each.
    #[error("{}", .0.join("\n"))]
    Duplicates(Vec<String>),
    /// Another source's trouble.
    #[error("{0}")]
    Source(String),
}

/// One load of everything a sidecar may use, by kind; a kind fails by itself.
///
/// What a failed kind means is the sidecar's business: fatal for most, a warning for HTTP endpoints (wire.md §19).
#[derive(Debug, Clone)]
pub struct Resources {
    /// Components for this app.
    pub components: Result<Vec<Component>, LoadError>,
    /// Subscriptions of all apps: scopes are looked at later. In the order of directory, file and document.
    pub subscriptions: Result<Vec<Subscription>, LoadError>,
    /// HTTP endpoints for this app.
    pub http_endpoints: Result<Vec<HttpEndpoint>, LoadError>,
    /// Resiliency policies for this app.
    pub resiliencies: Result<Vec<Resiliency>, LoadError>,
    /// Configurations lying among the resources; only hot reload looks at them.
    pub configurations: Result<Vec<Configuration>, LoadError>,
    /// MCP servers for this app.
    pub mcp_servers: Result<Vec<McpServer>, LoadError>,
    /// Workflow access policies for this app.
    pub workflow_access_policies: Result<Vec<WorkflowAccessPolicy>, LoadError>,
    /// What was skipped or suspicious.
    pub warnings: Vec<Warning>,
}

impl Resources {
    /// The first kind's error, in upstream's order of loading.
    #[must_use]
    pub fn first_error(&self) -> Option<&LoadError> {
        [
            self.components.as_ref().err(),
            self.subscriptions.as_ref().err(),
            self.mcp_servers.as_ref().err(),
            self.configurations.as_ref().err(),
            self.http_endpoints.as_ref().err(),
            self.resiliencies.as_ref().err(),
            self.workflow_access_policies.as_ref().err(),
        ]
        .into_iter()
        .flatten()
        .next()
    }
}

/// A place resources come from: directories now, the operator's streams in Kubernetes.
pub trait ResourceSource: Send + Sync + std::fmt::Debug {
    /// Reads everything. Safe to drop at any point.
    fn load(&self) -> BoxFuture<'_, Resources>;
}

/// A resource from the operator's JSON, with what is suspicious in it.
///
/// # Errors
/// With the first value of a wrong type.
pub fn resource_from_json<T: Resource>(json: &serde_json::Value) -> Result<(T, Vec<Finding>), Finding> {
    let mut decoder = Decoder::new(Dialect::Json);
    let mut resource = T::default();
    resource.decode(&Node::from_json(json), &mut decoder);
    match decoder.errors.into_iter().next() {
        Some(error) => Err(error),
        None => Ok((resource, decoder.findings)),
    }
}
