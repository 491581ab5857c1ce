//! Follows the resource files and brings what changed into force (wire.md §19 "Hot reload"; upstream
//! `pkg/runtime/hotreload`).
//!
//! Components, subscriptions and MCP servers change in place, in the order deleted, updated, created. Resiliency and
//! HTTP endpoints are tables that calls look into once: the next table takes the place of the last. A changed
//! Configuration asks for the next instance, as SIGHUP does.

mod change;

use outrigger_resources::{
    LoadError, ResourceSource as _, Resources, Warning,
    configuration::Configuration,
    diff,
    kinds::{Component, HttpEndpoint, McpServer, Resiliency, Resource, Subscription},
};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{assembly::Assembly, components::Opened, documents, lifecycle, lifecycle::Fatal, mcp};

use self::change::Event;

const LOG: &str = "dapr.runtime.hotreload.reconciler";
/// What is in force, as the files have it.
struct Known {
    components: Vec<Component>,
    subscriptions: Vec<Subscription>,
    mcp_servers: Vec<McpServer>,
    http_endpoints: Vec<HttpEndpoint>,
    resiliencies: Vec<Resiliency>,
    configurations: Vec<Configuration>,
    warnings: Vec<Warning>,
}

/// Follows the files until something fails that the sidecar cannot go on with; answers with that. Waits for ever
/// without hot reload. Asks by `renew` for the next instance.
pub(crate) async fn follow(assembly: &Assembly, mcp_servers: Vec<McpServer>, renew: &Notify) -> Fatal {
    let taken = assembly.watch.lock().take();
    let Some(mut watch) = taken else {
        tracing::debug!(target: "dapr.runtime.hotreload", "Hot reloading disabled");
        return std::future::pending().await;
    };
    tracing::info!(
        target: "dapr.runtime.hotreload",
        "Hot reloading enabled. Daprd will reload 'Component', 'Subscription', 'MCPServer', 'Configuration', 'HTTPEndpoint' and 'Resiliency' resources when they are added, updated or deleted."
    );
    let loader = documents::loader(&assembly.options);
    let mut known = Known::of(assembly, mcp_servers);
    let period = assembly.options.hot_reload_reconcile;
    let mut reconcile = interval_at(Instant::now() + period, period);
    reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_watching = true;
    loop {
        tokio::select! {
            changed = watch.changed(), if is_watching => if let Err(error) = changed {
                is_watching = false;
                tracing::error!(target: LOG, "changes of resource files are noticed every {period:?} only: {error}");
            },
            _ = reconcile.tick() => tracing::debug!(target: LOG, "Running scheduled reconcile"),
        }
        let resources = loader.load().await;
        for warning in &resources.warnings {
            if !known.warnings.contains(warning) {
                tracing::warn!(target: "dapr.runtime.loader.disk", "{warning}");
            }
        }
        if let Some(error) = resources.first_error() {
            return format!("failed to load resources from disk: {error}");
        }
        if let Err(error) = known.follow(assembly, resources, renew).await {
            return error;
        }
    }
}

impl Known {
    fn of(assembly: &Assembly, mcp_servers: Vec<McpServer>) -> Self {
        let resources = &assembly.resources;
        // Those that failed to open are not in force: they are tried again with the next change.
        let components = documents::allowed(&assembly.configuration, &loaded(&resources.components))
            .into_iter()
            .filter(|component| !assembly.loader.has_failed(component))
            .collect();
        Self {
            components,
            subscriptions: loaded(&resources.subscriptions),
            mcp_servers,
            http_endpoints: loaded(&resources.http_endpoints),
            resiliencies: loaded(&resources.resiliencies),
            configurations: loaded(&resources.configurations),
            warnings: resources.warnings.clone(),
        }
    }

    async fn follow(
        &mut self,
        assembly: &Assembly,
        resources: Resources,
        renew: &Notify,
    ) -> Result<(), Fatal> {
        self.follow_configurations(&resources, renew);
        self.follow_resiliencies(assembly, &resources);
        self.follow_http_endpoints(assembly, &resources).await;
        // Side by side: a delivery that takes its time must not hold up what has nothing to do with it.
        tokio::try_join!(
            follow_components(&mut self.components, assembly, &resources),
            follow_subscriptions(&mut self.subscriptions, assembly, &resources),
            follow_mcp_servers(&mut self.mcp_servers, assembly, &resources),
        )?;
        self.warnings = resources.warnings;
        Ok(())
    }

    fn follow_configurations(&mut self, resources: &Resources, renew: &Notify) {
        let now = loaded(&resources.configurations);
        let changes = diff(&self.configurations, &now);
        if changes.is_empty() {
            return;
        }
        for (event, configuration) in change::each(&changes) {
            tracing::info!(
                target: LOG,
                "Received Configuration {event} event: {} - triggering SIGHUP reload",
                configuration.log_name()
            );
        }
        self.configurations = now;
        renew.notify_one();
    }

