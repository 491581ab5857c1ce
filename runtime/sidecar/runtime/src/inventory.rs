//! What the metadata API tells of the running sidecar.

use std::sync::Arc;

use arc_swap::ArcSwap;
use outrigger_sidecar_invocation::HttpEndpoints;
use outrigger_sidecar_pubsub::{PubsubService, SubscriptionInfo};

use crate::{
    components::Tables,
    mcp::McpServers,
    metadata::{ComponentInfo, Inventory},
};

/// The running sidecar's inventory.
pub(crate) struct RunningInventory {
    pub(crate) tables: Tables,
    pub(crate) pubsub: Arc<PubsubService>,
    pub(crate) http_endpoints: HttpEndpoints,
    pub(crate) resiliencies: Arc<ArcSwap<Vec<String>>>,
    pub(crate) mcp_servers: Arc<McpServers>,
    pub(crate) features: Vec<String>,
    pub(crate) actors_enabled: bool,
}

impl Inventory for RunningInventory {
    fn components(&self) -> Vec<ComponentInfo> {
        let mut all = Vec::new();
        macro_rules! table {
            ($table:ident, $capabilities:expr) => {
                for loaded in self.tables.$table.all() {
                    all.push(ComponentInfo {
                        name: loaded.name.to_string(),
                        type_name: loaded.type_name.clone(),
                        version: loaded.version.clone(),
                        capabilities: $capabilities(&loaded.instance),
                    });
                }
            };
        }
        table!(state, |store: &outrigger_state::SharedStateStore| {
            let capabilities = store.capabilities();
            let mut names = store.features();
            if capabilities.etag && capabilities.transactional {
                names.push("ACTOR".to_owned());
            }
            names
        });
        table!(pubsub, |broker: &outrigger_pubsub::SharedPubSub| broker
            .features());
        table!(bindings, |binding: &outrigger_bindings::Binding| {
            let sides = [
                (binding.input.is_some(), "INPUT_BINDING"),
                (binding.output.is_some(), "OUTPUT_BINDING"),
            ];
            sides
                .into_iter()
                .filter(|(has, _)| *has)
                .map(|(_, name)| name.to_owned())
                .collect()
        });
        table!(secrets, |store: &outrigger_secrets::SharedSecretStore| {
            if store.multi_valued() {
                vec!["MULTIPLE_KEY_VALUES_PER_SECRET".to_owned()]
            } else {
                Vec::new()
            }
        });
        table!(configuration, |_: &_| Vec::new());
        table!(lock, |_: &_| Vec::new());
        table!(crypto, |_: &_| Vec::new());
        table!(conversation, |_: &_| Vec::new());
        table!(middleware, |_: &_| Vec::new());
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn subscriptions(&self) -> Vec<SubscriptionInfo> {
        self.pubsub.subscriptions()
    }

    fn http_endpoints(&self) -> Vec<String> {
        self.http_endpoints.names()
    }

    fn resiliencies(&self) -> Vec<String> {
        Vec::clone(&self.resiliencies.load())
    }

    fn mcp_servers(&self) -> Vec<String> {
        self.mcp_servers.names()
    }

    fn features(&self) -> Vec<String> {
        self.features.clone()
    }

    fn actors_enabled(&self) -> bool {
        self.actors_enabled
    }
}
