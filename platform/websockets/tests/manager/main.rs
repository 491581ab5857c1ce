//! The service over its gRPC and REST interfaces, with WebSocket servers in the test and in-memory sidecars.

mod connections;
mod instance;
mod lifecycle;
mod ownership;
mod peer;
mod publishing;
mod requests;

use std::time::Duration;

/// Waits until something holds.
async fn until<F, Fut>(what: &str, mut holds: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
