//! `state.redis`: hashes (or JSON documents) as components-contrib `state/redis` keeps them.
//!
//! Where this differs from upstream, on purpose: a transaction is all-or-nothing (upstream's is not), an etag of an
//! absent key is refused, and first-write without an etag never replaces an item.

mod changes;
mod glob;
mod query;
mod reading;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_state::DynStateStore;

use crate::settings::{Purpose, Settings};
use schema::Schemas;

pub use store::RedisStateStore;

/// The component type `state.redis`. Metadata: what [`crate`] shares, `ttlInSeconds` (of items that name none) and
/// `queryIndexes` (needs the server's JSON and search modules).
#[must_use]
pub fn registration() -> Registration<dyn DynStateStore> {
    Registration {
        type_names: &["state.redis"],
        versions: &["v1"],
        validate,
    }
}

/// Checked metadata.
#[derive(Debug)]
struct Config {
    settings: Settings,
    /// Zero and less is for ever.
    ttl: Option<i64>,
    schemas: Schemas,
}

impl Config {
    fn parse(properties: &outrigger_component::Properties) -> Result<Self, Error> {
        let settings = Settings::parse(properties, Purpose::State)?;
        settings.dialer()?;
        Ok(Self {
            settings,
            ttl: properties.number("ttlInSeconds")?,
            schemas: Schemas::parse(properties.get("queryIndexes").unwrap_or_default())?,
        })
    }
}

fn validate(spec: &Spec) -> Result<Open<dyn DynStateStore>, Error> {
    let config = Config::parse(&spec.properties)?;
    Ok(open_with(move |_host| async move {
        Ok(Arc::new(RedisStateStore::open(config).await?) as Arc<dyn DynStateStore>)
    }))
}
