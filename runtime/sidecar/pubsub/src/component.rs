//! Brokers with what the sidecar itself reads from their settings.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use outrigger_pubsub::{Capabilities, SharedPubSub};
use outrigger_resources::TopicScopes;
use outrigger_sidecar_api::{Loaded, Missing};
use outrigger_types::Topic;

use crate::PubsubOptions;

/// Settings that name the group; upstream fills in the app id where it is blank.
const CONSUMER_ID: &str = "consumerID";

/// A broker in use.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) loaded: Arc<Loaded<SharedPubSub>>,
    pub(crate) capabilities: Capabilities,
    pub(crate) scopes: TopicScopes,
    pub(crate) group: String,
    /// Set when topics carry the namespace before their name.
    pub(crate) topic_prefix: Option<String>,
}

impl Broker {
    fn new(loaded: Arc<Loaded<SharedPubSub>>, options: &PubsubOptions) -> Self {
        let app_id = options.app_id.as_str();
        let namespace = options.namespace();
        // The template is filled in before settings get here, so its outcome tells that it was there (wire.md §6).
        let filled = format!("{namespace}.{app_id}");
        let is_namespaced = loaded
            .properties
            .iter()
            .any(|(_, value)| value.contains("{namespace}") || value.contains(&filled));
        let group = loaded
            .properties
            .get(CONSUMER_ID)
            .map(str::trim)
            .filter(|id| !id.is_empty())
            .unwrap_or(app_id);
        Self {
            capabilities: loaded.instance.capabilities(),
            scopes: TopicScopes::new(loaded.properties.iter(), app_id),
            group: group.to_owned(),
            topic_prefix: is_namespaced.then(|| namespace.to_owned()),
            loaded,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.loaded.name
    }

    pub(crate) fn instance(&self) -> &SharedPubSub {
        &self.loaded.instance
    }

    /// The topic as the broker knows it.
    pub(crate) fn topic(&self, topic: &str) -> Topic {
        match &self.topic_prefix {
            Some(prefix) => Topic::from(format!("{prefix}{topic}")),
            None => Topic::from(topic),
        }
    }
}

/// Brokers by name. Settings are read once per opened component.
#[derive(Debug)]
pub(crate) struct ComponentTable {
    options: PubsubOptions,
    known: ArcSwap<HashMap<String, Arc<Broker>>>,
}

impl ComponentTable {
    pub(crate) fn new(options: PubsubOptions) -> Self {
        Self {
            options,
            known: ArcSwap::default(),
        }
    }

    /// The broker, waiting for one that is still initialising.
    pub(crate) async fn get(&self, name: &str) -> Result<Arc<Broker>, Missing> {
        let loaded = self.options.components.get(name).await?;
        Ok(self.broker(loaded))
    }

    /// The broker if it is open.
    pub(crate) fn ready(&self, name: &str) -> Option<Arc<Broker>> {
        self.options
            .components
            .ready(name)
            .map(|loaded| self.broker(loaded))
    }

    /// All that are open.
    pub(crate) fn all(&self) -> Vec<Arc<Broker>> {
        self.options
            .components
            .all()
            .into_iter()
            .map(|loaded| self.broker(loaded))
            .collect()
    }

    /// Lets go of a broker that is about to close.
    pub(crate) fn forget(&self, name: &str) {
        self.known.rcu(|known| {
            let mut known = HashMap::clone(known);
            known.remove(name);
            known
        });
    }

    fn broker(&self, loaded: Arc<Loaded<SharedPubSub>>) -> Arc<Broker> {
        if let Some(broker) = self.known.load().get(loaded.name.as_str())
            && Arc::ptr_eq(&broker.loaded, &loaded)
        {
            return Arc::clone(broker);
        }
        let broker = Arc::new(Broker::new(loaded, &self.options));
        self.known.rcu(|known| {
            let mut known = HashMap::clone(known);
            // Components that are gone go from here too: the table is as large as the set of open ones.
            known.retain(|name, _| self.options.components.ready(name).is_some());
            known.insert(broker.name().to_owned(), Arc::clone(&broker));
            known
        });
        broker
    }
}
