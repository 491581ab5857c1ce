//! `crypto.dapr.localstorage`: keys in files of one folder.

mod backend;
mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_crypto::DynCryptoProvider;

pub use backend::{Folder, LocalStorage};
pub use config::LocalStorageConfig;

/// How `crypto.dapr.localstorage` is built.
pub const LOCAL_STORAGE: Registration<dyn DynCryptoProvider> = Registration {
    type_names: &["crypto.dapr.localstorage"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn DynCryptoProvider>, Error> {
    let config = LocalStorageConfig::parse(&spec.properties)?;
    Ok(open_with(async move |host| {
        let provider = LocalStorage::open(host.path(&config.path)).await?;
        Ok(Arc::new(provider) as Arc<dyn DynCryptoProvider>)
    }))
}
