//! The metadata of `state.sqlite`.

use std::time::Duration;

use outrigger_component::{Error, Properties};

use crate::connection::{Defaults, Settings, duration, identifier, non_negative};

/// Checked metadata.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) settings: Settings,
    pub(super) table: String,
    pub(super) metadata_table: String,
    /// How often expired rows are removed; zero, upstream's default, is never: they are invisible anyway.
    pub(super) cleanup_interval: Duration,
}

impl Config {
    pub(super) fn from_properties(properties: &Properties) -> Result<Self, Error> {
        let settings = Settings::from_properties(properties, Defaults::default())?;
        let name =
            |property, default| identifier(properties.get(property).unwrap_or(default), "invalid identifier");
        Ok(Self {
            settings,
            table: name("tableName", "state")?,
            metadata_table: name("metadataTableName", "metadata")?,
            cleanup_interval: duration(properties, &["cleanupInterval", "cleanupIntervalInSeconds"])?
                .map_or(Duration::ZERO, non_negative),
        })
    }
}
