//! The end of an instance, and of the sidecar: inputs first, then what is under way, then components.

use std::{sync::Arc, time::Duration};

use outrigger_sidecar_app_channel::AppChannel;
use tokio_util::sync::CancellationToken;

use crate::{assembly::Assembly, components::close_all, front::Front};

const LOG: &str = "dapr.runtime";
/// How long spans, metrics and log lines may take to leave at the end; half of the grace period if that is shorter.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long requests may take to end on an instance that was replaced.
const LONGEST_REQUEST: Duration = Duration::from_secs(60);

/// Ends in order: nothing new in, what is under way finishes, peers and app let go, components closed.
pub(super) async fn close(front: &Front, assembly: &Assembly) {
    tracing::info!(target: LOG, "Dapr is shutting down");
    // No new calls find us while those under way are finished.
    withdraw(assembly).await;
    stop_inputs(assembly).await;
    front.close().await;
    assembly.configuration_api.close().await;
    finish(assembly).await;
    tracing::info!(target: LOG, "Dapr runtime stopped");
    let deadline = flush(assembly).await;
    // Of an instance that was replaced it ends with its last handle: the next one may go on with it.
    assembly.audit.shutdown(deadline).await;
}

/// Ends an instance that another one has taken the place of. Tells when its inputs have ended, so that those of the
/// other one may begin.
pub(super) async fn retire(assembly: Arc<Assembly>, resolver_goes_on: bool, inputs_over: CancellationToken) {
    if !resolver_goes_on {
        withdraw(&assembly).await;
    }
    // Streams end, and clients open them anew.
    assembly.ending.cancel();
    tokio::join!(stop_inputs(&assembly), assembly.configuration_api.close());
    inputs_over.cancel();
    let idle = async {
        tokio::join!(
            assembly.http.idle(),
            assembly.public_http.idle(),
            assembly.grpc.idle()
        )
    };
    if tokio::time::timeout(LONGEST_REQUEST, idle).await.is_err() {
        tracing::warn!(target: LOG, "requests that began before the reload are still under way; their components are closed");
    }
    finish(&assembly).await;
    flush(&assembly).await;
}

/// Ends an instance that never answered.
pub(super) async fn discard(assembly: &Assembly) {
    assembly.ending.cancel();
    assembly.loader.progress.end();
    finish(assembly).await;
}

async fn withdraw(assembly: &Assembly) {
    if let Some(resolver) = &assembly.resolver
        && let Err(error) = resolver.close().await
    {
        tracing::debug!(target: LOG, "cannot withdraw from name resolution: {}", error.chain());
    }
}

async fn stop_inputs(assembly: &Assembly) {
    assembly.loader.progress.end();
    tokio::join!(
        assembly.pubsub.stop_forever(),
        assembly.inputs.stop(true),
        assembly.outbox.stop()
    );
}

async fn finish(assembly: &Assembly) {
    let over = CancellationToken::new();
    over.cancel();
    // Lets go of the connections to peers.
    assembly.invocation.run(over).await;
    close_all(&assembly.loader.tables).await;
    assembly.app_slot.store(None::<Arc<AppChannel>>);
}

/// Sends the last spans, metrics and log lines. A collector that hangs must not use up the grace period.
async fn flush(assembly: &Assembly) -> tokio::time::Instant {
    let grace = assembly.options.graceful_shutdown;
    let limit = grace.map_or(FLUSH_TIMEOUT, |grace| (grace / 2).min(FLUSH_TIMEOUT));
    let deadline = tokio::time::Instant::now() + limit;
    tokio::join!(
        assembly.tracer.shutdown(deadline),
        assembly.pushes.shutdown(deadline)
    );
    deadline
}
