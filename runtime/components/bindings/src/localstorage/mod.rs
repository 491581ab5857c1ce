//! `bindings.localstorage`: files below one folder.

mod backend;
mod config;
mod confine;
mod payload;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_bindings::{Binding, DynOutputBinding};
use outrigger_component::{Error, Open, Registration, Spec, open_with};

pub use backend::LocalStorage;
pub use config::LocalStorageConfig;

/// How `bindings.localstorage` is built.
pub const LOCAL_STORAGE: Registration<Binding> = Registration {
    type_names: &["bindings.localstorage"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<Binding>, Error> {
    let config = LocalStorageConfig::parse(&spec.properties)?;
    Ok(open_with(async move |host| {
        let storage = LocalStorage::open(&host.path(&config.root_path)).await?;
        Ok(Arc::new(Binding {
            input: None,
            output: Some(Arc::new(storage) as Arc<dyn DynOutputBinding>),
        }))
    }))
}
