//! `secretstores.local.file`: secrets in a JSON file.

mod backend;
mod config;
mod flatten;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_secrets::DynSecretStore;

pub use backend::FileStore;
pub use config::FileConfig;

/// How `secretstores.local.file` is built.
pub const FILE: Registration<dyn DynSecretStore> = Registration {
    type_names: &["secretstores.local.file"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn DynSecretStore>, Error> {
    let config = FileConfig::parse(&spec.properties)?;
    Ok(open_with(async move |host| {
        let path = host.path(&config.secrets_file);
        let store = FileStore::open(config, path).await?;
        Ok(Arc::new(store) as Arc<dyn DynSecretStore>)
    }))
}
