//! Metadata of `bindings.cron`. Its `direction` is read by the sidecar for every binding.

use jiff::tz::TimeZoneDatabase;
use outrigger_component::{Error, Properties};
use outrigger_engine_schedule::cron::{Parser, Schedule, Seconds};

use super::Zone;

/// The metadata, read.
#[derive(Debug, Clone)]
pub struct CronConfig {
    /// When events happen.
    pub schedule: Schedule,
    /// The zone of schedules that name none (`CRON_TZ=`), from `timeZone`, which upstream does not have; `None` is
    /// the host's.
    pub zone: Option<Zone>,
}

impl CronConfig {
    /// Reads the metadata. Zones come from the system's database, the only thing that is looked at.
    ///
    /// # Errors
    /// When `schedule` is missing or no expression, would fire without pause, or a zone is unknown.
    pub fn parse(properties: &Properties) -> Result<Self, Error> {
        let zones = TimeZoneDatabase::from_env();
        let text = properties
            .non_empty("schedule")
            .ok_or_else(|| Error::configuration("schedule not set"))?;
        let invalid = || Error::configuration(format!("invalid schedule format '{text}'"));
        let schedule = Parser::new(Seconds::Optional, zones.clone())
            .parse(text)
            .map_err(|error| invalid().with_source(error))?;
        if matches!(&schedule, Schedule::Every(period) if period.as_nanos() <= 0) {
            return Err(invalid().with_source("the period must be above zero"));
        }
        let zone = match properties.non_empty("timeZone") {
            None => None,
            Some(name) => Some(Zone {
                name: name.to_owned(),
                zone: zones.get(name).map_err(|error| {
                    Error::configuration(format!("metadata field \"timeZone\": unknown time zone {name:?}"))
                        .with_source(error)
                })?,
            }),
        };
        Ok(Self { schedule, zone })
    }
}
