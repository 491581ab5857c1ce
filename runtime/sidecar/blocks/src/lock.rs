//! Distributed locks (A9.9; upstream `pkg/api/universal/lock.go`, `pkg/components/lock`).

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::{Method, Response};
use outrigger_component::{Error, Properties};
use outrigger_lock::SharedLockStore;
use outrigger_sidecar_api::{
    ApiError, ApiRequest, Body, Components, Endpoint, Group, Loaded, errors, handler,
};
use outrigger_sidecar_resilience::{ComponentKind, ResilienceProvider};
use outrigger_telemetry::Metrics;
use outrigger_types::AppId;
use outrigger_wire::{
    dapr::proto::runtime::v1::{TryLockRequest, TryLockResponse, UnlockRequest, UnlockResponse},
    json::Render,
};

use crate::call::{Surroundings, error_text, missing, read_proto, reply_proto};

const SEPARATOR: &str = "||";

/// `keyPrefix` of a lock store: who shares locks with whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LockPrefix {
    /// `lock||<app-id>||<resource>`.
    #[default]
    AppId,
    /// `lock||<store>||<resource>`.
    Name,
    /// `lock||<resource>`.
    None,
    /// `lock||<text>||<resource>`.
    Custom(String),
}

impl LockPrefix {
    /// Reads the setting from a component's metadata; its value is lower-cased, as upstream does. Whoever opens a
    /// lock store checks it by this, so that a bad one does not open.
    ///
    /// # Errors
    /// When a custom prefix holds the separator.
    pub fn from_properties(properties: &Properties) -> Result<Self, Error> {
        let Some(value) = properties.get("keyPrefix") else {
            return Ok(Self::default());
        };
        let value = value.to_lowercase();
        check(&value).map_err(Error::configuration)?;
        Ok(match value.as_str() {
            "appid" => Self::AppId,
            "name" => Self::Name,
            "none" => Self::None,
            _ => Self::Custom(value),
        })
    }

    /// The resource as the store sees it.
    fn apply(&self, store: &str, app_id: &str, resource: &str) -> Result<String, String> {
        check(resource)?;
        let owner = match self {
            Self::AppId => app_id,
            Self::Name => store,
            Self::None => "",
            Self::Custom(prefix) => prefix,
        };
        if owner.is_empty() {
            return Ok(format!("lock{SEPARATOR}{resource}"));
        }
        Ok(format!("lock{SEPARATOR}{owner}{SEPARATOR}{resource}"))
    }
}

fn check(key: &str) -> Result<(), String> {
    if key.contains(SEPARATOR) {
        return Err(format!("input key/keyPrefix '{key}' can't contain '{SEPARATOR}'"));
    }
    Ok(())
}

/// What the service needs.
#[derive(Clone)]
pub struct LockServiceOptions {
    /// The app, for key prefixes.
    pub app_id: AppId,
    /// The lock stores.
    pub stores: Arc<Components<SharedLockStore>>,
    /// Policies; replaced when Resiliency resources change.
    pub resilience: Arc<ArcSwap<ResilienceProvider>>,
}

impl fmt::Debug for LockServiceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockServiceOptions")
            .field("app_id", &self.app_id)
            .finish_non_exhaustive()
    }
}

/// The lock building block as served to the app.
#[derive(Debug)]
pub struct LockService {
    app_id: AppId,
    stores: Arc<Components<SharedLockStore>>,
    around: Surroundings,
}

impl LockService {
    /// A service over these stores.
    #[must_use]
    pub fn new(options: LockServiceOptions) -> Self {
        Self {
            app_id: options.app_id,
            stores: options.stores,
            // Upstream has no metrics of locks.
            around: Surroundings {
                resilience: options.resilience,
                metrics: Metrics::disabled(),
            },
        }
    }

    /// The endpoints of the lock API.
    #[must_use]
    pub fn endpoints(self: &Arc<Self>) -> Vec<Endpoint> {
        const POST: &[Method] = &[Method::POST];
        const LOCK: Group = Group {
            name: "lock",
            version: "v1alpha1",
        };
        const UNLOCK: Group = Group {
            name: "unlock",
            version: "v1alpha1",
        };
        vec![
            Endpoint::new(
                POST,
                "v1.0-alpha1",
                "lock/{storeName}",
                LOCK,
                "TryLock",
                handler(self, Self::http_lock),
            ),
            Endpoint::new(
                POST,
                "v1.0-alpha1",
                "unlock/{storeName}",
                UNLOCK,
                "Unlock",
                handler(self, Self::http_unlock),
            ),
        ]
    }

