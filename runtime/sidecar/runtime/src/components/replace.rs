//! Closing components and putting others in their place (upstream `pkg/runtime/hotreload/reconciler`).
//!
//! What a component delivers is drained before it closes, and calls that are under way on it end on it; calls that
//! come meanwhile wait for its successor.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use outrigger_bindings::Binding;
use outrigger_component::Error;
use outrigger_configuration::SharedConfigurationStore;
use outrigger_conversation::SharedConversation;
use outrigger_crypto::SharedCryptoProvider;
use outrigger_lock::SharedLockStore;
use outrigger_middleware::SharedMiddleware;
use outrigger_pubsub::SharedPubSub;
use outrigger_resources::kinds::{Component, Resource as _, component_log_name};
use outrigger_secrets::SharedSecretStore;
use outrigger_sidecar_api::Loaded;
use outrigger_state::SharedStateStore;
use outrigger_types::ComponentName;
use tokio::task::JoinSet;

use super::{Block, ComponentFailure, ComponentLoader, Opened, Tables};

const LOG: &str = "dapr.runtime.hotreload.reconciler";
/// How long calls under way may hold the successor up. Longer ones end beside it: few backends mind two clients.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a call may keep a component open that is out of its table.
const LONGEST_CALL: Duration = Duration::from_secs(60);
/// Between two looks whether calls are under way.
const LOOK: Duration = Duration::from_millis(5);

/// An instance that can be closed.
pub(super) trait Close: Send + Sync + 'static {
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}

macro_rules! close {
    ($($kind:ty),*) => {$(
        impl Close for $kind {
            fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
                (**self).close()
            }
        }
    )*};
}

close!(
    SharedStateStore,
    SharedPubSub,
    SharedSecretStore,
    SharedConfigurationStore,
    SharedLockStore,
    SharedCryptoProvider,
    SharedConversation,
    SharedMiddleware
);

impl Close for Binding {
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let (mut input, mut output) = (Ok(()), Ok(()));
            if let Some(side) = &self.input {
                input = side.close().await;
            }
            if let Some(side) = &self.output {
                output = side.close().await;
            }
            input.and(output)
        })
    }
}

async fn close<T: Close>(loaded: &Loaded<T>) {
    let log_name = component_log_name(&loaded.name, &loaded.type_name, &loaded.version);
    tracing::info!(target: "dapr.runtime", "Shutting down component {log_name}");
    if let Err(error) = loaded.instance.close().await {
        tracing::warn!(
            target: "dapr.runtime",
            "component {log_name} did not close in order: {}",
            error.chain()
        );
    }
}

/// Waits until nobody but the caller holds it, which is when calls on it have ended.
async fn unused<T>(loaded: &Arc<Loaded<T>>) {
    while Arc::strong_count(loaded) > 1 {
        tokio::time::sleep(LOOK).await;
    }
}

/// Closes a component that is out of its table, once its calls have ended. Long ones are not waited for.
async fn let_go<T: Close>(loaded: Arc<Loaded<T>>) {
    if tokio::time::timeout(PATIENCE, unused(&loaded)).await.is_ok() {
        close(&loaded).await;
    } else {
        let_go_later(loaded);
    }
}

/// The same, beside what the caller does.
pub(super) fn let_go_later<T: Close>(loaded: Arc<Loaded<T>>) {
    tokio::spawn(async move {
        let _ = tokio::time::timeout(LONGEST_CALL, unused(&loaded)).await;
        close(&loaded).await;
    });
}

/// Closes all components, side by side.
pub(crate) async fn close_all(tables: &Tables) {
    let mut closing = JoinSet::new();
    macro_rules! table {
        ($($table:ident),*) => {$(
            for loaded in tables.$table.all() {
                closing.spawn(async move { close(&loaded).await });
            }
        )*};
    }
    table!(
        state,
        pubsub,
        bindings,
        secrets,
        configuration,
        lock,
        crypto,
        conversation,
        middleware
    );
    while closing.join_next().await.is_some() {}
}

impl ComponentLoader {
    /// Puts a component in the place of the one that was loaded under its name, if there is one.
    ///
    /// # Errors
    /// When it cannot be opened and its file does not say to go on without it.
    pub(crate) async fn update(
        self: &Arc<Self>,
        old: Option<&Component>,
        new: Component,
    ) -> Result<Opened, ComponentFailure> {
        let log_name = new.log_name();
        let block = Block::of(new.category());
        let mut guards = false;
        if let Some(old) = old {
            tracing::info!(target: LOG, "Closing existing Component to reload: {}", old.log_name());
            let stays = block == Block::of(old.category());
            // A request must not pass unguarded while its middleware is another one.
            guards = stays && block == Some(Block::Middleware);
            if guards {
                self.progress.forget(old.name());
            } else {
                self.withdraw(old, stays.then(|| new.init_timeout())).await;
            }
        }
        if !guards {
            self.announce(std::slice::from_ref(&new));
        }
        tracing::info!(target: LOG, "Adding Component for processing: {log_name}");
        let opened = Arc::clone(self).open(new.clone()).await?;
        if guards && opened == Opened::Ignored {
            self.withdraw(&new, None).await;
        }
        tracing::info!(target: LOG, "Component updated: {log_name}");
        Ok(opened)
    }

    /// Whether a component could not be opened and the sidecar goes on without it.
    pub(crate) fn has_failed(&self, component: &Component) -> bool {
        component.spec.ignore_errors && !self.tables.knows(component.name())
    }

    /// Closes a component whose file is gone.
    pub(crate) async fn remove(&self, component: &Component) {
        self.withdraw(component, None).await;
    }

    /// Stops what a component feeds, takes it out and lets it go. With a time to wait a successor follows.
    async fn withdraw(&self, component: &Component, successor: Option<Duration>) {
        let name = ComponentName::from(component.name());
        self.progress.forget(&name);
        let Some(block) = Block::of(component.category()) else {
            return;
        };
        self.dependents.closing(block, &name).await;
        macro_rules! take {
            ($table:ident) => {{
                let table = &self.tables.$table;
                let taken = match successor {
                    Some(timeout) => table.renew(&name, timeout),
                    None => table.remove(&name),
                };
                if successor.is_none() {
                    self.dependents.gone(block, &name).await;
                }
                if let Some(taken) = taken {
                    let_go(taken).await;
                }
            }};
        }
        match block {
            Block::State => take!(state),
            Block::Pubsub => take!(pubsub),
            Block::Bindings => take!(bindings),
            Block::Secrets => take!(secrets),
            Block::Configuration => take!(configuration),
            Block::Lock => take!(lock),
            Block::Crypto => take!(crypto),
            Block::Conversation => take!(conversation),
            Block::Middleware => take!(middleware),
        }
    }
}
