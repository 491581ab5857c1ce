//! What the documents of an application say: its configuration, its resources, its policies.

use std::{path::PathBuf, sync::Arc};

use outrigger_engine_resiliency::PolicySet;
use outrigger_resources::{
    ComponentDenyList, DiskLoader, DiskOptions, Resources,
    access_control::AccessControlList,
    configuration::Configuration,
    kinds::{Component, Resource},
    watch::DirectoryWatch,
};
use outrigger_sidecar_http::ApiLogOptions;
use outrigger_sidecar_resilience::ResilienceProvider;
use outrigger_telemetry::Metrics;

use crate::{assembly::AssemblyError, options::SidecarOptions, policies};

pub(crate) fn load_configuration(options: &SidecarOptions) -> Result<Configuration, AssemblyError> {
    if options.config_paths.is_empty() {
        tracing::info!(target: "dapr.runtime", "loading default configuration");
        return Ok(Configuration::defaults());
    }
    let paths: Vec<_> = options
        .config_paths
        .iter()
        .map(|path| options.base_dir.join(path))
        .collect();
    let loaded = Configuration::load(&paths, &options.environment)?;
    for warning in &loaded.warnings {
        tracing::warn!(target: "dapr.runtime.config", "{warning}");
    }
    let features: Vec<String> = loaded
        .configuration
        .features([])
        .iter()
        .map(str::to_owned)
        .collect();
    if !features.is_empty() {
        tracing::info!(target: "dapr.runtime", "Enabled features: {}", features.join(" "));
    }
    Ok(loaded.configuration)
}

/// Reads the resource directories.
pub(crate) fn loader(options: &SidecarOptions) -> DiskLoader {
    DiskLoader::new(DiskOptions {
        paths: directories(options),
        app_id: options.app_id.clone(),
        namespace: options.namespace().map(str::to_owned),
    })
}

fn directories(options: &SidecarOptions) -> Vec<PathBuf> {
    options
        .resources_paths
        .iter()
        .map(|path| options.base_dir.join(path))
        .collect()
}

pub(crate) fn load_resources(options: &SidecarOptions) -> Resources {
    // A few small files, once, before anything is served: not worth another thread.
    let resources = loader(options).load_blocking();
    for warning in &resources.warnings {
        tracing::warn!(target: "dapr.runtime.loader.disk", "{warning}");
    }
    resources
}

/// Begins to notice changes of resource files, if the `HotReload` feature is on.
pub(crate) fn watch(options: &SidecarOptions, configuration: &Configuration) -> Option<DirectoryWatch> {
    const LOG: &str = "dapr.runtime.hotreload.loader.disk";
    let directories = directories(options);
    if !configuration.features([]).enabled("HotReload") || directories.is_empty() {
        return None;
    }
    let shown: Vec<_> = directories
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    tracing::info!(target: LOG, "Watching directories: [{}]", shown.join(", "));
    DirectoryWatch::new(&directories)
        .inspect_err(|error| {
            // A folder that is not there fails when it is read; for the rest the sidecar is good without.
            tracing::warn!(target: LOG, "changes of resource files will not be noticed: {error}");
        })
        .ok()
}

/// The names of what was loaded.
pub(crate) fn names<T: Resource, E>(loaded: &Result<Vec<T>, E>) -> Vec<String> {
    loaded.as_ref().map_or_else(
        |_| Vec::new(),
        |loaded| loaded.iter().map(|resource| resource.name().to_owned()).collect(),
    )
}

/// The components that the Configuration does not deny.
pub(crate) fn allowed(configuration: &Configuration, components: &[Component]) -> Vec<Component> {
    let denied = configuration
        .spec
        .components
        .as_ref()
        .map(|spec| ComponentDenyList::new(&spec.deny));
    components
        .iter()
        .filter(|component| denied.as_ref().is_none_or(|denied| denied.allows(component)))
        .cloned()
        .collect()
}

pub(crate) fn load_policies(
    options: &SidecarOptions,
    resources: &Resources,
    metrics: &Metrics,
) -> ResilienceProvider {
    let specs: Vec<_> = resources
        .resiliencies
        .as_deref()
        .unwrap_or_default()
        .iter()
        .filter_map(|resource| {
            policies::to_engine(resource)
                .map_err(|error| {
                    tracing::error!(
                        target: "dapr.runtime",
                        "Could not read resiliency policy {}: {error}",
                        resource.meta.name
                    );
                })
                .ok()
                .inspect(|policies| {
                    // What follows from a fault is decided and said where policies are put together; here is where.
                    if let (Err(error), Some(origin)) =
                        (PolicySet::built_in().load(policies), &resource.meta.origin)
                    {
                        tracing::error!(
                            target: "dapr.runtime",
                            "{origin}: resiliency {} is not in force: {error} (correct the file)",
                            resource.meta.name
                        );
                    }
                })
        })
        .collect();
    let observer = metrics.is_enabled().then(|| {
        Arc::new(policies::MeasuredPolicies(metrics.clone()))
            as Arc<dyn outrigger_sidecar_resilience::ResilienceObserver>
    });
    ResilienceProvider::from_resources(&options.app_id, &specs, observer)
}

pub(crate) fn access_control(
    options: &SidecarOptions,
    configuration: &Configuration,
) -> Result<Option<AccessControlList>, AssemblyError> {
    match &configuration.spec.access_control {
        None => Ok(None),
        Some(spec) => AccessControlList::new(spec, options.app_protocol.is_http())
            .map_err(|error| AssemblyError::AccessControl(error.to_string())),
    }
}

pub(crate) fn api_log(options: &SidecarOptions, configuration: &Configuration) -> Option<ApiLogOptions> {
    let spec = configuration.api_logging();
    options
        .api_logging
        .unwrap_or(spec.enabled)
        .then_some(ApiLogOptions {
            obfuscate_urls: spec.obfuscate_urls,
            omit_health_checks: spec.omit_health_checks,
        })
}
