//! The health of the components that a service rests on (E1.10).

use crate::Client;
use crate::client::MetadataComponent;

use super::{Health, HealthEntry, Scope};

/// A key that nobody writes: asking for it reaches the backend of a state store and moves no data.
const PROBE_KEY: &str = "outrigger-kit-health";

/// Components to look at, each with a check of its own, named `state:<name>`, `pubsub:<name>` or `binding:<name>`.
///
/// A state store is asked for a key, which shows that its backend answers. A broker or a binding cannot be asked
/// without sending something, so they are looked up among the components that the sidecar has loaded.
#[derive(Debug, Clone, Default)]
pub struct ComponentChecks {
    checks: Vec<(Block, String)>,
    required: bool,
}

#[derive(Debug, Clone, Copy)]
enum Block {
    State,
    Pubsub,
    Binding,
}

impl Block {
    const fn word(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Pubsub => "pubsub",
            Self::Binding => "binding",
        }
    }

    /// The first part of the component types of this block.
    const fn category(self) -> &'static str {
        match self {
            Self::State => "state.",
            Self::Pubsub => "pubsub.",
            Self::Binding => "bindings.",
        }
    }
}

impl ComponentChecks {
    /// No component yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at a state store.
    #[must_use]
    pub fn state(self, name: impl Into<String>) -> Self {
        self.with(Block::State, name)
    }

    /// Looks at a pub/sub component.
    #[must_use]
    pub fn pubsub(self, name: impl Into<String>) -> Self {
        self.with(Block::Pubsub, name)
    }

    /// Looks at a binding.
    #[must_use]
    pub fn binding(self, name: impl Into<String>) -> Self {
        self.with(Block::Binding, name)
    }

    /// Without these components the service is not ready; unless this is said they are only reported.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    fn with(mut self, block: Block, name: impl Into<String>) -> Self {
        self.checks.push((block, name.into()));
        self
    }

    /// Adds the checks to a service's health.
    pub fn register(self, health: &Health, client: &Client) {
        let scope = if self.required {
            Scope::Readiness
        } else {
            Scope::Report
        };
        for (block, name) in self.checks {
            let client = client.clone();
            health.register(format!("{}:{name}", block.word()), scope, move || {
                let (client, name) = (client.clone(), name.clone());
                async move { check(&client, block, &name).await }
            });
        }
    }
}

async fn check(client: &Client, block: Block, name: &str) -> HealthEntry {
    let answer = match block {
        Block::State => client
            .state(name)
            .get::<serde_json::Value>(PROBE_KEY)
            .await
            .map(|_| "it answers".to_owned()),
        Block::Pubsub | Block::Binding => match client.metadata().await {
            Err(error) => Err(error),
            Ok(metadata) => match find(&metadata.components, block, name) {
                Some(component) => Ok(format!("{} is loaded", component.kind)),
                None => return HealthEntry::unhealthy("the sidecar has not loaded it"),
            },
        },
    };
    match answer {
        Ok(words) => HealthEntry::healthy(words),
        Err(error) => HealthEntry::unhealthy(error.to_string()),
    }
}

fn find<'a>(components: &'a [MetadataComponent], block: Block, name: &str) -> Option<&'a MetadataComponent> {
    components
        .iter()
        .find(|component| component.name == name && component.kind.starts_with(block.category()))
}
