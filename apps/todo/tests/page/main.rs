//! The todo app from outside: its services beside in-memory sidecars, its page in headless Chromium, and the whole of
//! it as processes under `outrigger run` (N1–N3, N5, N7).

#![allow(
    clippy::print_stdout,
    reason = "why a test was skipped, and what processes said, is shown by cargo"
)]

mod api;
mod browser;
mod chat;
mod client;
mod house;
mod outside;
mod processes;
mod profiles;
mod running;
mod survival;
mod watched;
mod webdriver;

use std::time::Duration;

/// One browser at a time: a second is measured, and a browser takes a core.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Waits until `condition` holds and returns what it found. The limit is for machines that are busy with other things.
async fn until<T, F: AsyncFnMut() -> Option<T>>(what: &str, mut condition: F) -> T {
    let wait = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), wait)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
