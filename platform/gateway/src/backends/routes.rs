//! The REST routes of backends, from what they tell of themselves; read again when the services change and from time to
//! time (G3.1, G3.2).

use std::sync::Arc;
use std::time::Duration;

use outrigger_platform_transcoding::{LiveRoutes, Mount, Transcoder};
use tokio_util::sync::CancellationToken;

use super::{Backends, ServiceUpstream};

/// The wait for a backend that could not be asked.
const AGAIN: Duration = Duration::from_secs(2);

/// Keeps the routes up to date until the token is cancelled. A backend that is away keeps the routes that it had.
pub async fn follow(backends: Arc<Backends>, routes: Arc<LiveRoutes>, stopping: CancellationToken) {
    let mut changes = backends.catalog().changes();
    loop {
        changes.borrow_and_update();
        backends.adopt();
        let complete = refresh(&backends, &routes).await;
        let pause = if complete { backends.max_age } else { AGAIN };
        tokio::select! {
            () = stopping.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = backends.forgotten.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Asks all backends at once; tells whether each of them answered.
async fn refresh(backends: &Arc<Backends>, routes: &LiveRoutes) -> bool {
    let services = backends.catalog().services();
    let before = routes.mounts();
    let asked = services
        .iter()
        .filter(|service| service.grpc.reflection_enabled && service.route().is_some())
        .map(|service| async move {
            let told = backends.descriptors(service).await;
            (service, told)
        });
    let mut complete = true;
    let mut mounts = Vec::new();
    for (service, told) in futures::future::join_all(asked).await {
        match told {
            Ok(told) => {
                let transcoder = Transcoder::new(&told.pool, &told.services);
                for fault in transcoder.faults() {
                    tracing::warn!(service = service.name, %fault, "an HTTP rule is not served");
                }
                mounts.push(Mount {
                    name: service.name.clone(),
                    transcoder: Arc::new(transcoder),
                    upstream: Arc::new(ServiceUpstream::new(Arc::clone(backends), service.name.clone())),
                });
            }
            Err(status) => {
                // One without reflection will not get it by being asked more often.
                complete &= status.code() == tonic::Code::FailedPrecondition;
                tracing::debug!(service = service.name, %status, "a backend does not tell its routes");
                mounts.extend(before.iter().find(|mount| mount.name == service.name).cloned());
            }
        }
    }
    routes.replace(mounts);
    complete
}
