//! The handle of a running sidecar.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    assembly::{Assembly, AssemblyError, Common},
    front::Front,
    lifecycle, listeners,
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
    front: Arc<Front>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Sidecar {
    /// Reads the configuration, binds all addresses and starts. The APIs answer before components are open; health
    /// says what is missing.
    ///
    /// # Errors
    /// When the configuration cannot be read or an address not be bound.
    pub async fn start(options: SidecarOptions) -> Result<Self, AssemblyError> {
        let (bound, addresses) = listeners::bind_all(&options)?;
        let common = Common {
            internal_port: addresses.internal.map_or(0, |address| address.port()),
            stop: CancellationToken::new(),
            force: CancellationToken::new(),
        };
        let first = Arc::new(Assembly::build(options.clone(), common.clone(), None).await?);
        let front = Arc::new(Front::new(options, bound, addresses, common, &first));
        let (report, exit) = watch::channel(None);
        let running = Arc::clone(&front);
        tokio::spawn(async move {
            let outcome = lifecycle::run(running, first).await;
            report.send_replace(Some(outcome));
        });
        Ok(Self { front, exit })
    }

    /// Reads everything anew, as upstream does on SIGHUP; returns at once. The next instance is built beside the one
    /// that answers and takes its place when it is ready; ports stay open, and requests under way end on what they
    /// began with. If it cannot be built, the sidecar goes on as it is and says why. Several calls before that are one.
    pub fn reload(&self) {
        self.front.renew.notify_one();
    }

    /// Asks it to stop; returns at once.
    pub fn shutdown(&self) {
        self.front.stop.cancel();
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
        self.front.stop.clone()
    }

    /// The addresses that were bound, for callers that asked for port 0.
    #[must_use]
    pub fn addresses(&self) -> &crate::listeners::Addresses {
        self.front.addresses()
    }
}
