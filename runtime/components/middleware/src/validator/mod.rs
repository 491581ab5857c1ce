//! `middleware.http.validator`: checks request bodies against JSON schemas.
//!
//! Ours: Dapr has no such component (requirement A9.6). A component without metadata checks that JSON bodies are JSON.

mod backend;
mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_middleware::Middleware;

pub use backend::Validator;
pub use config::{SchemaRule, SchemaSource, ValidatorConfig};

/// How `middleware.http.validator` is built.
pub const VALIDATOR: Registration<dyn Middleware> = Registration {
    type_names: &["middleware.http.validator"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn Middleware>, Error> {
    let config = ValidatorConfig::parse(spec.name.as_str(), &spec.properties)?;
    // A schema that stands in the metadata is checked without I/O.
    for rule in &config.rules {
        if let SchemaSource::Inline(schema) = &rule.schema {
            backend::compile(&rule.path, schema)?;
        }
    }
    Ok(open_with(async move |host| {
        Ok(Arc::new(Validator::open(config, &host).await?) as Arc<dyn Middleware>)
    }))
}
