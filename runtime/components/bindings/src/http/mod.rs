//! `bindings.http`: calls one HTTP endpoint, the verb as operation (A5.5).

mod backend;
mod config;
mod size;
#[cfg(test)]
mod tests;
mod tls;
mod url;

use std::sync::Arc;

use outrigger_bindings::{Binding, DynOutputBinding};
use outrigger_component::{Error, Open, Registration, Spec, open_with};

pub use backend::HttpBinding;
pub use config::HttpConfig;

/// How `bindings.http` is built.
pub const HTTP: Registration<Binding> = Registration {
    type_names: &["bindings.http"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<Binding>, Error> {
    let config = HttpConfig::parse(&spec.properties)?;
    Ok(open_with(async move |host| {
        let binding = HttpBinding::open(config, &host).await?;
        Ok(Arc::new(Binding {
            input: None,
            output: Some(Arc::new(binding) as Arc<dyn DynOutputBinding>),
        }))
    }))
}
