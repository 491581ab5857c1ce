//! `middleware.http.oauth2`: sends browsers to an authorization server and remembers them by a cookie
//! (components-contrib `middleware/http/oauth2`).

mod backend;
mod config;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_http_client::Proxies;
use outrigger_middleware::Middleware;

pub use backend::Oauth2;
pub use config::Oauth2Config;

/// How `middleware.http.oauth2` is built.
pub const OAUTH2: Registration<dyn Middleware> = Registration {
    type_names: &["middleware.http.oauth2"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn Middleware>, Error> {
    let handler = Oauth2::new(Oauth2Config::parse(&spec.properties)?)?;
    Ok(open_with(async move |host| {
        let handler = handler.by(Proxies::from_environment(&host.environment))?;
        Ok(Arc::new(handler) as Arc<dyn Middleware>)
    }))
}
