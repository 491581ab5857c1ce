//! What an instance does with its app: waits for it, reads what it wants, keeps its inputs running while it is healthy.

use std::{sync::Arc, time::Duration};

use outrigger_sidecar_app_channel::TcpConnector;

use super::Fatal;
use crate::assembly::Assembly;

const LOG: &str = "dapr.runtime";
/// How long one attempt to reach the app's port may take, and the pause between attempts (upstream).
const APP_DIAL: Duration = Duration::from_millis(500);
const APP_PAUSE: Duration = Duration::from_millis(100);
/// Attempts between two lines that say that the app is still awaited: ten seconds' worth.
const APP_REMINDER: u32 = 100;

/// Waits until the app accepts connections, for ever.
pub(super) async fn wait_for_app(assembly: &Assembly) {
    let Some(app) = &assembly.options.app else {
        tracing::warn!(target: "dapr.runtime.channels", "App channel is not initialized. Did you configure an app-port?");
        return;
    };
    tracing::info!(
        target: LOG,
        "application protocol: {}. waiting on port {}.  This will block until the app is listening on that port.",
        app.protocol,
        app.port
    );
    let connector = TcpConnector::new(APP_DIAL);
    let mut attempts: u32 = 0;
    while connector.connect(&app.channel_address, app.port).await.is_err() {
        attempts = attempts.wrapping_add(1);
        if attempts.is_multiple_of(APP_REMINDER) {
            tracing::info!(target: LOG, "waiting for application to listen on port {}", app.port);
        }
        tokio::time::sleep(APP_PAUSE).await;
    }
    tracing::info!(target: LOG, "application discovered on port {}", app.port);
}

/// Keeps inputs running while the app is healthy. `running` tells whether they run already.
pub(super) async fn follow_app(assembly: &Arc<Assembly>, mut running: bool) -> Result<(), Fatal> {
    let probes = probe(assembly);
    let follow = async {
        let mut health = assembly.app_health.subscribe();
        let mut known = running;
        loop {
            let healthy = health.borrow_and_update().is_healthy();
            if healthy && !running {
                if !std::mem::replace(&mut known, true) {
                    read_app_config(assembly).await;
                }
                start_inputs(assembly).await;
                running = true;
            } else if !healthy && running {
                assembly.pubsub.stop_app_subscriptions().await;
                assembly.inputs.stop(false).await;
                running = false;
            }
            if health.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = probes => {}
        () = follow => {}
    }
    Ok(())
}

pub(super) async fn probe(assembly: &Assembly) {
    let options = assembly.options.app.as_ref().and_then(|app| app.health.clone());
    match (&assembly.app, options) {
        (Some(app), Some(options)) => app.probe_health(options, assembly.app_health.clone()).await,
        _ => std::future::pending().await,
    }
}

pub(super) async fn read_app_config(assembly: &Assembly) {
    let Some(app) = &assembly.app else { return };
    if assembly.options.disable_config_endpoint {
        tracing::warn!(
            target: LOG,
            "Skipping programmatic dapr configuration loading (see 'disable-init-endpoints' flag/annotation)"
        );
        return;
    }
    match app.app_config(&assembly.options.app_id).await {
        Ok(config) => {
            tracing::info!(target: LOG, "Application configuration loaded");
            if !config.entities.is_empty() {
                tracing::warn!(
                    target: LOG,
                    "the app hosts actor types {:?}, which this version does not serve",
                    config.entities
                );
            }
        }
        Err(error) => tracing::debug!(target: LOG, "cannot read the app's configuration: {error}"),
    }
}

pub(super) async fn start_inputs(assembly: &Assembly) {
    if assembly.app.is_some() {
        if let Err(error) = assembly.pubsub.start_app_subscriptions().await {
            tracing::warn!(target: LOG, "failed to subscribe to topics: {error} ");
        }
        if let Err(error) = assembly.inputs.start().await {
            tracing::warn!(target: LOG, "failed to read from bindings: {error} ");
        }
    }
    assembly.outbox.start().await;
}
