//! `lock.redis`: `SET NX` with the owner as value (components-contrib `lock/redis`).

mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_lock::DynLockStore;

use crate::settings::{Purpose, Settings};

pub use store::RedisLockStore;

/// The component type `lock.redis`. Metadata: what [`crate`] shares; a cluster is refused, since a lock there may be
/// lost without notice.
#[must_use]
pub fn registration() -> Registration<dyn DynLockStore> {
    Registration {
        type_names: &["lock.redis"],
        versions: &["v1"],
        validate,
    }
}

fn validate(spec: &Spec) -> Result<Open<dyn DynLockStore>, Error> {
    if spec.properties.non_empty("redisHost").is_none() {
        return Err(Error::configuration("metadata property redisHost is empty"));
    }
    let settings = Settings::parse(&spec.properties, Purpose::Lock)?;
    if settings.is_cluster {
        return Err(Error::configuration(
            "this component does not support connecting to Redis Cluster",
        ));
    }
    settings.dialer()?;
    Ok(open_with(move |_host| async move {
        Ok(Arc::new(RedisLockStore::open(settings).await?) as Arc<dyn DynLockStore>)
    }))
}
