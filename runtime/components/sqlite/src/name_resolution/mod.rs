//! `nameresolution.sqlite`: sidecars of one host find each other in a file (components-contrib
//! `nameresolution/sqlite`, A1.1). Rows are Dapr's: Go and Rust sidecars see each other.

mod config;
mod resolver;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Properties, Registration, Spec, open_with};
use outrigger_name_resolution::DynResolver;
use serde_json::Value as Json;

pub use resolver::SqliteResolver;

/// The resolver type `nameresolution.sqlite`.
///
/// Properties as upstream: `connectionString` (`url`), `tableName` (`hosts`), `metadataTableName` (`metadata`),
/// `updateInterval` (5 s), `cleanupInterval` (1 h), `timeout` (1 s), `busyTimeout` (800 ms), `disableWAL`; ours:
/// `synchronous` (`NORMAL`: a registration lost with the machine's power has no meaning any more).
#[must_use]
pub fn registration() -> Registration<dyn DynResolver> {
    Registration {
        type_names: &["nameresolution.sqlite"],
        versions: &["v1"],
        validate,
    }
}

fn validate(spec: &Spec) -> Result<Open<dyn DynResolver>, Error> {
    let config = config::Config::from_properties(&spec.properties)?;
    Ok(open_with(move |host| async move {
        Ok(Arc::new(SqliteResolver::open(config, &host.base_dir).await?) as Arc<dyn DynResolver>)
    }))
}

/// The properties in `spec.nameResolution.configuration` of a Configuration resource: an object of plain values.
///
/// # Errors
/// A configuration error when it is anything else.
pub fn properties(configuration: &Json) -> Result<Properties, Error> {
    let object = match configuration {
        Json::Null => return Ok(Properties::default()),
        Json::Object(object) => object,
        _ => {
            return Err(Error::configuration(
                "input object cannot be cast to map[string]string",
            ));
        }
    };
    let mut properties = Properties::default();
    for (name, value) in object {
        let text = match value {
            Json::Null => String::new(),
            Json::String(text) => text.clone(),
            Json::Bool(_) | Json::Number(_) => value.to_string(),
            Json::Array(_) | Json::Object(_) => {
                return Err(Error::configuration(format!(
                    "metadata field {name:?} must be a plain value"
                )));
            }
        };
        properties.insert(name, text);
    }
    Ok(properties)
}
