//! The store.

use std::time::Duration;

use outrigger_component::Error;
use outrigger_lock::{LockStore, UnlockStatus};
use redis::Value;

use crate::{
    failure::{failed, unexpected},
    link::{Link, Safety},
    script::Lua,
    settings::Settings,
};

/// Deletes the lock of this owner; −1 when there is none, −2 when it is another's.
const UNLOCK: &str = r#"
local owner = redis.call("GET", KEYS[1])
if not owner then
  return -1
end
if owner ~= ARGV[1] then
  return -2
end
return redis.call("DEL", KEYS[1])"#;

/// `lock.redis`.
#[derive(Debug)]
pub struct RedisLockStore {
    link: Link,
    unlock: Lua,
}

impl RedisLockStore {
    pub(super) async fn open(settings: Settings) -> Result<Self, Error> {
        let guarded = settings.sentinel.is_some();
        let unreachable =
            |error: Error| Error::new(error.kind(), "error connecting to Redis").with_source(error);
        let link = Link::open(settings).await.map_err(unreachable)?;
        link.ping().await.map_err(unreachable)?;
        // Without Sentinel a replica may be made master by hand, and it may not have the lock.
        if !guarded && link.replicas().await.is_ok_and(|replicas| replicas > 0) {
            return Err(Error::configuration("replication is not supported"));
        }
        Ok(Self {
            link,
            unlock: Lua::new(UNLOCK),
        })
    }
}

impl LockStore for RedisLockStore {
    async fn try_lock(&self, resource: &str, owner: &str, expiry: Duration) -> Result<bool, Error> {
        let mut command = redis::cmd("SET");
        command.arg(resource).arg(owner);
        if !expiry.is_zero() {
            let millis = u64::try_from(expiry.as_millis()).unwrap_or(u64::MAX).max(1);
            command.arg("PX").arg(millis);
        }
        command.arg("NX");
        // Sent twice it would refuse its own success.
        match self.link.command(&command, Safety::Once).await? {
            Value::Okay => Ok(true),
            Value::Nil => Ok(false),
            _ => Err(unexpected("SET")),
        }
    }

    async fn unlock(&self, resource: &str, owner: &str) -> Result<UnlockStatus, Error> {
        let answer = self
            .link
            .script(&self.unlock, 1, Safety::Once, |command| {
                command.arg(resource).arg(owner);
            })
            .await?;
        match answer.map_err(|error| failed(&error))? {
            Value::Int(0..) => Ok(UnlockStatus::Success),
            Value::Int(-1) => Ok(UnlockStatus::LockDoesNotExist),
            Value::Int(-2) => Ok(UnlockStatus::LockBelongsToOthers),
            _ => Ok(UnlockStatus::InternalError),
        }
    }

    async fn ping(&self) -> Result<(), Error> {
        self.link.ping().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.link.close();
        Ok(())
    }
}
