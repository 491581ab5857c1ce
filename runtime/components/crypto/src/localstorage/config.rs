//! Metadata of `crypto.dapr.localstorage`.

use outrigger_component::{Error, Properties};

/// The metadata, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalStorageConfig {
    /// The folder of the key files, as written; relative paths start at the host's base folder.
    pub path: String,
}

impl LocalStorageConfig {
    /// Reads the metadata.
    ///
    /// # Errors
    /// When `path` is missing.
    pub fn parse(properties: &Properties) -> Result<Self, Error> {
        let path = properties.non_empty("path").ok_or_else(|| {
            Error::configuration("failed to load metadata: metadata property 'path' is required")
        })?;
        Ok(Self {
            path: path.to_owned(),
        })
    }
}
