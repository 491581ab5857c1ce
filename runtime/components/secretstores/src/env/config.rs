//! Metadata of `secretstores.local.env`.

use outrigger_component::Properties;

/// The metadata, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvConfig {
    /// Goes in front of every asked name; bulk answers name variables without it. Case counts.
    pub prefix: String,
}

impl EnvConfig {
    /// Reads the metadata; there is nothing in it that could be wrong.
    #[must_use]
    pub fn parse(properties: &Properties) -> Self {
        Self {
            prefix: properties.get("prefix").unwrap_or_default().to_owned(),
        }
    }
}
