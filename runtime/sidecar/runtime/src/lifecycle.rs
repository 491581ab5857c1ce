//! The life of a sidecar: serve, open, wait for the app, work, drain, close (wire.md §1 "Init order", "Shutdown").

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use outrigger_middleware::{Pipeline, SharedMiddleware};
use outrigger_name_resolution::Instance;
use outrigger_resources::{
    ComponentDenyList,
    configuration::PipelineSpec,
    kinds::{Component, Resource as _},
    references::resolve,
};
use outrigger_sidecar_app_channel::{AppChannel, AppHealth, TcpConnector};
use outrigger_sidecar_http::ServeOptions;
use outrigger_types::Namespace;
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    assembly::{Assembly, serves_h2c},
    host,
    sidecar::Exit,
};

const LOG: &str = "dapr.runtime";
/// How long one attempt to reach the app's port may take, and the pause between attempts (upstream).
const APP_DIAL: Duration = Duration::from_millis(500);
const APP_PAUSE: Duration = Duration::from_millis(100);
/// Attempts between two lines that say that the app is still awaited: ten seconds' worth.
const APP_REMINDER: u32 = 100;
/// How long spans may take to leave at the end.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a sidecar gives up.
type Fatal = String;

/// Runs until the sidecar is asked to stop or cannot go on.
pub(crate) async fn run(assembly: Arc<Assembly>) -> Exit {
    let began = Instant::now();
    tracing::info!(target: LOG, "{} mode configured", assembly.options.mode.as_str());
    tracing::info!(target: LOG, "app id: {}", assembly.options.app_id);

    let servers = TaskTracker::new();
    let close_servers = CancellationToken::new();
    let close_internal = CancellationToken::new();
    // Before anything is served: a call to a component that is still opening waits for it.
    if let Ok(components) = authorised(&assembly) {
        assembly.loader.announce(&components);
    }
    serve_early(&assembly, &servers, &close_servers);

    let working = {
        let assembly = Arc::clone(&assembly);
        let servers = servers.clone();
        let close_servers = close_servers.clone();
        let close_internal = close_internal.clone();
        async move {
            init(&assembly, &servers, &close_servers, &close_internal).await?;
            // Whoever sees the sidecar ready may count on its subscriptions, unless the app's health decides.
            let started = assembly.app_health.borrow().is_healthy();
            if started {
                read_app_config(&assembly).await;
                start_inputs(&assembly).await;
            }
            let elapsed = began.elapsed().as_millis();
            tracing::info!(target: LOG, "dapr initialized. Status: Running. Init Elapsed {elapsed}ms");
            assembly.inbound.ready("runtime");
            follow_app(&assembly, started).await
        }
    };
    let mut working = std::pin::pin!(working);
    let mut outcome = Exit::Stopped;
    tokio::select! {
        () = assembly.force.cancelled() => return Exit::Forced,
        () = assembly.stop.cancelled() => {}
        ended = working.as_mut() => {
            if let Err(error) = ended {
                outcome = Exit::Failed(error);
            }
        }
    }
    if outcome == Exit::Stopped {
        // The app may still be served while the sidecar waits to be let go.
        tokio::select! {
            () = assembly.force.cancelled() => return Exit::Forced,
            () = block_shutdown(&assembly) => {}
        }
    }
    assembly.inbound.not_ready("runtime", "shutting down");
    let closing = close(&assembly, &servers, &close_servers, &close_internal);
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
        () = assembly.force.cancelled() => return Exit::Forced,
        in_time = within_grace => in_time,
    };
    if !in_time {
        tracing::error!(target: LOG, fatal = true, "Graceful shutdown timeout exceeded, forcing shutdown");
        return Exit::Forced;
    }
    outcome
}

/// Starts the servers whose answers depend on no component: health, metadata and metrics at once; the APIs too, unless
/// a pipeline of middleware guards them (design D8): then they wait for it, so that nothing passes unguarded.
fn serve_early(assembly: &Arc<Assembly>, servers: &TaskTracker, close: &CancellationToken) {
    let (public, metrics, profile) = {
        let mut bound = assembly.bound.lock();
        (bound.public.take(), bound.metrics.take(), bound.profile.take())
    };
    let options = serve_options(assembly);
    if let Some(bound) = public {
        servers.spawn(outrigger_sidecar_http::serve(
            bound,
            assembly.public_http.clone(),
            options,
            close.clone(),
        ));
    }
    if let Some(listener) = metrics {
        let metrics = assembly.metrics.clone();
        let close = close.clone();
        servers.spawn(async move {
            if let Err(error) =
                outrigger_telemetry::metrics::serve(listener, metrics, close.cancelled_owned()).await
            {
                tracing::error!(target: LOG, "metrics are no longer served: {error}");
            }
        });
    }
    if let Some(listener) = profile {
        servers.spawn(crate::profile::serve(listener, close.clone()));
    }
    if pipeline_of(assembly.configuration.spec.http_pipeline.as_ref()).is_empty() {
        serve_http(assembly, servers, close);
    }
    let grpc = std::mem::take(&mut assembly.bound.lock().grpc);
    for bound in grpc {
        servers.spawn(outrigger_sidecar_grpc::serve(
            bound,
            assembly.grpc.clone(),
            close.clone(),
        ));
    }
    tracing::info!(
        target: LOG,
        "API gRPC server is running on port {}",
        bound_port(&assembly.addresses.grpc, assembly.options.grpc_port)
    );
}

