//! The handle of a running sidecar.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    assembly::{Assembly, AssemblyError},
    lifecycle,
    options::SidecarOptions,
};

/// How a sidecar ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// As asked, in order.
    Stopped,
    /// At once, because somebody asked for that or because the grace period was over.
    Forced,
    /// By an error that it cannot live with; the text says which.
    Failed(String),
}

/// A running sidecar: listeners bound, everything else on its way. Dropping the handle does not stop it;
/// [`Sidecar::shutdown`] does. Several may run in one process.
#[derive(Debug, Clone)]
pub struct Sidecar {
    assembly: Arc<Assembly>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Sidecar {
    /// Reads the configuration, binds all addresses and starts. The APIs answer before components are open; health
    /// says what is missing.
    ///
    /// # Errors
    /// When the configuration cannot be read or an address not be bound.
    pub async fn start(options: SidecarOptions) -> Result<Self, AssemblyError> {
        let assembly = Arc::new(Assembly::build(options).await?);
        let (report, exit) = watch::channel(None);
        let running = Arc::clone(&assembly);
        tokio::spawn(async move {
            let outcome = lifecycle::run(running).await;
            report.send_replace(Some(outcome));
        });
        Ok(Self { assembly, exit })
    }

    /// Asks it to stop; returns at once.
    pub fn shutdown(&self) {
        self.assembly.stop.cancel();
    }

    /// Waits for its end. Cancel-safe.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or(Exit::Forced),
            // The task is gone without a word: it panicked.
            Err(_) => Exit::Failed("the sidecar's main task ended unexpectedly".to_owned()),
        }
    }

    /// The token that ends it.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.assembly.stop.clone()
    }

    /// Whether all parts are ready, the app included.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.assembly.inbound.is_ready()
    }

    /// The addresses that were bound, for callers that asked for port 0.
    #[must_use]
    pub fn addresses(&self) -> &crate::listeners::Addresses {
        &self.assembly.addresses
    }
}
