//! `secretstores.local.env`: environment variables of the sidecar as secrets.

mod backend;
mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Open, Registration, Spec, open_with};
use outrigger_secrets::DynSecretStore;

pub use backend::EnvStore;
pub use config::EnvConfig;

/// How `secretstores.local.env` is built.
pub const ENV: Registration<dyn DynSecretStore> = Registration {
    type_names: &["secretstores.local.env"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn DynSecretStore>, outrigger_component::Error> {
    let config = EnvConfig::parse(&spec.properties);
    Ok(open_with(async move |host| {
        Ok(Arc::new(EnvStore::new(config, host.environment)) as Arc<dyn DynSecretStore>)
    }))
}