fn serve_options(assembly: &Assembly) -> ServeOptions {
    ServeOptions {
        read_buffer_size: assembly.options.read_buffer_size,
        h2c: serves_h2c(&assembly.options),
    }
}

fn serve_http(assembly: &Arc<Assembly>, servers: &TaskTracker, close: &CancellationToken) {
    let listeners = std::mem::take(&mut assembly.bound.lock().http);
    if listeners.is_empty() {
        return;
    }
    for bound in listeners {
        let service = assembly.http.clone();
        servers.spawn(outrigger_sidecar_http::serve(
            bound,
            service,
            serve_options(assembly),
            close.clone(),
        ));
    }
    tracing::info!(target: LOG, "HTTP server is running on port {}", bound_port(&assembly.addresses.http, assembly.options.http_port));
    tracing::info!(target: LOG, "The request body size parameter is: {} bytes", assembly.options.max_body_size);
}

/// The port that was bound, which is another one than was asked for when that was 0.
fn bound_port(addresses: &[SocketAddr], asked: u16) -> u16 {
    addresses.first().map_or(asked, SocketAddr::port)
}

/// From resources to a sidecar whose app is there.
async fn init(
    assembly: &Arc<Assembly>,
    servers: &TaskTracker,
    close: &CancellationToken,
    close_internal: &CancellationToken,
) -> Result<(), Fatal> {
    // Peers may call as soon as they can find us, which is after the registration below.
    if let Some(listener) = assembly.bound.lock().internal.take() {
        let service = assembly.invocation.internal_service();
        let close = close_internal.clone();
        servers.spawn(async move { service.serve_listener(listener, close).await });
        // Lets go of connections to peers that are no longer called.
        let (invocation, close) = (Arc::clone(&assembly.invocation), close_internal.clone());
        servers.spawn(async move { invocation.run(close).await });
    }
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
    register(assembly).await;

    tracing::info!(target: LOG, "Loading components…");
    let components = authorised(assembly)?;
    let opened = assembly.loader.open_all(&components).await;
    opened.map_err(|failure| failure.to_string())?;
    tracing::info!(target: LOG, "All outstanding components processed");
    warn_of_unused_scopes(assembly);

    load_http_endpoints(assembly).await;
    load_subscriptions(assembly).await?;
    build_pipelines(assembly)?;
    serve_http(assembly, servers, close);
    assembly.outbound.ready("app");

    wait_for_app(assembly).await;
    if let Some(max) = assembly.options.app.as_ref().and_then(|app| app.max_concurrency) {
        tracing::info!(target: LOG, "app max concurrency set to {max}");
    }
    Ok(())
}

