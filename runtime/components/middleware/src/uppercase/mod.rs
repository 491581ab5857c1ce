//! `middleware.http.uppercase`: letters of bodies become capitals; a sample that shows that a pipeline works.

mod backend;
mod body;
mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_middleware::Middleware;

pub use backend::Uppercase;
pub use config::UppercaseConfig;

/// How `middleware.http.uppercase` is built.
pub const UPPERCASE: Registration<dyn Middleware> = Registration {
    type_names: &["middleware.http.uppercase"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn Middleware>, Error> {
    let config = UppercaseConfig::parse(&spec.properties);
    Ok(open_with(async move |_host| {
        Ok(Arc::new(Uppercase::new(config)) as Arc<dyn Middleware>)
    }))
}
