//! Metadata of `secretstores.local.file`.

use outrigger_component::{Error, Properties};

/// The metadata, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileConfig {
    /// The JSON file, as written; relative paths start at the host's base folder.
    pub secrets_file: String,
    /// Joins the names of nested values; `:` unless told otherwise (upstream `secretstores/local/file`).
    pub nested_separator: String,
    /// Whether a top-level object is one secret of several keys instead of several secrets.
    pub multi_valued: bool,
}

impl FileConfig {
    /// Reads the metadata.
    ///
    /// # Errors
    /// When `secretsFile` is missing.
    pub fn parse(properties: &Properties) -> Result<Self, Error> {
        Ok(Self {
            secrets_file: properties
                .non_empty("secretsFile")
                .ok_or_else(|| Error::configuration("missing local secrets file in metadata"))?
                .to_owned(),
            nested_separator: properties.non_empty("nestedSeparator").unwrap_or(":").to_owned(),
            multi_valued: properties.truthy("multiValued"),
        })
    }
}
