//! The metadata API: what this sidecar is and has (wire.md §2, Metadata).

use std::{collections::BTreeMap, sync::Arc};

use http::{Method, Response};
use outrigger_sidecar_api::{ApiError, ApiRequest, Body, Endpoint, Group, Reply, handler};
use outrigger_sidecar_pubsub::{SubscriptionInfo, SubscriptionKind};
use outrigger_wire::dapr::proto::runtime::v1 as wire;
use parking_lot::RwLock;
use serde::Serialize;

use crate::options::SidecarOptions;

const GROUP: Group = Group {
    name: "metadata",
    version: "v1",
};
const GET: &[Method] = &[Method::GET];
const PUT: &[Method] = &[Method::PUT];

/// The Dapr version whose behaviour this runtime has; clients compare it.
pub const RUNTIME_VERSION: &str = "1.18.2";

/// Entries of extended metadata kept at most; further ones are refused silently, as a nop, like empty keys.
const MAX_EXTENDED: usize = 1024;

/// A component, as the metadata API tells it.
#[derive(Debug, Clone, Serialize)]
pub struct ComponentInfo {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Its version as written; left out when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// What it can do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

/// What the metadata API reads; implemented by the running sidecar.
pub trait Inventory: Send + Sync + 'static {
    /// Open components.
    fn components(&self) -> Vec<ComponentInfo>;
    /// Subscriptions in force.
    fn subscriptions(&self) -> Vec<SubscriptionInfo>;
    /// Names of HTTP endpoints.
    fn http_endpoints(&self) -> Vec<String>;
    /// Names of resiliency resources.
    fn resiliencies(&self) -> Vec<String>;
    /// Names of MCP servers.
    fn mcp_servers(&self) -> Vec<String>;
    /// Enabled features.
    fn features(&self) -> Vec<String>;
    /// Whether actors are switched on (a placement address is given).
    fn actors_enabled(&self) -> bool;
}

/// The metadata API.
pub struct MetadataApi {
    options: SidecarOptions,
    inventory: Arc<dyn Inventory>,
    extended: RwLock<BTreeMap<String, String>>,
}

impl std::fmt::Debug for MetadataApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetadataApi").finish_non_exhaustive()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    id: String,
    runtime_version: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    enabled_features: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<ComponentInfo>,
    extended: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions: Vec<SubscriptionAnswer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    http_endpoints: Vec<Named>,
    app_connection_properties: AppConnection,
    actor_runtime: ActorRuntime,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resiliencies: Vec<Named>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mcp_servers: Vec<Named>,
}

