//! What the documents of an application say: its configuration, its resources, its policies.

use std::sync::Arc;

use outrigger_resources::{
    DiskLoader, DiskOptions, Resources, Severity, access_control::AccessControlList,
    configuration::Configuration,
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

pub(crate) fn load_resources(options: &SidecarOptions) -> Resources {
    let loader = DiskLoader::new(DiskOptions {
        paths: options
            .resources_paths
            .iter()
            .map(|path| options.base_dir.join(path))
            .collect(),
        app_id: options.app_id.clone(),
        namespace: options.namespace().map(str::to_owned),
    });
    // A few small files, once, before anything is served: not worth another thread.
    let resources = loader.load_blocking();
    for warning in &resources.warnings {
        match warning.severity {
            Severity::Skipped => tracing::warn!(target: "dapr.runtime.loader.disk", "{warning}"),
            Severity::Suspicious => tracing::warn!(target: "dapr.runtime.loader.disk", "{warning}"),
        }
    }
    resources
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
