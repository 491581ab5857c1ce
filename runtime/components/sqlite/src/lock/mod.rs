//! `lock.sqlite` (ours): locks as rows, shared by all processes that open the file (A10).
//!
//! Format version 1: table `locks(resource, owner, expires)`, `expires` in milliseconds since 1970 by the host's
//! clock as SQLite reads it, so that all processes go by one clock.

mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_lock::DynLockStore;

use crate::connection::{Defaults, Settings, identifier};

pub use store::SqliteLockStore;

/// The component type `lock.sqlite`. Metadata: `connectionString` (`url`), `tableName` (`locks`),
/// `metadataTableName` (`metadata`), `timeout`, `busyTimeout`, `disableWAL`, `synchronous`.
#[must_use]
pub fn registration() -> Registration<dyn DynLockStore> {
    Registration {
        type_names: &["lock.sqlite"],
        versions: &["v1"],
        validate,
    }
}

fn validate(spec: &Spec) -> Result<Open<dyn DynLockStore>, Error> {
    let settings = Settings::from_properties(&spec.properties, Defaults::default())?;
    let name = |property, default| {
        identifier(
            spec.properties.get(property).unwrap_or(default),
            "invalid identifier",
        )
    };
    let (table, metadata_table) = (
        name("tableName", "locks")?,
        name("metadataTableName", "metadata")?,
    );
    Ok(open_with(move |host| async move {
        let store = SqliteLockStore::open(settings, &host.base_dir, table, metadata_table).await?;
        Ok(Arc::new(store) as Arc<dyn DynLockStore>)
    }))
}
