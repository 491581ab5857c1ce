//! The life of a sidecar: serve, open, wait for the app, work, drain, close (wire.md §1 "Init order", "Shutdown"), and
//! the change from one instance to the next (design D13).

mod app;
mod prepare;
mod retire;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use outrigger_sidecar_app_channel::AppHealth;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::prepare::put_http_endpoint;
use crate::{assembly::Assembly, front::Front, reload, sidecar::Exit};

const LOG: &str = "dapr.runtime";
/// How long the inputs of an instance wait for those of the one before, whose deliveries may take longer to end.
const HANDOVER: Duration = Duration::from_secs(5);

/// Why a sidecar gives up.
pub(crate) type Fatal = String;

/// A task that ends with its handle.
struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    fn spawn(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    async fn ended(&mut self) -> Result<T, JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An instance at work.
struct Working {
    assembly: Arc<Assembly>,
    task: Task<Result<(), Fatal>>,
}

/// Runs until the sidecar is asked to stop or cannot go on.
pub(crate) async fn run(front: Arc<Front>, first: Arc<Assembly>) -> Exit {
    tracing::info!(target: LOG, "{} mode configured", first.options.mode.as_str());
    tracing::info!(target: LOG, "app id: {}", first.options.app_id);
    // Before anything is served: a call to a component that is still opening waits for it.
    prepare::announce(&first);
    front.open_early();
    // With middleware in front of it the API waits for that, so that nothing passes unguarded (design D8).
    if !first.pipelines.guards_api() {
        front.open_http();
    }
    let mut current = Working {
        task: Task::spawn(begin(Arc::clone(&front), Arc::clone(&first))),
        assembly: first,
    };
    let retired = TaskTracker::new();
    let mut next: Option<Task<Result<Arc<Assembly>, Fatal>>> = None;
    let outcome = loop {
        tokio::select! {
            () = front.force.cancelled() => return Exit::Forced,
            () = front.stop.cancelled() => break Exit::Stopped,
            ended = current.task.ended() => break match ended {
                Ok(Err(error)) => Exit::Failed(error),
                Ok(Ok(())) | Err(_) => Exit::Failed("the sidecar's main task ended unexpectedly".to_owned()),
            },
            () = front.renew.notified(), if next.is_none() => {
                next = Some(Task::spawn(successor(Arc::clone(&front), Arc::clone(&current.assembly))));
            }
            built = async { match &mut next {
                Some(next) => next.ended().await,
                None => std::future::pending().await,
            } } => {
                next = None;
                match built {
                    Ok(Ok(successor)) => current = hand_over(&front, current, successor, &retired),
                    // Upstream ends here. There is an instance that works: keep it, and say why.
                    Ok(Err(error)) => {
                        tracing::error!(target: LOG, "the reload failed, the sidecar goes on as it was: {error}");
                    }
                    Err(error) => tracing::error!(target: LOG, "the reload failed, the sidecar goes on as it was: {error}"),
                }
            }
        }
    };
    drop(next);
    let assembly = Arc::clone(&current.assembly);
    // Only what follows the app and the files ends here; requests are still served.
    drop(current);
    if outcome == Exit::Stopped {
        // The app may still be served while the sidecar waits to be let go.
        tokio::select! {
            () = front.force.cancelled() => return Exit::Forced,
            () = block_shutdown(&assembly) => {}
        }
    }
    assembly.inbound.not_ready("runtime", "shutting down");
    let closing = async {
        retired.close();
        tokio::join!(retire::close(&front, &assembly), retired.wait());
    };
    let within_grace = async {
        match assembly.options.graceful_shutdown {
            Some(grace) => tokio::time::timeout(grace, closing).await.is_ok(),
            None => {
                closing.await;
                true
            }
        }
    };
    let in_time = tokio::select! {
        () = front.force.cancelled() => return Exit::Forced,
        in_time = within_grace => in_time,
    };
    if !in_time {
        tracing::error!(target: LOG, fatal = true, "Graceful shutdown timeout exceeded, forcing shutdown");
        return Exit::Forced;
    }
    outcome
}

/// The first instance, from its resources to its end.
async fn begin(front: Arc<Front>, assembly: Arc<Assembly>) -> Result<(), Fatal> {
    let began = Instant::now();
    // Peers may call as soon as they can find us, which is after the registration below.
    front.open_internal();
    prepare::report_absent(&assembly);
    prepare::register(&assembly, front.addresses()).await;
    prepare::prepare(&assembly).await?;
    front.open_http();
    assembly.outbound.ready("app");
    Box::pin(work(&front, &assembly, began)).await
}

/// The next instance, ready to answer. Nobody sees it yet.
async fn successor(front: Arc<Front>, before: Arc<Assembly>) -> Result<Arc<Assembly>, Fatal> {
    let built = Assembly::build(front.options().clone(), front.common(), Some(&before)).await;
    let assembly = Arc::new(built.map_err(|error| error.to_string())?);
    prepare::announce(&assembly);
    if let Err(error) = prepare::prepare(&assembly).await {
        retire::discard(&assembly).await;
        return Err(error);
    }
    assembly.outbound.ready("app");
    Ok(assembly)
}

/// Puts the next instance in the place of the one that answers, which ends what it has begun.
fn hand_over(front: &Arc<Front>, before: Working, next: Arc<Assembly>, retired: &TaskTracker) -> Working {
    if before.assembly.inbound.is_ready() {
        // Whoever watches health sees one sidecar that goes on.
        next.inbound.ready("runtime");
    }
    front.show(&next);
    front.open_internal();
    front.open_http();
    let Working {
        assembly: before,
        task,
    } = before;
    drop(task);
    let inputs_over = CancellationToken::new();
    retired.spawn(retire::retire(
        before,
        next.is_resolver_inherited,
        inputs_over.clone(),
    ));
    let began = Instant::now();
    let (front, assembly) = (Arc::clone(front), Arc::clone(&next));
    let task = Task::spawn(async move {
        // Two consumers of one app would be no harm, two that fire at the same time would.
        let _ = tokio::time::timeout(HANDOVER, inputs_over.cancelled()).await;
        if !assembly.is_resolver_inherited {
            prepare::register(&assembly, front.addresses()).await;
        }
        Box::pin(work(&front, &assembly, began)).await
    });
    Working { assembly: next, task }
}

/// What an instance does until its end: serves its app, follows its files.
async fn work(front: &Front, assembly: &Arc<Assembly>, began: Instant) -> Result<(), Fatal> {
    // Lets go of connections to peers that are no longer called.
    let peers = assembly.invocation.run(CancellationToken::new());
    let known = crate::mcp::load(assembly).await?;
    let serve_app = async {
        app::wait_for_app(assembly).await;
        if let Some(max) = assembly.options.app.as_ref().and_then(|app| app.max_concurrency) {
            tracing::info!(target: LOG, "app max concurrency set to {max}");
        }
        // Whoever sees the sidecar ready may count on its subscriptions, unless the app's health decides.
        let started = assembly.app_health.borrow().is_healthy();
        if started {
            app::read_app_config(assembly).await;
            app::start_inputs(assembly).await;
        }
        let elapsed = began.elapsed().as_millis();
        tracing::info!(target: LOG, "dapr initialized. Status: Running. Init Elapsed {elapsed}ms");
        assembly.inbound.ready("runtime");
        app::follow_app(assembly, started).await
    };
    tokio::select! {
        ended = serve_app => ended,
        failed = reload::follow(assembly, known, &front.renew) => Err(failed),
        reason = assembly.loader.progress.gave_up() => Err(reason),
        () = peers => Ok(()),
    }
}

/// `--dapr-block-shutdown-duration`: takes nothing new in, serves on, and waits for the time to pass or the app to
/// say that it is done.
async fn block_shutdown(assembly: &Assembly) {
    let Some(duration) = assembly.options.block_shutdown else {
        return;
    };
    let shown = outrigger_types::duration::GoDuration::from_std(duration);
    tracing::info!(target: LOG, "Blocking graceful shutdown for {shown} or until app reports unhealthy...");
    assembly.pubsub.stop_forever().await;
    assembly.inputs.stop(true).await;
    let mut health = assembly.app_health.subscribe();
    let unhealthy = health.wait_for(|health| matches!(health, AppHealth::Unhealthy { .. }));
    let probes = app::probe(assembly);
    tokio::select! {
        () = tokio::time::sleep(duration) => {
            tracing::info!(target: LOG, "Block shutdown period expired, entering shutdown...");
        }
        _ = unhealthy => {
            tracing::info!(target: LOG, "App reported unhealthy, entering shutdown...");
        }
        () = probes => {}
    }
}
