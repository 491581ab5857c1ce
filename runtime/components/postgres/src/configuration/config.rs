//! The metadata of `configuration.postgresql`, and the rules for names (upstream `configuration/postgres/metadata.go`).

use outrigger_component::{Error, Metadata, Properties};

use crate::{connection::Settings, identifier};

/// Upstream's bound of names of tables and channels.
const MOST_BYTES: usize = 64;

/// Checked metadata.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) settings: Settings,
    pub(super) table: String,
    /// Where the trigger notifies; a subscription may say it instead.
    pub(super) channel: Option<String>,
}

impl Config {
    /// # Errors
    /// Configuration errors with upstream's texts.
    pub(super) fn from_properties(properties: &Properties) -> Result<Self, Error> {
        let Some(table) = properties.non_empty("table") else {
            return Err(Error::configuration(
                "missing postgreSQL configuration table name",
            ));
        };
        if table.len() > MOST_BYTES {
            return Err(Error::configuration(format!(
                "table name is too long - tableName : '{table}'. max allowed field length is {MOST_BYTES}"
            )));
        }
        if !is_plain(table) {
            return Err(Error::configuration(format!(
                "invalid table name '{table}'. non-alphanumerics or upper cased table names are not supported"
            )));
        }
        let mut properties = properties.clone();
        // The old name of the field.
        if properties.non_empty("connectionMaxIdleTime").is_none()
            && let Some(idle) = properties.non_empty("connMaxIdleTime").map(str::to_owned)
        {
            properties.insert("connectionMaxIdleTime", idle);
        }
        let channel = properties
            .non_empty("notifyChannel")
            .or_else(|| properties.non_empty("pgNotifyChannel"));
        Ok(Self {
            settings: Settings::from_properties(&properties)?,
            table: identifier::table("table", table)?,
            channel: channel.map(channel_name).transpose()?,
        })
    }

    /// The channel of a subscription: the component's before the request's.
    ///
    /// # Errors
    /// `InvalidRequest` with upstream's texts.
    pub(super) fn channel(&self, metadata: &Metadata) -> Result<String, Error> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let asked = metadata
            .iter()
            .find(|(name, value)| name.eq_ignore_ascii_case("pgNotifyChannel") && !value.is_empty());
        match asked {
            Some((_, channel)) => {
                channel_name(channel).map_err(|error| Error::invalid(error.message().to_owned()))
            }
            None => Err(Error::invalid(format!(
                "unable to subscribe to {:?}. notifyChannel must be set in component metadata or request metadata",
                self.table
            ))),
        }
    }
}

fn channel_name(name: &str) -> Result<String, Error> {
    if name.len() > MOST_BYTES {
        return Err(Error::configuration(format!(
            "notifyChannel name is too long - {name:?}. max allowed length is {MOST_BYTES}"
        )));
    }
    if !is_plain(name) {
        return Err(Error::configuration(format!(
            "invalid notifyChannel name {name:?}. non-alphanumerics or upper cased names are not supported"
        )));
    }
    Ok(name.to_owned())
}

fn is_plain(name: &str) -> bool {
    name.bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'/' | b'_'))
}

/// # Errors
/// `InvalidRequest` with upstream's text.
pub(super) fn check_keys(keys: &[String]) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/' | b'_');
    match keys.iter().find(|key| !key.bytes().all(allowed)) {
        Some(key) => Err(Error::invalid(format!("invalid key : '{key}'"))),
        None => Ok(()),
    }
}
