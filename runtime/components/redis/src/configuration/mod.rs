//! `configuration.redis`: strings `value||version` (components-contrib `configuration/redis`), watched by keyspace
//! events.

mod store;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_configuration::DynConfigurationStore;

use crate::settings::{Purpose, Settings};

pub use store::RedisConfigurationStore;

/// The component type `configuration.redis`. Metadata: what [`crate`] shares.
#[must_use]
pub fn registration() -> Registration<dyn DynConfigurationStore> {
    Registration {
        type_names: &["configuration.redis"],
        versions: &["v1"],
        validate,
    }
}

fn validate(spec: &Spec) -> Result<Open<dyn DynConfigurationStore>, Error> {
    let settings = Settings::parse(&spec.properties, Purpose::Configuration)?;
    settings.dialer()?;
    Ok(open_with(move |_host| async move {
        Ok(Arc::new(RedisConfigurationStore::open(settings).await?) as Arc<dyn DynConfigurationStore>)
    }))
}
