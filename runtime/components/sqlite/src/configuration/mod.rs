//! `configuration.sqlite` (ours): configuration items as rows that any program may write (A9).
//!
//! Format version 1: table `configuration(key, value, version, metadata)`, `metadata` a JSON object of texts or
//! NULL. A subscriber learns of a change when the row of a key, its version or metadata included, differs from what
//! it saw before.

mod store;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_configuration::DynConfigurationStore;

use crate::connection::{Defaults, Settings, identifier};

pub use store::SqliteConfigurationStore;

/// The component type `configuration.sqlite`. Metadata: `connectionString` (`url`), `tableName`
/// (`configuration`), `metadataTableName` (`metadata`), `timeout`, `busyTimeout`, `disableWAL`, `synchronous`.
#[must_use]
pub fn registration() -> Registration<dyn DynConfigurationStore> {
    Registration {
        type_names: &["configuration.sqlite"],
        versions: &["v1"],
        validate,
    }
}

fn validate(spec: &Spec) -> Result<Open<dyn DynConfigurationStore>, Error> {
    let settings = Settings::from_properties(&spec.properties, Defaults::default())?;
    let name = |property, default| {
        identifier(
            spec.properties.get(property).unwrap_or(default),
            "invalid identifier",
        )
    };
    let (table, metadata_table) = (
        name("tableName", "configuration")?,
        name("metadataTableName", "metadata")?,
    );
    Ok(open_with(move |host| async move {
        let store = SqliteConfigurationStore::open(settings, &host.base_dir, table, metadata_table).await?;
        Ok(Arc::new(store) as Arc<dyn DynConfigurationStore>)
    }))
}
