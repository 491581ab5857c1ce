//! The gRPC surface.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use futures::{Stream, future::BoxFuture};
use http::StatusCode;
use outrigger_configuration::{Items, UpdateHandler};
use outrigger_sidecar_api::{ApiError, errors};
use outrigger_telemetry::metrics::ComponentCall;
use outrigger_wire::dapr::proto::{
    common::v1::ConfigurationItem,
    runtime::v1::{
        GetConfigurationRequest, GetConfigurationResponse, SubscribeConfigurationRequest,
        SubscribeConfigurationResponse, UnsubscribeConfigurationRequest, UnsubscribeConfigurationResponse,
    },
};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status};

use super::{
    ConfigurationService, key_list,
    subscriptions::{Subscription, Subscriptions},
};
use crate::call::{Surroundings, error_text};

/// Updates that wait for a slow client; beyond that the store waits.
const QUEUE: usize = 16;

impl ConfigurationService {
    /// `GetConfiguration` and `GetConfigurationAlpha1`.
    ///
    /// # Errors
    /// Rows of the configuration table.
    pub async fn grpc_get(
        &self,
        request: GetConfigurationRequest,
    ) -> Result<GetConfigurationResponse, ApiError> {
        let store = self
            .store(&request.store_name)
            .await
            .map_err(ApiError::with_error_info)?;
        let items = self
            .read(&store, &request.keys, &request.metadata.into_iter().collect())
            .await
            .map_err(|error| {
                errors::configuration_get(key_list(&request.keys), &store.name, error_text(&error))
                    .with_error_info()
            })?;
        Ok(GetConfigurationResponse {
            items: messages(items),
        })
    }

    /// `SubscribeConfiguration` and `SubscribeConfigurationAlpha1`: the first message holds the id alone, each
    /// further one an update. Dropping the stream ends the subscription.
    ///
    /// # Errors
    /// Rows of the configuration table.
    pub async fn grpc_subscribe(
        &self,
        request: SubscribeConfigurationRequest,
    ) -> Result<ConfigurationStream, ApiError> {
        let store = self
            .store(&request.store_name)
            .await
            .map_err(ApiError::with_error_info)?;
        let mut keys = request.keys;
        keys.sort_unstable();
        let failed = |cause: &str| {
            errors::configuration_subscribe(key_list(&keys), &store.name, cause)
                .with_codes(StatusCode::INTERNAL_SERVER_ERROR, Code::InvalidArgument)
                .with_error_info()
        };
        if let Some(refusal) = self.subscriptions.refusal() {
            return Err(failed(refusal));
        }
        let id = uuid::Uuid::new_v4().to_string();
        let (sender, updates) = mpsc::channel(QUEUE);
        let stop = CancellationToken::new();
        let queue = Queue {
            id: id.clone(),
            sender,
            stop: stop.clone(),
        };
        let watching = self
            .watch(
                &store,
                &keys,
                &request.metadata.into_iter().collect(),
                Arc::new(queue),
            )
            .await
            .map_err(|error| failed(&error_text(&error)))?;
        let subscription = Subscription {
            store: store.name.to_string(),
            stop: stop.clone(),
            watching,
        };
        self.subscriptions
            .add(&id, subscription)
            .map_err(|_| failed("the sidecar takes no more subscriptions"))?;
        Ok(ConfigurationStream {
            first: Some(SubscribeConfigurationResponse {
                id: id.clone(),
                items: HashMap::new(),
            }),
            updates,
            stopped: Box::pin(stop.cancelled_owned()),
            guard: Guard {
                id,
                store: store.name.to_string(),
                subscriptions: Arc::clone(&self.subscriptions),
                around: self.around.clone(),
            },
        })
    }

    /// `UnsubscribeConfiguration` and `UnsubscribeConfigurationAlpha1`: ends a stream from outside.
    pub async fn grpc_unsubscribe(
        &self,
        request: UnsubscribeConfigurationRequest,
    ) -> UnsubscribeConfigurationResponse {
        if !self.subscriptions.has(&request.id) || !self.unwatch(&request.store_name, &request.id).await {
            let error = errors::configuration_unsubscribe(&request.id, "subscription does not exist");
            return UnsubscribeConfigurationResponse {
                ok: false,
                message: error.message().to_owned(),
            };
        }
        tracing::warn!(
            target: "dapr.runtime.grpc",
            "Unsubscribing using UnsubscribeConfiguration is deprecated. Disconnect from the SubscribeConfiguration \
             RPC instead."
        );
        UnsubscribeConfigurationResponse {
            ok: true,
            message: String::new(),
        }
    }
}

fn messages(items: Items) -> HashMap<String, ConfigurationItem> {
    items
        .into_iter()
        .map(|(key, item)| {
            let message = ConfigurationItem {
                value: item.value,
                version: item.version,
                metadata: item.metadata.into_iter().collect(),
            };
            (key, message)
        })
        .collect()
}

/// Puts updates into the queue of a stream.
struct Queue {
    id: String,
    sender: mpsc::Sender<SubscribeConfigurationResponse>,
    stop: CancellationToken,
}

impl UpdateHandler for Queue {
    fn handle(&self, items: Items) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let update = SubscribeConfigurationResponse {
                id: self.id.clone(),
                items: messages(items),
            };
            // A client that is gone takes the subscription with it, and one that does not read must not keep the
            // subscription from ending.
            let _ = self.stop.run_until_cancelled(self.sender.send(update)).await;
        })
    }
}

/// Ends the subscription with its stream.
struct Guard {
    id: String,
    store: String,
    subscriptions: Arc<Subscriptions>,
    around: Surroundings,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let began = self.around.metrics.is_enabled().then(Instant::now);
        if let Some(subscription) = self.subscriptions.take(&self.id) {
            drop(subscription);
            self.around.count(
                ComponentCall::Configuration,
                &self.store,
                "unsubscribe",
                true,
                began,
            );
        }
    }
}

/// The messages of one subscription.
pub struct ConfigurationStream {
    first: Option<SubscribeConfigurationResponse>,
    updates: mpsc::Receiver<SubscribeConfigurationResponse>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    guard: Guard,
}

impl fmt::Debug for ConfigurationStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigurationStream")
            .field("id", &self.guard.id)
            .finish_non_exhaustive()
    }
}

impl Stream for ConfigurationStream {
    type Item = Result<SubscribeConfigurationResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        self.updates.poll_recv(cx).map(|update| update.map(Ok))
    }
}
