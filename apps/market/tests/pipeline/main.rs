//! The whole pipeline as processes under `outrigger run -f`: its page in headless Chromium, and what is left of it when
//! each of its processes is killed (P1).

#![allow(
    clippy::print_stdout,
    reason = "why a test was skipped, figures, and what processes said, are shown by cargo"
)]

mod auditor;
#[allow(dead_code, reason = "shared with the todo app's tests, which use all of it")]
#[path = "../../../todo/tests/page/client.rs"]
mod client;
mod foreign;
mod kills;
mod languages;
mod page;
mod running;
#[allow(dead_code, reason = "shared with the todo app's tests, which use all of it")]
#[path = "../../../todo/tests/page/webdriver.rs"]
mod webdriver;

use std::time::Duration;

/// One pipeline at a time: times are measured.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Waits until `condition` holds and returns what it found.
async fn until<T, F: AsyncFnMut() -> Option<T>>(what: &str, mut condition: F) -> T {
    let wait = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
