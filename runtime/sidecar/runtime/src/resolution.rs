//! Choosing the resolver: the Configuration's, or the registry of this user's sidecars with mDNS behind it.

use std::sync::Arc;

use outrigger_component::{Error, Host, Properties, Spec};
use outrigger_components_name_resolution::{Composite, Mdns, MdnsOptions, RuntimeRegistry};
use outrigger_name_resolution::SharedResolver;
use outrigger_resources::configuration::Configuration;
use outrigger_types::Namespace;

use crate::options::SidecarOptions;

/// Opens the resolver.
///
/// # Errors
/// A text in upstream's words; the sidecar goes on without resolving.
pub(crate) async fn resolver(
    options: &SidecarOptions,
    configuration: &Configuration,
) -> Result<SharedResolver, String> {
    let chosen = configuration.spec.name_resolution.as_ref();
    let name = chosen
        .map(|spec| spec.component.as_str())
        .filter(|name| !name.is_empty())
        .unwrap_or("mdns");
    let version = chosen
        .map(|spec| spec.version.as_str())
        .filter(|version| !version.is_empty())
        .unwrap_or("v1");
    let failed = |error: &Error| {
        format!(
            "[INIT_COMPONENT_FAILURE]: initialization error occurred for nr ({name}/{version}): {}",
            error.chain()
        )
    };
    let resolver = if name == "mdns" {
        default_resolver(options).map_err(|error| failed(&error))?
    } else {
        let type_name = format!("nameresolution.{name}");
        let registration = outrigger_components::name_resolution()
            .into_iter()
            .find(|registration| registration.serves(&type_name, version))
            .ok_or_else(|| {
                format!(
                    "[CREATE_COMPONENT_FAILURE]: initialization error occurred for nr ({name}/{version}): couldn't find name resolver {name}/{version}"
                )
            })?;
        let settings = chosen.map(|spec| &spec.configuration);
        let spec = Spec {
            name: name.into(),
            type_name,
            version: version.to_owned(),
            properties: settings.map(properties).unwrap_or_default(),
        };
        let host = Host {
            app_id: options.app_id.clone(),
            namespace: Namespace::from(options.namespace().unwrap_or("default")),
            environment: options.environment.clone(),
            base_dir: options.base_dir.clone(),
        };
        let open = (registration.validate)(&spec).map_err(|error| failed(&error))?;
        open.run(host).await.map_err(|error| failed(&error))?
    };
    tracing::info!(target: "dapr.runtime", "Initialized name resolution to {name}");
    Ok(resolver)
}

/// The registry answers first: it is exact and needs no network. mDNS finds what runs elsewhere or is not ours.
fn default_resolver(options: &SidecarOptions) -> Result<SharedResolver, Error> {
    let hostname = options
        .hostname
        .strip_suffix(".local")
        .unwrap_or(&options.hostname);
    let mdns = Mdns::open(MdnsOptions::new(hostname)).map(|mdns| Arc::new(mdns) as SharedResolver);
    let Some(folder) = &options.registry_dir else {
        return mdns;
    };
    let registry = Arc::new(RuntimeRegistry::open(folder)?) as SharedResolver;
    Ok(match mdns {
        Ok(mdns) => Arc::new(Composite::new(vec![registry, mdns])),
        // Without multicast the machine's own sidecars still find one another (pains I5).
        Err(error) => {
            tracing::warn!(target: "dapr.runtime", "mDNS is not available: {}", error.chain());
            registry
        }
    })
}

fn properties(settings: &serde_json::Value) -> Properties {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match settings {
        serde_json::Value::Object(fields) => {
            Properties::from_pairs(fields.iter().map(|(name, value)| (name.clone(), text(value))))
        }
        _ => Properties::default(),
    }
}
