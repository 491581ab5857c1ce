//! `state.postgresql`: the tables of Dapr's Go components, read and written the same way (components-contrib
//! `common/component/postgresql/v1`, `state/postgresql/{v1,v2}`).

mod config;
mod format;
mod jobs;
mod query;
mod schema;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_state::DynStateStore;

use config::{Config, Version};
pub use store::PostgresStateStore;

/// The component types `state.postgresql` and `state.postgres`, versions 1 and 2; without a version it is 1.
///
/// Metadata as upstream: `connectionString` (`url`) or `host`, `hostaddr`, `port`, `database`, `user`, `password`,
/// `sslRootCert`; `tableName` (version 1), `tablePrefix` (version 2), `metadataTableName`, `timeout`,
/// `cleanupInterval`, `maxConns`, `connectionMaxIdleTime`, `queryExecMode`. Ours: `schema`, for table names without
/// one; it is created when it is not there.
#[must_use]
pub fn registration() -> Registration<dyn DynStateStore> {
    Registration {
        type_names: &["state.postgresql", "state.postgres"],
        versions: &["v1", "v2"],
        validate,
    }
}

fn validate(spec: &Spec) -> Result<Open<dyn DynStateStore>, Error> {
    let version = if spec.version.eq_ignore_ascii_case("v2") {
        Version::V2
    } else {
        Version::V1
    };
    let config = Config::from_properties(&spec.properties, version)?;
    Ok(open_with(async move |host| {
        Ok(Arc::new(PostgresStateStore::open(config, &host).await?) as Arc<dyn DynStateStore>)
    }))
}