/// Tells the resolver where this sidecar is. It goes on without when that fails, as upstream does.
async fn register(assembly: &Assembly) {
    let (Some(resolver), Some(internal)) = (&assembly.resolver, assembly.addresses.internal) else {
        return;
    };
    let options = &assembly.options;
    let host_ip = host::address(&options.environment);
    let instance = Instance {
        app_id: options.app_id.clone(),
        namespace: Namespace::from(options.namespace().unwrap_or("default")),
        internal_address: host::advertised(&options.internal_grpc_listen_address, host_ip, internal.port()),
        http_port: bound_port(&assembly.addresses.http, options.http_port),
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

/// The components this sidecar may have.
fn authorised(assembly: &Assembly) -> Result<Vec<Component>, Fatal> {
    let components = assembly
        .resources
        .components
        .as_ref()
        .map_err(|error| format!("failed to load components: {error}"))?;
    let denied = assembly
        .configuration
        .spec
        .components
        .as_ref()
        .map(|spec| ComponentDenyList::new(&spec.deny));
    Ok(components
        .iter()
        .filter(|component| {
            let allowed = denied.as_ref().is_none_or(|denied| denied.allows(component));
            if !allowed {
                tracing::warn!(
                    target: LOG,
                    "component type is not allowed by the configuration: {}",
                    component.log_name()
                );
            }
            allowed
        })
        .cloned()
        .collect())
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
    let endpoints = match &assembly.resources.http_endpoints {
        Ok(endpoints) => endpoints,
        Err(error) => {
            tracing::warn!(target: LOG, "failed to load HTTP endpoints: {error}");
            return;
        }
    };
    for endpoint in endpoints {
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
            continue;
        }
        match assembly.http_endpoints.upsert(&endpoint) {
            Ok(()) => tracing::info!(target: LOG, "http endpoint loaded: {}", endpoint.name()),
            Err(error) => {
                tracing::warn!(target: LOG, "failed to load HTTP endpoint {}: {error}", endpoint.name())
            }
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

fn pipeline_of(spec: Option<&PipelineSpec>) -> &[outrigger_resources::configuration::HandlerSpec] {
    spec.map_or(&[], |spec| &spec.handlers)
}

/// Puts the configured handlers into both pipelines.
fn build_pipelines(assembly: &Assembly) -> Result<(), Fatal> {
    let spec = &assembly.configuration.spec;
    let pipelines: [(&str, Option<&PipelineSpec>, &Pipeline); 2] = [
        ("server", spec.http_pipeline.as_ref(), &assembly.http_pipeline),
        (
            "app channel",
            spec.app_http_pipeline.as_ref(),
            &assembly.app_pipeline,
        ),
    ];
    for (name, spec, pipeline) in pipelines {
        let mut handlers: Vec<SharedMiddleware> = Vec::new();
        for handler in pipeline_of(spec) {
            let found = assembly.loader.tables.middleware.ready(&handler.name);
            let Some(loaded) = found.filter(|loaded| loaded.type_name.eq_ignore_ascii_case(&handler.r#type))
            else {
                return Err(format!(
                    "{name} pipeline: couldn't find the middleware component {}; add a component file of this name and type",
                    handler.log_name()
                ));
            };
            tracing::info!(target: LOG, "enabled {} http middleware", handler.log_name());
            handlers.push(Arc::clone(&loaded.instance));
        }
        pipeline.replace(handlers);
    }
    Ok(())
}

/// Waits until the app accepts connections, for ever.
async fn wait_for_app(assembly: &Assembly) {
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
async fn follow_app(assembly: &Arc<Assembly>, mut running: bool) -> Result<(), Fatal> {
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

async fn probe(assembly: &Assembly) {
    let options = assembly.options.app.as_ref().and_then(|app| app.health.clone());
    match (&assembly.app, options) {
        (Some(app), Some(options)) => app.probe_health(options, assembly.app_health.clone()).await,
        _ => std::future::pending().await,
    }
}

async fn read_app_config(assembly: &Assembly) {
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

async fn start_inputs(assembly: &Assembly) {
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
    let probes = probe(assembly);
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

/// Ends in order: nothing new in, what is under way finishes, peers and app let go, components closed.
async fn close(
    assembly: &Arc<Assembly>,
    servers: &TaskTracker,
    close_servers: &CancellationToken,
    close_internal: &CancellationToken,
) {
    tracing::info!(target: LOG, "Dapr is shutting down");
    // No new calls find us while those under way are finished.
    if let Some(resolver) = &assembly.resolver
        && let Err(error) = resolver.close().await
    {
        tracing::debug!(target: LOG, "cannot withdraw from name resolution: {}", error.chain());
    }
    tokio::join!(
        assembly.pubsub.stop_forever(),
        assembly.inputs.stop(true),
        assembly.outbox.stop()
    );
    close_internal.cancel();
    close_servers.cancel();
    servers.close();
    servers.wait().await;
    assembly.configuration_api.close().await;
    close_components(assembly).await;
    assembly.app_slot.store(None::<Arc<AppChannel>>);
    assembly.tracer.shutdown().await;
    tracing::info!(target: LOG, "Dapr runtime stopped");
}

async fn close_components(assembly: &Assembly) {
    let tables = &assembly.loader.tables;
    let mut closing = JoinSet::new();
    macro_rules! table {
        ($table:ident) => {
            for loaded in tables.$table.all() {
                tracing::info!(target: LOG, "Shutting down component {}", log_name(&loaded));
                closing.spawn(async move {
                    let outcome = loaded.instance.close().await;
                    if let Err(error) = outcome {
                        tracing::warn!(
                            target: LOG,
                            "component {} did not close in order: {}",
                            log_name(&loaded),
                            error.chain()
                        );
                    }
                });
            }
        };
    }
    table!(state);
    table!(pubsub);
    table!(secrets);
    table!(configuration);
    table!(lock);
    table!(crypto);
    table!(conversation);
    table!(middleware);
    for loaded in tables.bindings.all() {
        tracing::info!(target: LOG, "Shutting down component {}", log_name(&loaded));
        closing.spawn(async move {
            if let Some(input) = &loaded.instance.input {
                let _ = input.close().await;
            }
            if let Some(output) = &loaded.instance.output {
                let _ = output.close().await;
            }
        });
    }
    while closing.join_next().await.is_some() {}
}

fn log_name<T>(loaded: &outrigger_sidecar_api::Loaded<T>) -> String {
    outrigger_resources::kinds::component_log_name(&loaded.name, &loaded.type_name, &loaded.version)
}