    fn follow_resiliencies(&mut self, assembly: &Assembly, resources: &Resources) {
        let now = loaded(&resources.resiliencies);
        let changes = diff(&self.resiliencies, &now);
        if changes.is_empty() {
            return;
        }
        for (event, resiliency) in change::each(&changes) {
            tracing::info!(
                target: LOG,
                "Received Resiliency {event} event: {} - new calls follow it",
                resiliency.log_name()
            );
        }
        let provider = documents::load_policies(&assembly.options, resources, &assembly.metrics);
        assembly.invocation.set_resilience(provider.clone());
        assembly.resilience.store(provider.into());
        assembly
            .resiliencies
            .store(documents::names(&resources.resiliencies).into());
        self.resiliencies = now;
    }

    async fn follow_http_endpoints(&mut self, assembly: &Assembly, resources: &Resources) {
        let now = loaded(&resources.http_endpoints);
        let changes = diff(&self.http_endpoints, &now);
        for (event, endpoint) in change::each(&changes) {
            tracing::info!(
                target: LOG,
                "Received HTTPEndpoint {event} event: {} - new calls follow it",
                endpoint.log_name()
            );
            match event {
                Event::Deleted => assembly.http_endpoints.remove(endpoint.name()),
                Event::Updated | Event::Created => lifecycle::put_http_endpoint(assembly, endpoint).await,
            }
        }
        self.http_endpoints = now;
    }
}

async fn follow_components(
    known: &mut Vec<Component>,
    assembly: &Assembly,
    resources: &Resources,
) -> Result<(), Fatal> {
    let now = documents::allowed(&assembly.configuration, &loaded(&resources.components));
    let changes = diff(known, &now);
    let before = std::mem::replace(known, now);
    for (event, component) in change::each(&changes) {
        let log_name = component.log_name();
        tracing::debug!(target: LOG, "Received Component event {event}: {log_name}");
        let old = before.iter().find(|old| old.name() == component.name());
        match event {
            Event::Deleted => assembly.loader.remove(component).await,
            Event::Updated | Event::Created => {
                let opened = assembly.loader.update(old, component.clone()).await;
                if opened.map_err(|failure| failure.to_string())? == Opened::Ignored {
                    known.retain(|known| known.name() != component.name());
                }
            }
        }
    }
    Ok(())
}

async fn follow_subscriptions(
    known: &mut Vec<Subscription>,
    assembly: &Assembly,
    resources: &Resources,
) -> Result<(), Fatal> {
    let now = loaded(&resources.subscriptions);
    let changes = diff(known, &now);
    if changes.is_empty() {
        return Ok(());
    }
    for (event, subscription) in change::each(&changes) {
        let name = subscription.name();
        match event {
            Event::Deleted => tracing::info!(target: LOG, "Closing deleted Subscription: {name}"),
            Event::Updated => {
                tracing::info!(target: LOG, "Closing existing Subscription to reload: {name}")
            }
            Event::Created => tracing::info!(target: LOG, "Adding Subscription for processing: {name}"),
        }
    }
    // What changed comes last, as where one is closed and another one added.
    let next: Vec<Subscription> = change::unchanged(known, &changes)
        .chain(&changes.updated)
        .chain(&changes.created)
        .cloned()
        .collect();
    match assembly.pubsub.set_declarative(next.clone()).await {
        Ok(()) => {
            for subscription in changes.updated.iter().chain(&changes.created) {
                tracing::info!(target: LOG, "Subscription updated: {}", subscription.name());
            }
            *known = next;
        }
        // Those that were in force still are.
        Err(error) => tracing::error!(target: LOG, "the changed subscriptions are not in force: {error}"),
    }
    Ok(())
}

async fn follow_mcp_servers(
    known: &mut Vec<McpServer>,
    assembly: &Assembly,
    resources: &Resources,
) -> Result<(), Fatal> {
    let now = loaded(&resources.mcp_servers);
    let changes = diff(known, &now);
    for (event, server) in change::each(&changes) {
        let log_name = server.log_name();
        match event {
            Event::Deleted => {
                tracing::info!(target: LOG, "MCPServer deleted via hot-reload: {log_name}");
                assembly.mcp_servers.remove(server.name());
            }
            Event::Updated => {
                tracing::info!(target: LOG, "Closing existing MCPServer to reload: {log_name}");
                mcp::put(assembly, server).await?;
            }
            Event::Created => {
                tracing::info!(target: LOG, "MCPServer updated via hot-reload: {log_name}");
                mcp::put(assembly, server).await?;
            }
        }
    }
    *known = now;
    Ok(())
}

/// What was loaded of a kind; nothing where that failed, which was said then.
fn loaded<T: Resource>(kind: &Result<Vec<T>, LoadError>) -> Vec<T> {
    kind.as_ref().map_or_else(|_| Vec::new(), Clone::clone)
}
