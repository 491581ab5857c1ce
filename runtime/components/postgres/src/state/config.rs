//! The metadata of `state.postgresql`.

use std::time::Duration;

use outrigger_component::{Error, Properties};

use crate::{
    connection::{Settings, duration},
    identifier,
};

const DEFAULT_CLEANUP_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The version of the component, and so of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// Checked metadata.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) settings: Settings,
    pub(super) version: Version,
    pub(super) table: String,
    /// Part of the names of version 2's rows in the metadata table.
    pub(super) table_prefix: String,
    pub(super) metadata_table: String,
    /// Created when it is not there.
    pub(super) schema: Option<String>,
    /// How often expired rows are removed; `None` for never: they are invisible anyway.
    pub(super) cleanup_interval: Option<Duration>,
}

impl Config {
    /// # Errors
    /// Configuration errors that name the field.
    pub(super) fn from_properties(properties: &Properties, version: Version) -> Result<Self, Error> {
        let settings = Settings::from_properties(properties)?;
        let schema = match properties.non_empty("schema") {
            None => None,
            Some(text) if identifier::is_qualified(text) => {
                return Err(Error::configuration(format!(
                    "invalid value for 'schema': {text:?} is not a schema name"
                )));
            }
            Some(text) => Some(identifier::table("schema", text)?),
        };
        let qualified = |field: &str, name: &str| {
            let name = identifier::table(field, name)?;
            Ok::<_, Error>(match &schema {
                Some(schema) if !identifier::is_qualified(&name) => format!("{schema}.{name}"),
                _ => name,
            })
        };
        let table_prefix = match version {
            Version::V1 => "",
            Version::V2 => properties.get("tablePrefix").unwrap_or_default(),
        };
        let table = match version {
            Version::V1 => qualified("tableName", properties.non_empty("tableName").unwrap_or("state"))?,
            Version::V2 => qualified("tablePrefix", &format!("{table_prefix}state"))?,
        };
        let metadata_table = properties
            .non_empty("metadataTableName")
            .unwrap_or("dapr_metadata");
        // Empty is the default, zero and less is never (upstream `metadata.go`).
        let cleanup_interval = match duration(properties, &["cleanupInterval", "cleanupIntervalInSeconds"])? {
            None => Some(DEFAULT_CLEANUP_INTERVAL),
            Some(_) if cleanup_is_empty(properties) => Some(DEFAULT_CLEANUP_INTERVAL),
            Some(interval) => interval.to_std().filter(|interval| !interval.is_zero()),
        };
        Ok(Self {
            settings,
            version,
            table,
            table_prefix: table_prefix.to_owned(),
            metadata_table: qualified("metadataTableName", metadata_table)?,
            schema,
            cleanup_interval,
        })
    }
}

fn cleanup_is_empty(properties: &Properties) -> bool {
    ["cleanupInterval", "cleanupIntervalInSeconds"]
        .iter()
        .find_map(|name| properties.get(name))
        .is_some_and(str::is_empty)
}
