//! The store over an environment snapshot.

use std::collections::BTreeMap;

use outrigger_component::{Error, Metadata, SecretString};
use outrigger_secrets::{Secret, SecretStore};
use outrigger_types::Environment;

use super::EnvConfig;

/// Serves variables of one snapshot. The app's API token and everything of Dapr's own (`DAPR_*`) are never served:
/// they are this sidecar's credentials, not the app's.
#[derive(Debug)]
pub struct EnvStore {
    config: EnvConfig,
    environment: Environment,
}

impl EnvStore {
    /// A store over a snapshot.
    #[must_use]
    pub fn new(config: EnvConfig, environment: Environment) -> Self {
        Self { config, environment }
    }
}

fn allowed(variable: &str) -> bool {
    let upper = variable.to_uppercase();
    upper != "APP_API_TOKEN" && !upper.starts_with("DAPR_")
}

fn single(key: &str, value: &str) -> Secret {
    Secret::from([(key.to_owned(), SecretString::from(value))])
}

impl SecretStore for EnvStore {
    /// An absent or a refused variable is an empty value, not an error: upstream's store cannot tell them apart
    /// either (`secretstores/local/env`), and apps written for it test for the empty text.
    async fn get(&self, name: &str, _metadata: &Metadata) -> Result<Secret, Error> {
        let variable = format!("{}{name}", self.config.prefix);
        if !allowed(&variable) {
            tracing::warn!(
                variable = name,
                "access to this environment variable is forbidden"
            );
            return Ok(single(name, ""));
        }
        Ok(single(name, self.environment.get(&variable).unwrap_or_default()))
    }

    async fn all(&self, _metadata: &Metadata) -> Result<BTreeMap<String, Secret>, Error> {
        let prefix = self.config.prefix.as_str();
        Ok(self
            .environment
            .iter()
            .filter(|(variable, _)| allowed(variable))
            .filter_map(|(variable, value)| {
                let name = variable.strip_prefix(prefix)?;
                (prefix.is_empty() || !name.is_empty()).then(|| (name.to_owned(), single(name, value)))
            })
            .collect())
    }
}
