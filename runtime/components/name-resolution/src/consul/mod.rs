//! `nameresolution.consul` (`nameresolution.hashicorp.consul`): sidecars found through a Consul agent
//! (components-contrib `nameresolution/hashicorp/consul`).

mod client;
mod config;
mod resolver;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_name_resolution::DynResolver;

pub use resolver::Consul;

/// How `nameresolution.consul` is built.
pub const CONSUL: Registration<dyn DynResolver> = Registration {
    type_names: &["nameresolution.consul", "nameresolution.hashicorp.consul"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn DynResolver>, Error> {
    let config = config::Config::parse(&spec.properties)?;
    Ok(open_with(async move |host| {
        Ok(Arc::new(Consul::open(config, &host).await?) as Arc<dyn DynResolver>)
    }))
}
