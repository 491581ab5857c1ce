//! `MCPServer`, as written.

use std::collections::BTreeMap;

use outrigger_types::duration::GoDuration;

use super::{NameValue, ObjectMeta, Resource, SecretKeyRef};
use crate::{
    decode::{Decode, Decoder, decode_fields, exact_texts},
    yaml::Node,
};

/// An MCP server whose tools run as workflows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct McpServer {
    /// Name and namespace.
    pub meta: ObjectMeta,
    /// Endpoint and hooks.
    pub spec: McpServerSpec,
    /// The apps that may use it; empty means all.
    pub scopes: Vec<String>,
}

decode_fields!(McpServer {
    "metadata" => meta,
    "spec" => spec,
    "scopes" => scopes via exact_texts,
} ignoring &["apiVersion", "kind"]);

/// Endpoint and hooks.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct McpServerSpec {
    /// A description for people.
    pub catalog: Option<McpServerCatalog>,
    /// How to reach it.
    pub endpoint: McpEndpoint,
    /// Workflows around its calls.
    pub middleware: Option<McpMiddleware>,
    /// Whether the sidecar goes on when it fails to start.
    pub ignore_errors: bool,
}

decode_fields!(McpServerSpec {
    "catalog" => catalog,
    "endpoint" => endpoint,
    "middleware" => middleware,
    "ignoreErrors" => ignore_errors,
});

/// How to reach it; exactly one is meant to be set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct McpEndpoint {
    /// Streamable HTTP.
    pub streamable_http: Option<McpRemote>,
    /// The older server-sent events transport.
    pub sse: Option<McpRemote>,
    /// A child process.
    pub stdio: Option<McpStdio>,
}

decode_fields!(McpEndpoint { "streamableHTTP" => streamable_http, "sse" => sse, "stdio" => stdio });

/// A server behind a URL.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct McpRemote {
    /// The URL.
    pub url: String,
    /// The protocol version to speak.
    pub protocol_version: Option<String>,
    /// How long a call may take.
    pub timeout: Option<GoDuration>,
    /// Headers of every request.
    pub headers: Vec<NameValue>,
    /// Credentials.
    pub auth: Option<McpAuth>,
}

decode_fields!(McpRemote {
    "url" => url,
    "protocolVersion" => protocol_version,
    "timeout" => timeout,
    "headers" => headers,
    "auth" => auth,
});

/// A server as a child process.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct McpStdio {
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<NameValue>,
}

decode_fields!(McpStdio { "command" => command, "args" => args, "env" => env });

/// Credentials.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct McpAuth {
    /// The store its secrets are in.
    pub secret_store: Option<String>,
    /// OAuth 2 client credentials.
    pub oauth2: Option<McpOAuth2>,
    /// The sidecar's SPIFFE identity.
    pub spiffe: Option<Spiffe>,
}

decode_fields!(McpAuth { "secretStore" => secret_store, "oauth2" => oauth2, "spiffe" => spiffe });

/// OAuth 2 client credentials.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct McpOAuth2 {
    /// The issuer.
    pub issuer: String,
    /// The audience.
    pub audience: Option<String>,
    /// The scopes asked for.
    pub scopes: Vec<String>,
    /// The client id.
    pub client_id: Option<String>,
    /// Where the client secret is.
    pub secret_key_ref: Option<SecretKeyRef>,
}

decode_fields!(McpOAuth2 {
    "issuer" => issuer,
    "audience" => audience,
    "scopes" => scopes,
    "clientID" => client_id,
    "secretKeyRef" => secret_key_ref,
});

/// Identity by SPIFFE.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spiffe {
    /// As a signed token in a header.
    pub jwt: Option<SpiffeJwt>,
}

decode_fields!(Spiffe { "jwt" => jwt });

/// A SPIFFE token in a header.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpiffeJwt {
    /// The header.
    pub header: String,
    /// What stands before the token.
    pub header_value_prefix: Option<String>,
    /// The token's audience.
    pub audience: String,
}

