//! `middleware.http.routeralias`: other paths for paths of the API.

mod backend;
mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_middleware::Middleware;

pub use backend::RouterAlias;
pub use config::RouterAliasConfig;

/// How `middleware.http.routeralias` is built.
pub const ROUTER_ALIAS: Registration<dyn Middleware> = Registration {
    type_names: &["middleware.http.routeralias"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn Middleware>, Error> {
    let handler = RouterAlias::new(&RouterAliasConfig::parse(&spec.properties)?);
    Ok(open_with(async move |_host| {
        Ok(Arc::new(handler) as Arc<dyn Middleware>)
    }))
}
