//! `configuration.postgresql`: items as rows of a table that somebody else keeps, changes by `LISTEN` (A9.1, A9.2;
//! components-contrib `configuration/postgres`).
//!
//! The table has the columns `key`, `value`, `version` and `metadata` (JSON). A trigger on it notifies a channel with
//! `{"table":…,"action":…,"data":{the row}}`, as Dapr's documentation shows it. Of a row that was deleted, apps get the
//! item that it was: upstream's conformance cases ask for it, although an app cannot tell it from a change.

mod config;
mod listener;
mod notification;
mod reader;
mod store;
mod subscription;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_configuration::DynConfigurationStore;

pub use store::PostgresConfigurationStore;

/// The component types `configuration.postgresql` and `configuration.postgres`.
///
/// Metadata as upstream: that of `state.postgresql` about the connection, `table`, `notifyChannel`
/// (`pgNotifyChannel`, which a subscription may also carry), `connMaxIdleTime` (old), `timeout`.
#[must_use]
pub fn registration() -> Registration<dyn DynConfigurationStore> {
    Registration {
        type_names: &["configuration.postgresql", "configuration.postgres"],
        versions: &["v1"],
        validate,
    }
}

fn validate(spec: &Spec) -> Result<Open<dyn DynConfigurationStore>, Error> {
    let config = config::Config::from_properties(&spec.properties)?;
    Ok(open_with(async move |host| {
        let store = PostgresConfigurationStore::open(config, &host).await?;
        Ok(Arc::new(store) as Arc<dyn DynConfigurationStore>)
    }))
}
