//! Distributed locks (alpha API).

use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};

use super::{Call, Client, decode, name};
use crate::Error;

/// A lock that is held until its time is over or it is released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    store: String,
    resource: String,
    owner: String,
}

/// What releasing a lock found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlockStatus {
    /// It was held and is free now.
    Success,
    /// Nobody held it.
    DoesNotExist,
    /// Somebody else holds it.
    BelongsToOthers,
    /// The store could not say.
    InternalError,
}

impl Client {
    /// Tries to take a lock; `None` if somebody else holds it.
    ///
    /// # Errors
    /// Those of the sidecar.
    pub async fn try_lock(
        &self,
        store: &str,
        resource: &str,
        owner: &str,
        expiry: Duration,
    ) -> Result<Option<Lock>, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            resource_id: &'a str,
            lock_owner: &'a str,
            expiry_in_seconds: u64,
        }
        #[derive(Deserialize)]
        struct Taken {
            #[serde(default)]
            success: bool,
        }
        let body = Body {
            resource_id: resource,
            lock_owner: owner,
            expiry_in_seconds: expiry.as_secs().max(1),
        };
        let path = format!("/v1.0-alpha1/lock/{}", name("lock store", store)?);
        let answer = self.call(Call::new(Method::POST, path).json(&body)?).await?;
        let taken: Taken = decode("the lock answer", &answer.body)?;
        Ok(taken.success.then(|| Lock {
            store: store.to_owned(),
            resource: resource.to_owned(),
            owner: owner.to_owned(),
        }))
    }

    /// Releases a lock.
    ///
    /// # Errors
    /// Those of the sidecar.
    pub async fn unlock(&self, lock: &Lock) -> Result<UnlockStatus, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            resource_id: &'a str,
            lock_owner: &'a str,
        }
        #[derive(Deserialize)]
        struct Released {
            #[serde(default)]
            status: i32,
        }
        let body = Body {
            resource_id: &lock.resource,
            lock_owner: &lock.owner,
        };
        let path = format!("/v1.0-alpha1/unlock/{}", name("lock store", &lock.store)?);
        let answer = self
            .call(Call::new(Method::POST, path).json(&body)?.idempotent())
            .await?;
        let released: Released = decode("the unlock answer", &answer.body)?;
        Ok(match released.status {
            0 => UnlockStatus::Success,
            1 => UnlockStatus::DoesNotExist,
            2 => UnlockStatus::BelongsToOthers,
            _ => UnlockStatus::InternalError,
        })
    }
}
