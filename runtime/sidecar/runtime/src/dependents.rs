//! What starts and stops with a component: subscriptions, input bindings, the outbox, streams, pipelines.

use std::sync::Arc;

use outrigger_sidecar_blocks::{ConfigurationService, InputBindings};
use outrigger_sidecar_pubsub::{PubsubOutbox, PubsubService};

use crate::{components::Block, pipelines::Pipelines};

/// The parts of a sidecar that use components of their own accord.
pub(crate) struct Dependents {
    pub(crate) pubsub: Arc<PubsubService>,
    pub(crate) outbox: Arc<PubsubOutbox>,
    pub(crate) inputs: Arc<InputBindings>,
    pub(crate) configuration: Arc<ConfigurationService>,
    pub(crate) pipelines: Arc<Pipelines>,
}

impl Dependents {
    /// A component was put in place. What the app's health or the start-up holds back stays so.
    pub(crate) async fn opened(&self, block: Block, name: &str) {
        match block {
            Block::Pubsub => self.reload_broker(name).await,
            Block::State => self.outbox.refresh().await,
            Block::Bindings => self.inputs.opened(name).await,
            Block::Middleware => self.pipelines.rebuild(),
            _ => {}
        }
    }

    /// A component is about to close: ends what it feeds, with what is in flight.
    pub(crate) async fn closing(&self, block: Block, name: &str) {
        match block {
            Block::Pubsub => {
                tokio::join!(self.pubsub.stop_component(name), self.outbox.stop_component(name));
            }
            Block::Bindings => self.inputs.closing(name).await,
            Block::Configuration => self.configuration.close_store(name).await,
            _ => {}
        }
    }

    /// A component is out of its table for good.
    pub(crate) async fn gone(&self, block: Block, name: &str) {
        match block {
            Block::Pubsub => self.reload_broker(name).await,
            Block::State => self.outbox.refresh().await,
            Block::Middleware => self.pipelines.rebuild(),
            _ => {}
        }
    }

    async fn reload_broker(&self, name: &str) {
        if let Err(error) = self.pubsub.reload_component(name).await {
            tracing::warn!(target: "dapr.runtime.processor", "failed to subscribe to topics: {error}");
        }
        self.outbox.refresh().await;
    }
}
