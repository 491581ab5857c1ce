//! Configuration (A9.1, A9.2; upstream `pkg/api/http/http.go`, `pkg/api/grpc/grpc.go`).

mod app;
mod grpc;
mod http;
mod subscriptions;

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use outrigger_component::{Error, Metadata};
use outrigger_configuration::{Items, SharedConfigurationStore, UpdateHandler, Watching};
use outrigger_sidecar_api::{ApiError, Components, Loaded, errors};
use outrigger_sidecar_app_channel::AppChannel;
use outrigger_sidecar_resilience::{ComponentKind, ResilienceProvider, RunError};
use outrigger_telemetry::{Metrics, metrics::ComponentCall};

use crate::call::{Surroundings, missing};

pub use grpc::ConfigurationStream;
use subscriptions::Subscriptions;

/// What the service needs.
#[derive(Clone)]
pub struct ConfigurationServiceOptions {
    /// The configuration stores.
    pub stores: Arc<Components<SharedConfigurationStore>>,
    /// The app, which takes updates of subscriptions made over HTTP.
    pub app: Option<AppChannel>,
    /// Policies; replaced when Resiliency resources change.
    pub resilience: Arc<ArcSwap<ResilienceProvider>>,
    /// Where calls are counted.
    pub metrics: Metrics,
}

impl fmt::Debug for ConfigurationServiceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigurationServiceOptions")
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}

/// The configuration building block as served to the app.
#[derive(Debug)]
pub struct ConfigurationService {
    stores: Arc<Components<SharedConfigurationStore>>,
    app: Option<AppChannel>,
    around: Surroundings,
    subscriptions: Arc<Subscriptions>,
}

impl ConfigurationService {
    /// A service over these stores.
    #[must_use]
    pub fn new(options: ConfigurationServiceOptions) -> Self {
        Self {
            stores: options.stores,
            app: options.app,
            around: Surroundings {
                resilience: options.resilience,
                metrics: options.metrics,
            },
            subscriptions: Arc::new(Subscriptions::default()),
        }
    }

    /// Ends the subscriptions of a store, before the store is closed.
    pub async fn close_store(&self, store: &str) {
        self.subscriptions
            .end_where(|subscription| subscription.store == store)
            .await;
    }

    /// Ends all subscriptions and their streams and takes no more. Idempotent.
    pub async fn close(&self) {
        self.subscriptions.close().await;
    }

    async fn store(&self, name: &str) -> Result<Arc<Loaded<SharedConfigurationStore>>, ApiError> {
        self.stores.get(name).await.map_err(|error| {
            missing(
                error,
                errors::configuration_stores_not_configured(),
                errors::configuration_store_not_found(name),
            )
        })
    }

    async fn read(
        &self,
        store: &Loaded<SharedConfigurationStore>,
        keys: &[String],
        metadata: &Metadata,
    ) -> Result<Items, RunError<Error>> {
        let began = self.around.clock();
        let read = self
            .around
            .outbound(&store.name, ComponentKind::Configuration)
            .run(|_| store.instance.get(keys, metadata))
            .await;
        self.around.count(
            ComponentCall::Configuration,
            &store.name,
            "get",
            read.is_ok(),
            began,
        );
        read
    }

    async fn watch(
        &self,
        store: &Loaded<SharedConfigurationStore>,
        keys: &[String],
        metadata: &Metadata,
        handler: Arc<dyn UpdateHandler>,
    ) -> Result<Box<dyn Watching>, RunError<Error>> {
        let began = self.around.clock();
        let watching = self
            .around
            .outbound(&store.name, ComponentKind::Configuration)
            .run(|_| {
                store
                    .instance
                    .subscribe(keys.to_vec(), metadata.clone(), Arc::clone(&handler))
            })
            .await;
        self.around.count(
            ComponentCall::Configuration,
            &store.name,
            "subscribe",
            watching.is_ok(),
            began,
        );
        watching
    }

    /// Ends a subscription; `false` when there is none of that id.
    async fn unwatch(&self, store: &str, id: &str) -> bool {
        let began = self.around.clock();
        let ended = self.subscriptions.end(id).await;
        self.around
            .count(ComponentCall::Configuration, store, "unsubscribe", ended, began);
        ended
    }
}

/// Keys as Go prints a slice of strings.
fn key_list(keys: &[String]) -> String {
    format!("[{}]", keys.join(" "))
}
