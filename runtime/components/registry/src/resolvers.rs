//! How the resolvers of `components/name-resolution` are built from a Configuration.

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
#[cfg(unix)]
use outrigger_components_name_resolution::RuntimeRegistry;
use outrigger_components_name_resolution::{Mdns, MdnsOptions};
use outrigger_name_resolution::DynResolver;

/// Multicast DNS; it has no settings.
pub(crate) const MDNS: Registration<dyn DynResolver> = Registration {
    type_names: &["nameresolution.mdns"],
    versions: &["v1"],
    validate: mdns,
};

/// The registry of one user's sidecars on this host: a folder, named by the property `path`.
#[cfg(unix)]
pub(crate) const REGISTRY: Registration<dyn DynResolver> = Registration {
    type_names: &["nameresolution.registry"],
    versions: &["v1"],
    validate: registry,
};

fn mdns(_spec: &Spec) -> Result<Open<dyn DynResolver>, Error> {
    Ok(open_with(async |_host| {
        let hostname = gethostname::gethostname().to_string_lossy().into_owned();
        let hostname = hostname.strip_suffix(".local").unwrap_or(&hostname);
        let resolver = Mdns::open(MdnsOptions::new(hostname))?;
        Ok(Arc::new(resolver) as Arc<dyn DynResolver>)
    }))
}

#[cfg(unix)]
fn registry(spec: &Spec) -> Result<Open<dyn DynResolver>, Error> {
    let path = spec.properties.required("path")?.to_owned();
    Ok(open_with(async move |host| {
        let resolver = RuntimeRegistry::open(host.path(&path))?;
        Ok(Arc::new(resolver) as Arc<dyn DynResolver>)
    }))
}
