//! `middleware.http.bearer`: only requests with a good token of one issuer pass (components-contrib
//! `middleware/http/bearer`).

mod backend;
mod config;
mod keys;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_http_client::Proxies;
use outrigger_middleware::Middleware;

pub use backend::Bearer;
pub use config::BearerConfig;

/// How `middleware.http.bearer` is built.
pub const BEARER: Registration<dyn Middleware> = Registration {
    type_names: &["middleware.http.bearer"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn Middleware>, Error> {
    let config = BearerConfig::parse(&spec.properties)?;
    Ok(open_with(async move |host| {
        let proxies = Proxies::from_environment(&host.environment);
        Ok(Arc::new(Bearer::open(config, proxies).await?) as Arc<dyn Middleware>)
    }))
}