decode_fields!(SpiffeJwt {
    "header" => header,
    "headerValuePrefix" => header_value_prefix,
    "audience" => audience,
});

/// Workflows around calls, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct McpMiddleware {
    /// Before a tool is called.
    pub before_call_tool: Vec<McpHook>,
    /// After a tool was called.
    pub after_call_tool: Vec<McpHook>,
    /// Before tools are listed; these do not mutate.
    pub before_list_tools: Vec<McpHook>,
    /// After tools were listed.
    pub after_list_tools: Vec<McpHook>,
}

decode_fields!(McpMiddleware {
    "beforeCallTool" => before_call_tool,
    "afterCallTool" => after_call_tool,
    "beforeListTools" => before_list_tools via observing_hooks,
    "afterListTools" => after_list_tools,
});

fn observing_hooks(place: &mut Vec<McpHook>, node: &Node, decoder: &mut Decoder) {
    place.decode(node, decoder);
    for hook in place {
        if hook.mutate.take().is_some() {
            decoder.suspect(
                node.at,
                "mutate has no meaning before tools are listed",
                "remove it",
            );
        }
    }
}

/// One workflow hook.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct McpHook {
    /// The workflow.
    pub workflow: McpMiddlewareWorkflow,
    /// Whether its output replaces the payload.
    pub mutate: Option<bool>,
}

decode_fields!(McpHook { "workflow" => workflow, "mutate" => mutate });

/// Which workflow, where.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct McpMiddlewareWorkflow {
    /// The workflow's name.
    pub workflow_name: String,
    /// The app that runs it; none for this one.
    pub app_id: Option<String>,
}

decode_fields!(McpMiddlewareWorkflow { "workflowName" => workflow_name, "appID" => app_id });

/// A description for people.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct McpServerCatalog {
    /// The name shown.
    pub display_name: Option<String>,
    /// What it does.
    pub description: Option<String>,
    /// Who keeps it.
    pub owner: Option<McpOwner>,
    /// Tags.
    pub tags: Vec<String>,
    /// Links by name.
    pub links: BTreeMap<String, String>,
}

decode_fields!(McpServerCatalog {
    "displayName" => display_name,
    "description" => description,
    "owner" => owner,
    "tags" => tags,
    "links" => links,
});

/// Who keeps a server.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct McpOwner {
    /// The team.
    pub team: Option<String>,
    /// How to reach it.
    pub contact: Option<String>,
}

decode_fields!(McpOwner { "team" => team, "contact" => contact });

impl McpServer {
    /// The remote endpoint, if it has one.
    #[must_use]
    pub fn remote(&self) -> Option<&McpRemote> {
        self.spec
            .endpoint
            .streamable_http
            .as_ref()
            .or(self.spec.endpoint.sse.as_ref())
    }
}

impl Resource for McpServer {
    const KIND: &'static str = "MCPServer";
    const API_VERSIONS: &'static [&'static str] = &["dapr.io/v1alpha1"];

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
    fn scopes(&self) -> &[String] {
        &self.scopes
    }
    fn log_name(&self) -> String {
        match self.remote() {
            Some(remote) => format!("{} ({})", self.meta.name, remote.url),
            None => self.meta.name.clone(),
        }
    }
    fn secret_store(&self) -> &str {
        self.remote()
            .and_then(|remote| remote.auth.as_ref())
            .and_then(|auth| auth.secret_store.as_deref())
            .unwrap_or_default()
    }
    fn name_values(&self) -> &[NameValue] {
        self.remote().map_or(&[], |remote| &remote.headers)
    }
    fn name_values_mut(&mut self) -> &mut [NameValue] {
        let endpoint = &mut self.spec.endpoint;
        match endpoint.streamable_http.as_mut().or(endpoint.sse.as_mut()) {
            Some(remote) => &mut remote.headers,
            None => &mut [],
        }
    }
    fn same_spec(&self, other: &Self) -> bool {
        self.meta.name == other.meta.name && self.spec == other.spec && self.scopes == other.scopes
    }
}