#[derive(Serialize)]
struct Named {
    name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SubscriptionAnswer {
    pubsubname: String,
    topic: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<RuleAnswer>,
    dead_letter_topic: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct RuleAnswer {
    #[serde(rename = "match", skip_serializing_if = "String::is_empty")]
    matching: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    path: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AppConnection {
    #[serde(skip_serializing_if = "is_zero")]
    port: i32,
    protocol: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    channel_address: String,
    #[serde(skip_serializing_if = "is_zero")]
    max_concurrency: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<AppHealthAnswer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AppHealthAnswer {
    #[serde(skip_serializing_if = "String::is_empty")]
    health_check_path: String,
    health_probe_interval: String,
    health_probe_timeout: String,
    #[serde(skip_serializing_if = "is_zero")]
    health_threshold: i32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActorRuntime {
    runtime_status: &'static str,
    host_ready: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    placement: &'static str,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

fn kind_name(kind: SubscriptionKind) -> (&'static str, wire::PubsubSubscriptionType) {
    match kind {
        SubscriptionKind::Declarative => ("DECLARATIVE", wire::PubsubSubscriptionType::Declarative),
        SubscriptionKind::Programmatic => ("PROGRAMMATIC", wire::PubsubSubscriptionType::Programmatic),
        SubscriptionKind::Streaming => ("STREAMING", wire::PubsubSubscriptionType::Streaming),
    }
}

impl MetadataApi {
    /// The API over a running sidecar.
    #[must_use]
    pub fn new(options: SidecarOptions, inventory: Arc<dyn Inventory>) -> Self {
        Self {
            options,
            inventory,
            extended: RwLock::default(),
        }
    }

    /// The endpoints.
    #[must_use]
    pub fn endpoints(self: &Arc<Self>) -> Vec<Endpoint> {
        let mut get = Endpoint::new(
            GET,
            "v1.0",
            "metadata",
            GROUP,
            "GetMetadata",
            handler(self, Self::http_get),
        );
        get.public = true;
        let mut put = Endpoint::new(
            PUT,
            "v1.0",
            "metadata/{key}",
            GROUP,
            "PutMetadata",
            handler(self, Self::http_put),
        );
        put.public = true;
        vec![get, put]
    }

    fn app_connection(&self) -> AppConnection {
        let options = &self.options;
        let app = options.app.as_ref();
        AppConnection {
            port: app.map_or(0, |app| i32::from(app.port)),
            protocol: options.app_protocol.as_str(),
            channel_address: options.app_channel_address.clone(),
            max_concurrency: app
                .and_then(|app| app.max_concurrency)
                .map_or(0, |max| i32::try_from(max).unwrap_or(i32::MAX)),
            health: app
                .and_then(|app| app.health.as_ref())
                .map(|health| AppHealthAnswer {
                    health_check_path: if options.app_protocol.is_http() {
                        health.path.clone()
                    } else {
                        String::new()
                    },
                    health_probe_interval: go_duration(health.interval),
                    health_probe_timeout: go_duration(health.timeout),
                    health_threshold: i32::try_from(health.threshold).unwrap_or(i32::MAX),
                }),
        }
    }

    fn extended(&self) -> BTreeMap<String, String> {
        let mut extended = self.extended.read().clone();
        extended.insert("daprRuntimeVersion".to_owned(), RUNTIME_VERSION.to_owned());
        extended
    }

    fn actor_status(&self) -> (&'static str, wire::actor_runtime::ActorRuntimeStatus) {
        use wire::actor_runtime::ActorRuntimeStatus as Status;
        if self.inventory.actors_enabled() {
            ("INITIALIZING", Status::Initializing)
        } else {
            ("DISABLED", Status::Disabled)
        }
    }

    /// Upstream tells of the connection once it has decided whether there shall be one.
    fn placement(&self) -> &'static str {
        if self.inventory.actors_enabled() {
            ""
        } else {
            "placement: disconnected"
        }
    }

    async fn http_get(self: Arc<Self>, _: ApiRequest) -> Result<Response<Body>, ApiError> {
        let named = |names: Vec<String>| names.into_iter().map(|name| Named { name }).collect();
        Reply::json(&Answer {
            id: self.options.app_id.to_string(),
            runtime_version: RUNTIME_VERSION,
            enabled_features: self.inventory.features(),
            components: self.inventory.components(),
            extended: self.extended(),
            subscriptions: self
                .inventory
                .subscriptions()
                .into_iter()
                .map(|info| SubscriptionAnswer {
                    pubsubname: info.pubsubname,
                    topic: info.topic,
                    metadata: info.metadata,
                    rules: info
                        .rules
                        .into_iter()
                        .map(|(matching, path)| RuleAnswer { matching, path })
                        .collect(),
                    dead_letter_topic: info.dead_letter_topic,
                    kind: kind_name(info.kind).0,
                })
                .collect(),
            http_endpoints: named(self.inventory.http_endpoints()),
            app_connection_properties: self.app_connection(),
            actor_runtime: ActorRuntime {
                runtime_status: self.actor_status().0,
                host_ready: false,
                placement: self.placement(),
            },
            resiliencies: named(self.inventory.resiliencies()),
            mcp_servers: named(self.inventory.mcp_servers()),
        })
    }

    async fn http_put(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let value = request.bytes().await?;
        self.set(request.param("key"), String::from_utf8_lossy(&value).into_owned());
        Ok(Reply::no_content())
    }

    /// Sets an entry of extended metadata; nothing happens for an empty key.
    pub fn set(&self, key: &str, value: String) {
        if key.is_empty() {
            return;
        }
        let mut extended = self.extended.write();
        if extended.len() < MAX_EXTENDED || extended.contains_key(key) {
            extended.insert(key.to_owned(), value);
        }
    }

    /// `GetMetadata`.
    #[must_use]
    pub fn grpc_get(&self) -> wire::GetMetadataResponse {
        let connection = self.app_connection();
        wire::GetMetadataResponse {
            id: self.options.app_id.to_string(),
            runtime_version: RUNTIME_VERSION.to_owned(),
            enabled_features: self.inventory.features(),
            extended_metadata: self.extended().into_iter().collect(),
            registered_components: self
                .inventory
                .components()
                .into_iter()
                .map(|component| wire::RegisteredComponents {
                    name: component.name,
                    r#type: component.type_name,
                    version: component.version,
                    capabilities: component.capabilities,
                })
                .collect(),
            subscriptions: self
                .inventory
                .subscriptions()
                .into_iter()
                .map(|info| wire::PubsubSubscription {
                    pubsub_name: info.pubsubname,
                    topic: info.topic,
                    metadata: info.metadata.into_iter().collect(),
                    rules: Some(wire::PubsubSubscriptionRules {
                        rules: info
                            .rules
                            .into_iter()
                            .map(|(matching, path)| wire::PubsubSubscriptionRule {
                                r#match: matching,
                                path,
                            })
                            .collect(),
                    }),
                    dead_letter_topic: info.dead_letter_topic,
                    r#type: kind_name(info.kind).1.into(),
                })
                .collect(),
            http_endpoints: self
                .inventory
                .http_endpoints()
                .into_iter()
                .map(|name| wire::MetadataHttpEndpoint { name })
                .collect(),
            app_connection_properties: Some(wire::AppConnectionProperties {
                port: connection.port,
                protocol: connection.protocol.to_owned(),
                channel_address: connection.channel_address,
                max_concurrency: connection.max_concurrency,
                health: connection
                    .health
                    .map(|health| wire::AppConnectionHealthProperties {
                        health_check_path: health.health_check_path,
                        health_probe_interval: health.health_probe_interval,
                        health_probe_timeout: health.health_probe_timeout,
                        health_threshold: health.health_threshold,
                    }),
            }),
            actor_runtime: Some(wire::ActorRuntime {
                runtime_status: self.actor_status().1.into(),
                placement: self.placement().to_owned(),
                ..wire::ActorRuntime::default()
            }),
            workflows: Some(wire::MetadataWorkflows::default()),
            resiliencies: self
                .inventory
                .resiliencies()
                .into_iter()
                .map(|name| wire::MetadataResiliency { name })
                .collect(),
            mcp_servers: self
                .inventory
                .mcp_servers()
                .into_iter()
                .map(|name| wire::MetadataMcpServer { name })
                .collect(),
            ..wire::GetMetadataResponse::default()
        }
    }
}

fn go_duration(duration: std::time::Duration) -> String {
    outrigger_types::duration::GoDuration::from_std(duration).to_string()
}
