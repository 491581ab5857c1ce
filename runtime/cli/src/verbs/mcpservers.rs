//! `outrigger mcpservers`: the MCP servers that the resource files describe (upstream `cmd/mcpservers.go`).

use std::{path::PathBuf, process::ExitCode, time::SystemTime};

use anyhow::Result;
use clap::Args;
use outrigger_resources::{
    kinds::{McpServer, Resource as _},
    survey,
};
use serde::Serialize;

use super::{
    Surroundings,
    cluster::ClusterFlags,
    components::folders,
    list::{age, created},
    wait_for,
};
use crate::{
    output::{self, Format},
    sidecars,
};

/// List MCP servers: those that resource files describe
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger mcpservers\n  outrigger mcpservers --name search --output yaml\n  outrigger mcpservers --resources-path ./resources --output json"
)]
pub(super) struct McpServersFlags {
    /// Only the one of this name
    #[arg(short = 'n', long)]
    name: Option<String>,
    /// Folder of resource files; may be repeated. What `run` would use, and what sidecars use, if not given
    #[arg(long, value_delimiter = ',')]
    resources_path: Vec<PathBuf>,
    /// How to print: table, json or yaml
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// One line: upstream's columns (`kubernetes.MCPServerOutput`), then ours. Headers and credentials are left out of every
/// form: they may hold secrets.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    transport: &'static str,
    url: String,
    scopes: Vec<String>,
    created: String,
    age: String,
    source: String,
}

const HEADINGS: [&str; 8] = [
    "NAMESPACE",
    "NAME",
    "TRANSPORT",
    "URL",
    "SCOPES",
    "CREATED",
    "AGE",
    "SOURCE",
];

pub(super) fn main(flags: &McpServersFlags, around: &Surroundings) -> Result<ExitCode> {
    flags.cluster.check("MCP servers", around)?;
    let sidecars = wait_for(async { Ok(sidecars::list().await) })?;
    let found = survey(&folders(&flags.resources_path, around, &sidecars)?);
    let mut rows: Vec<Row> = found.mcp_servers.iter().map(row).collect();
    if let Some(name) = &flags.name {
        rows.retain(|row| row.name.eq_ignore_ascii_case(name));
    }
    rows.sort_by(|a, b| (&a.name, &a.source).cmp(&(&b.name, &b.source)));
    output::rows(
        flags.output,
        &rows,
        HEADINGS,
        |row| {
            [
                row.namespace.clone(),
                row.name.clone(),
                row.transport.to_owned(),
                row.url.clone(),
                row.scopes.join(","),
                row.created.clone(),
                row.age.clone(),
                row.source.clone(),
            ]
        },
        "No MCP servers found.",
    )?;
    Ok(ExitCode::SUCCESS)
}

fn row(server: &McpServer) -> Row {
    let now = SystemTime::now();
    let origin = server.meta.origin.as_ref();
    let modified = origin
        .and_then(|origin| std::fs::metadata(&origin.file).ok()?.modified().ok())
        .unwrap_or(now);
    let endpoint = &server.spec.endpoint;
    let (transport, url) = match (&endpoint.streamable_http, &endpoint.sse, &endpoint.stdio) {
        (Some(remote), _, _) => ("streamable_http", remote.url.clone()),
        (None, Some(remote), _) => ("sse", remote.url.clone()),
        (None, None, Some(stdio)) => ("stdio", stdio.command.clone()),
        (None, None, None) => ("", String::new()),
    };
    Row {
        namespace: server.meta.namespace.clone(),
        name: server.name().to_owned(),
        transport,
        url,
        scopes: server.scopes.clone(),
        created: created(modified),
        age: age(now.duration_since(modified).unwrap_or_default()),
        source: origin.map(ToString::to_string).unwrap_or_default(),
    }
}
