//! `middleware.http.oauth2clientcredentials`: adds a token of the sidecar's own to requests (components-contrib
//! `middleware/http/oauth2clientcredentials`).

mod backend;
mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_http_client::Proxies;
use outrigger_middleware::Middleware;

pub use backend::ClientCredentials;
pub use config::ClientCredentialsConfig;

/// How `middleware.http.oauth2clientcredentials` is built.
pub const CLIENT_CREDENTIALS: Registration<dyn Middleware> = Registration {
    type_names: &["middleware.http.oauth2clientcredentials"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn Middleware>, Error> {
    let handler = ClientCredentials::new(ClientCredentialsConfig::parse(&spec.properties)?)?;
    Ok(open_with(async move |host| {
        let handler = handler.by(Proxies::from_environment(&host.environment))?;
        Ok(Arc::new(handler) as Arc<dyn Middleware>)
    }))
}
