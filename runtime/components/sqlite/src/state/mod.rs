//! `state.sqlite`: the table of Dapr's Go component, read and written the same way (components-contrib
//! `state/sqlite`).

mod cleanup;
mod config;
mod schema;
mod statements;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_state::DynStateStore;

pub use store::SqliteStateStore;

/// The component types `state.sqlite` and `state.sqlite3`.
///
/// Metadata as upstream: `connectionString` (`url`), `tableName`, `metadataTableName`, `timeout`, `busyTimeout`,
/// `disableWAL`, `cleanupInterval`. Ours: `synchronous` (`FULL` unless given; upstream's is `NORMAL`).
#[must_use]
pub fn registration() -> Registration<dyn DynStateStore> {
    Registration {
        type_names: &["state.sqlite", "state.sqlite3"],
        versions: &["v1"],
        validate,
    }
}

fn validate(spec: &Spec) -> Result<Open<dyn DynStateStore>, Error> {
    let config = config::Config::from_properties(&spec.properties)?;
    Ok(open_with(move |host| async move {
        Ok(Arc::new(SqliteStateStore::open(config, &host.base_dir).await?) as Arc<dyn DynStateStore>)
    }))
}
