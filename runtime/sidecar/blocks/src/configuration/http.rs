//! The HTTP surface.

use std::{collections::BTreeMap, sync::Arc};

use http::{Method, Response, StatusCode};
use outrigger_component::Metadata;
use outrigger_configuration::{Item, Items};
use outrigger_sidecar_api::{ApiError, ApiRequest, Body, Endpoint, Group, Reply, errors, handler};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{ConfigurationService, app::AppUpdates, key_list, subscriptions::Subscription};
use crate::call::{error_text, reply_json};

const GET: &[Method] = &[Method::GET];

/// An item as upstream encodes it: whatever is empty is left out.
#[derive(Serialize)]
pub(super) struct ItemDocument<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    value: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    metadata: &'a Metadata,
}

impl<'a> From<&'a Item> for ItemDocument<'a> {
    fn from(item: &'a Item) -> Self {
        Self {
            value: &item.value,
            version: &item.version,
            metadata: &item.metadata,
        }
    }
}

pub(super) fn documents(items: &Items) -> BTreeMap<&str, ItemDocument<'_>> {
    items
        .iter()
        .map(|(key, item)| (key.as_str(), ItemDocument::from(item)))
        .collect()
}

#[derive(Serialize)]
struct Subscribed<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct Unsubscribed<'a> {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ok: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

impl ConfigurationService {
    /// The endpoints of the configuration API, stable and alpha.
    #[must_use]
    pub fn endpoints(self: &Arc<Self>) -> Vec<Endpoint> {
        let versions = [("v1.0", "v1"), ("v1.0-alpha1", "v1alpha1")];
        versions
            .into_iter()
            .flat_map(|(version, group)| {
                let group = Group {
                    name: "configuration",
                    version: group,
                };
                let endpoint =
                    |route, name, handler| Endpoint::new(GET, version, route, group, name, handler);
                [
                    endpoint(
                        "configuration/{storeName}",
                        "GetConfiguration",
                        handler(self, Self::http_get),
                    ),
                    endpoint(
                        "configuration/{storeName}/subscribe",
                        "SubscribeConfiguration",
                        handler(self, Self::http_subscribe),
                    ),
                    endpoint(
                        "configuration/{storeName}/{configurationSubscribeID}/unsubscribe",
                        "UnsubscribeConfiguration",
                        handler(self, Self::http_unsubscribe),
                    ),
                ]
            })
            .collect()
    }

    async fn http_get(self: Arc<Self>, request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let store = self.store(request.param("storeName")).await?;
        let keys = request.query_values("key");
        let items = self
            .read(&store, &keys, &request.query_metadata())
            .await
            .map_err(|error| errors::configuration_get(key_list(&keys), &store.name, error_text(&error)))?;
        if items.is_empty() {
            return Ok(Reply::no_content());
        }
        reply_json(&documents(&items))
    }

    async fn http_subscribe(self: Arc<Self>, request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let store = self.store(request.param("storeName")).await?;
        let Some(app) = self.app.clone() else {
            return Err(errors::configuration_no_app_channel());
        };
        let keys = request.query_values("key");
        let failed = |cause: &str| errors::configuration_subscribe(key_list(&keys), &store.name, cause);
        if let Some(refusal) = self.subscriptions.refusal() {
            return Err(failed(refusal));
        }
        let id = uuid::Uuid::new_v4().to_string();
        let stop = CancellationToken::new();
        let updates = AppUpdates {
            app,
            around: self.around.clone(),
            store: store.name.to_string(),
            id: id.clone(),
            stop: stop.clone(),
        };
        let watching = self
            .watch(&store, &keys, &request.query_metadata(), Arc::new(updates))
            .await
            .map_err(|error| failed(&error_text(&error)))?;
        let subscription = Subscription {
            store: store.name.to_string(),
            stop,
            watching,
        };
        if self.subscriptions.add(&id, subscription).is_err() {
            return Err(failed("the sidecar takes no more subscriptions"));
        }
        reply_json(&Subscribed { id: &id })
    }

    async fn http_unsubscribe(self: Arc<Self>, request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let store = self.store(request.param("storeName")).await?;
        let id = request.param("configurationSubscribeID");
        if self.unwatch(&store.name, id).await {
            return reply_json(&Unsubscribed {
                ok: true,
                message: "",
            });
        }
        let cause = format!("subscription with id {id} does not exist");
        let error = errors::configuration_unsubscribe(id, cause);
        // Upstream answers here in the shape of the gRPC message.
        let mut response = reply_json(&Unsubscribed {
            ok: false,
            message: error.message(),
        })?;
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        Ok(response)
    }
}
