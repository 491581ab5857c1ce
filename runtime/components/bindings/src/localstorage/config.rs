//! Metadata of `bindings.localstorage`.

use outrigger_component::{Error, Properties};

/// The metadata, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalStorageConfig {
    /// The folder, as written; relative paths start at the host's base folder. Made when it is not there.
    pub root_path: String,
}

impl LocalStorageConfig {
    /// Reads the metadata.
    ///
    /// # Errors
    /// When `rootPath` is missing.
    pub fn parse(properties: &Properties) -> Result<Self, Error> {
        let root_path = properties.non_empty("rootPath").ok_or_else(|| {
            Error::configuration("failed to parse metadata: property rootPath must not be empty")
        })?;
        Ok(Self {
            root_path: root_path.to_owned(),
        })
    }
}
