//! `bindings.redis`: plain keys (components-contrib `bindings/redis`).

mod backend;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_bindings::Binding;
use outrigger_component::{Error, Open, Registration, Spec, open_with};

use crate::settings::{Purpose, Settings};

pub use backend::RedisBinding;

/// The component type `bindings.redis`, an output. Metadata: what [`crate`] shares.
#[must_use]
pub fn registration() -> Registration<Binding> {
    Registration {
        type_names: &["bindings.redis"],
        versions: &["v1"],
        validate,
    }
}

fn validate(spec: &Spec) -> Result<Open<Binding>, Error> {
    let settings = Settings::parse(&spec.properties, Purpose::Binding)?;
    settings.dialer()?;
    Ok(open_with(move |_host| async move {
        Ok(Arc::new(Binding {
            input: None,
            output: Some(Arc::new(RedisBinding::open(settings).await?)),
        }))
    }))
}
