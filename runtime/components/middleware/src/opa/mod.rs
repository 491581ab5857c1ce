//! `middleware.http.opa`: asks a Rego policy (components-contrib `middleware/http/opa`).
//!
//! The policy is Rego in its version 0 unless it says `import rego.v1`, as upstream's engine reads it. The built-in
//! functions are regorus's and `io.jwt.decode`; those that reach outside (`http.send`, the process environment) are not
//! there, nor are the other functions for tokens: `middleware.http.bearer` verifies them.
//!
//! A policy begins on the executor, because a common one is done in microseconds; one that takes longer than two
//! milliseconds begins anew beside it, in one of a few places, where it may think for a second.

mod backend;
mod config;
mod evaluation;
mod jwt;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_middleware::Middleware;

pub use backend::Opa;
pub use config::OpaConfig;

/// How `middleware.http.opa` is built.
pub const OPA: Registration<dyn Middleware> = Registration {
    type_names: &["middleware.http.opa"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn Middleware>, Error> {
    let handler = Opa::compile(OpaConfig::parse(&spec.properties)?)?;
    Ok(open_with(async move |_host| {
        Ok(Arc::new(handler.open().await?) as Arc<dyn Middleware>)
    }))
}
