//! The configuration of `nameresolution.sqlite`.

use std::time::Duration;

use outrigger_component::{Error, Properties};

use crate::connection::{Defaults, Settings, Synchronous, duration, identifier, non_negative};

/// Upstream's defaults: a resolver must answer soon.
const DEFAULTS: Defaults = Defaults {
    timeout: Duration::from_secs(1),
    busy_timeout: Duration::from_millis(800),
    synchronous: Synchronous::Normal,
};

/// Checked configuration.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) settings: Settings,
    pub(super) table: String,
    pub(super) metadata_table: String,
    /// A registration not renewed for this long is dead; whole seconds.
    pub(super) update_interval: Duration,
    /// How often dead registrations are removed; zero is never.
    pub(super) cleanup_interval: Duration,
}

impl Config {
    pub(super) fn from_properties(properties: &Properties) -> Result<Self, Error> {
        let settings = Settings::from_properties(properties, DEFAULTS)?;
        let table = identifier(
            properties.get("tableName").unwrap_or("hosts"),
            "invalid identifier for table name",
        )?;
        let metadata_table = identifier(
            properties.get("metadataTableName").unwrap_or("metadata"),
            "invalid identifier for metadata table name",
        )?;
        let update_interval =
            duration(properties, &["updateInterval"])?.map_or(Duration::from_secs(5), non_negative);
        if update_interval.subsec_nanos() != 0 {
            return Err(Error::configuration(
                "update interval must not contain fractions of seconds",
            ));
        }
        if update_interval < settings.timeout + Duration::from_secs(1) {
            return Err(Error::configuration(
                "update interval must be at least 1s greater than timeout",
            ));
        }
        let cleanup_interval = duration(properties, &["cleanupInterval", "cleanupIntervalInSeconds"])?
            .map_or(Duration::from_secs(3600), non_negative);
        Ok(Self {
            settings,
            table,
            metadata_table,
            update_interval,
            cleanup_interval,
        })
    }
}
