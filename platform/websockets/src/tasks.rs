//! Tasks whose failure is told (F10).

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;

/// Runs work beside; a panic in it is logged, not lost.
pub(crate) fn spawn(what: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        if AssertUnwindSafe(work).catch_unwind().await.is_err() {
            tracing::error!("{what} ended in a panic");
        }
    });
}
