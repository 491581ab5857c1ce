//! `MCPServer` resources: checked, resolved and shown by the metadata API (upstream `pkg/runtime/processor/mcpservers.go`).
//!
//! Their tools run as workflows. Without a workflow engine a server cannot be served, which upstream says in the same
//! way where no placement service is given: the sidecar ends, unless the resource says `ignoreErrors`.

use std::collections::BTreeSet;

use outrigger_resources::{
    kinds::{McpServer, Resource as _},
    references::resolve,
};
use parking_lot::RwLock;

use crate::{assembly::Assembly, lifecycle::Fatal};

const LOG: &str = "dapr.runtime.processor";

/// The names of those that are loaded.
#[derive(Debug, Default)]
pub(crate) struct McpServers(RwLock<BTreeSet<String>>);

impl McpServers {
    /// In order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.read().iter().cloned().collect()
    }

    /// Takes one out.
    pub(crate) fn remove(&self, name: &str) {
        self.0.write().remove(name);
    }
}

/// Loads those that there are at the start; answers with them.
///
/// # Errors
/// When one cannot be served that the sidecar shall not do without.
pub(crate) async fn load(assembly: &Assembly) -> Result<Vec<McpServer>, Fatal> {
    tracing::info!(target: "dapr.runtime", "Loading MCP servers…");
    let servers = assembly
        .resources
        .mcp_servers
        .as_ref()
        .map_err(|error| format!("failed to load mcpservers: {error}"))?;
    for server in servers {
        tracing::info!(target: "dapr.runtime", "Found MCP server: {}", server.name());
        put(assembly, server).await?;
    }
    Ok(servers.clone())
}

/// Puts one in place of the one of its name.
///
/// # Errors
/// As [`load`].
pub(crate) async fn put(assembly: &Assembly, server: &McpServer) -> Result<(), Fatal> {
    assembly.mcp_servers.remove(server.name());
    let Err(error) = process(assembly, server).await else {
        return Ok(());
    };
    let error = format!("process MCPServer {} error: {error}", server.name());
    if server.spec.ignore_errors {
        tracing::error!(target: LOG, "Ignoring error processing MCPServer: {error}");
        return Ok(());
    }
    tracing::warn!(target: LOG, "Error processing MCPServer, daprd will exit gracefully: {error}");
    Err(error)
}

async fn process(assembly: &Assembly, server: &McpServer) -> Result<(), String> {
    let name = server.name();
    server
        .validate()
        .map_err(|error| format!("MCPServer {name:?} failed validation: {error}"))?;
    server
        .check_security(&assembly.options.base_dir, false)
        .map_err(|error| format!("MCPServer {name:?} failed security validation: {error}"))?;
    let mut server = server.clone();
    let resolution = resolve(&mut server, &assembly.loader.references, &assembly.loader.tables).await;
    if let Some(store) = resolution.waiting_for {
        tracing::warn!(target: LOG, "MCPServer {name} names secret store {store}, which is not loaded");
    }
    assembly.mcp_servers.0.write().insert(name.to_owned());
    tracing::info!(target: LOG, "MCPServer loaded: {}", server.log_name());
    Err(format!(
        "MCPServer {name:?}: failed to register workflows: workflows are not served by this version"
    ))
}
