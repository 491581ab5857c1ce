//! Everything of an instance that has to be there before it answers: components, endpoints, subscriptions, pipelines.

use std::time::Duration;

use outrigger_name_resolution::Instance;
use outrigger_resources::{
    kinds::{HttpEndpoint, Resource as _},
    references::resolve,
};
use outrigger_types::Namespace;

use super::Fatal;
use crate::{assembly::Assembly, documents, front::bound_port, host, listeners::Addresses};

const LOG: &str = "dapr.runtime";
/// How long a resolver may take to note this sidecar.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(5);

/// Says that components will come, so that calls to them wait.
pub(super) fn announce(assembly: &Assembly) {
    if let Ok(components) = &assembly.resources.components {
        assembly
            .loader
            .announce(&documents::allowed(&assembly.configuration, components));
    }
}

/// Opens everything. When it returns, calls can be served; a component whose backend is away may still be to come.
pub(super) async fn prepare(assembly: &Assembly) -> Result<(), Fatal> {
    tracing::info!(target: LOG, "Loading components…");
    let components = assembly
        .resources
        .components
        .as_ref()
        .map_err(|error| format!("failed to load components: {error}"))?;
    let allowed = documents::allowed(&assembly.configuration, components);
    for denied in components.iter().filter(|component| !allowed.contains(component)) {
        tracing::warn!(
            target: LOG,
            "component type is not allowed by the configuration: {}",
            denied.log_name()
        );
    }
    let opened = assembly.loader.open_all(&allowed).await;
    opened.map_err(|failure| failure.to_string())?;
    tracing::info!(target: LOG, "All outstanding components processed");
    warn_of_unused_scopes(assembly);
    load_http_endpoints(assembly).await;
    load_subscriptions(assembly).await?;
    assembly.pipelines.rebuild();
    assembly.pipelines.report();
    Ok(())
}

/// Says what of the flags has no effect.
pub(super) fn report_absent(assembly: &Assembly) {
    if assembly.options.placement_addresses.is_empty() {
        tracing::info!(target: "dapr.runtime.actors", "Actor runtime disabled");
    } else {
        tracing::warn!(
            target: "dapr.runtime.actors",
            "Actors are not served by this version: --placement-host-address has no effect"
        );
    }
    if assembly.options.scheduler_addresses.is_empty() {
        tracing::info!(target: "dapr.runtime.scheduler", "Scheduler disabled, not connecting to any scheduler");
    } else {
        tracing::warn!(
            target: "dapr.runtime.scheduler",
            "Jobs are not served by this version: --scheduler-host-address has no effect"
        );
    }
}

/// Tells the resolver where this sidecar is. It goes on without when that fails, as upstream does.
pub(super) async fn register(assembly: &Assembly, addresses: &Addresses) {
    let (Some(resolver), Some(internal)) = (&assembly.resolver, addresses.internal) else {
        return;
    };
    let options = &assembly.options;
    let host_ip = host::address(&options.environment);
    let instance = Instance {
        app_id: options.app_id.clone(),
        namespace: Namespace::from(options.namespace().unwrap_or("default")),
        internal_address: host::advertised(&options.internal_grpc_listen_address, host_ip, internal.port()),
        http_port: bound_port(&addresses.http, options.http_port),
        app_port: options.app.as_ref().map_or(0, |app| app.port),
        instance_id: format!("{}-{}", std::process::id(), internal.port()),
    };
    match tokio::time::timeout(REGISTRATION_TIMEOUT, resolver.register(instance)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!(target: LOG, "failed to register with name resolution: {}", error.chain())
        }
        Err(_) => tracing::error!(target: LOG, "failed to register with name resolution: it took too long"),
    }
}

fn warn_of_unused_scopes(assembly: &Assembly) {
    for scope in assembly
        .configuration
        .spec
        .secrets
        .iter()
        .flat_map(|secrets| &secrets.scopes)
    {
        if assembly.loader.tables.secrets.ready(&scope.store_name).is_none() {
            tracing::warn!(
                target: LOG,
                "Secrets configuration added for '{}', but no matching secret store was found",
                scope.store_name
            );
        }
    }
}

async fn load_http_endpoints(assembly: &Assembly) {
    tracing::info!(target: LOG, "Loading endpoints…");
    match &assembly.resources.http_endpoints {
        Ok(endpoints) => {
            for endpoint in endpoints {
                put_http_endpoint(assembly, endpoint).await;
            }
        }
        Err(error) => tracing::warn!(target: LOG, "failed to load HTTP endpoints: {error}"),
    }
}

/// Resolves an endpoint's secrets and puts it in place. What fails is logged: the sidecar goes on without.
pub(crate) async fn put_http_endpoint(assembly: &Assembly, endpoint: &HttpEndpoint) {
    let mut endpoint = endpoint.clone();
    let resolution = resolve(
        &mut endpoint,
        &assembly.loader.references,
        &assembly.loader.tables,
    )
    .await;
    if let Some(store) = resolution.waiting_for {
        tracing::warn!(
            target: LOG,
            "HTTP endpoint {} waits for secret store {store}, which is not loaded",
            endpoint.name()
        );
        return;
    }
    match assembly.http_endpoints.upsert(&endpoint) {
        Ok(()) => tracing::info!(target: LOG, "http endpoint loaded: {}", endpoint.name()),
        Err(error) => {
            tracing::warn!(target: LOG, "failed to load HTTP endpoint {}: {error}", endpoint.name());
        }
    }
}

async fn load_subscriptions(assembly: &Assembly) -> Result<(), Fatal> {
    tracing::info!(target: LOG, "Loading Declarative Subscriptions…");
    let subscriptions = assembly
        .resources
        .subscriptions
        .as_ref()
        .map_err(|error| format!("failed to load declarative subscriptions: {error}"))?;
    for subscription in subscriptions {
        tracing::info!(target: LOG, "Found Subscription: {}", subscription.meta.name);
    }
    assembly
        .pubsub
        .set_declarative(subscriptions.clone())
        .await
        .map_err(|error| format!("failed to load declarative subscriptions: {error}"))
}