    async fn http_lock(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let mut message: TryLockRequest =
            read_proto(&mut request, "dapr.proto.runtime.v1.TryLockRequest").await?;
        message.store_name = request.param("storeName").to_owned();
        let answer = self.grpc_try_lock(message).await?;
        let render = Render {
            emit_defaults: true,
            ..Render::default()
        };
        reply_proto("dapr.proto.runtime.v1.TryLockResponse", &answer, render)
    }

    async fn http_unlock(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let mut message: UnlockRequest =
            read_proto(&mut request, "dapr.proto.runtime.v1.UnlockRequest").await?;
        message.store_name = request.param("storeName").to_owned();
        let answer = self.grpc_unlock(message).await?;
        // The status is a number here, against protojson's custom.
        let render = Render {
            emit_defaults: true,
            enum_numbers: true,
            ..Render::default()
        };
        reply_proto("dapr.proto.runtime.v1.UnlockResponse", &answer, render)
    }

    /// `TryLockAlpha1`.
    ///
    /// # Errors
    /// Rows of the lock table.
    pub async fn grpc_try_lock(&self, request: TryLockRequest) -> Result<TryLockResponse, ApiError> {
        let expiry = u64::try_from(request.expiry_in_seconds)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs)
            .ok_or_else(|| errors::lock_expiry_not_positive(&request.store_name))?;
        let store = self
            .store(&request.store_name, &request.resource_id, &request.lock_owner)
            .await?;
        let resource = self
            .resource(&store, &request.resource_id)
            .map_err(errors::try_lock_failed)?;
        let success = self
            .around
            .outbound(&store.name, ComponentKind::Lock)
            .run(|_| store.instance.try_lock(&resource, &request.lock_owner, expiry))
            .await
            .map_err(|error| errors::try_lock_failed(error_text(&error)))?;
        Ok(TryLockResponse { success })
    }

    /// `UnlockAlpha1`.
    ///
    /// # Errors
    /// Rows of the lock table.
    pub async fn grpc_unlock(&self, request: UnlockRequest) -> Result<UnlockResponse, ApiError> {
        let store = self
            .store(&request.store_name, &request.resource_id, &request.lock_owner)
            .await?;
        let resource = self
            .resource(&store, &request.resource_id)
            .map_err(errors::unlock_failed)?;
        let status = self
            .around
            .outbound(&store.name, ComponentKind::Lock)
            .run(|_| store.instance.unlock(&resource, &request.lock_owner))
            .await
            .map_err(|error| errors::unlock_failed(error_text(&error)))?;
        Ok(UnlockResponse {
            status: status as i32,
        })
    }

    fn resource(&self, store: &Loaded<SharedLockStore>, resource: &str) -> Result<String, String> {
        LockPrefix::from_properties(&store.properties)
            .map_err(|error| error.chain())?
            .apply(&store.name, &self.app_id, resource)
    }

    async fn store(
        &self,
        name: &str,
        resource: &str,
        owner: &str,
    ) -> Result<Arc<Loaded<SharedLockStore>>, ApiError> {
        if self.stores.is_empty() {
            return Err(errors::lock_stores_not_configured());
        }
        if resource.is_empty() {
            return Err(errors::lock_resource_id_empty(name));
        }
        if owner.is_empty() {
            return Err(errors::lock_owner_empty(name));
        }
        self.stores.get(name).await.map_err(|error| {
            missing(
                error,
                errors::lock_stores_not_configured(),
                errors::lock_store_not_found(name),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_follow_the_strategy() {
        let cases = [
            (vec![], "app", "lock||app||k"),
            (vec![("keyPrefix", "appid")], "", "lock||k"),
            (vec![("KEYPREFIX", "Name")], "app", "lock||store||k"),
            (vec![("keyPrefix", "none")], "app", "lock||k"),
            (vec![("keyPrefix", "Other")], "app", "lock||other||k"),
        ];
        for (properties, app_id, wanted) in cases {
            let prefix = LockPrefix::from_properties(&Properties::from_pairs(properties)).unwrap();
            assert_eq!(prefix.apply("store", app_id, "k").unwrap(), wanted);
        }
        assert!(LockPrefix::from_properties(&Properties::from_pairs([("keyPrefix", "a||b")])).is_err());
        assert!(LockPrefix::None.apply("store", "app", "a||b").is_err());
    }
}
