//! What the tests stand on: sidecars, apps, clients.

pub(crate) mod app;
pub(crate) mod client;
pub(crate) mod echo;
pub(crate) mod program;
pub(crate) mod random;
pub(crate) mod sidecar;

use std::time::{Duration, Instant};

/// Longest wait for something that must happen. Far above what it takes, because machines are shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Looks every few milliseconds until there is something.
pub(crate) async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "gave up waiting: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
