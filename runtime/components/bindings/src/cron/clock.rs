//! The time of day, and where.

use std::fmt;

use jiff::{
    Timestamp,
    tz::{TimeZone, TimeZoneDatabase},
};
use outrigger_types::Environment;

/// Tells the time of day; a seam for tests.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The host's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A time zone under the name that events carry.
#[derive(Debug, Clone)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// Its rules.
    pub zone: TimeZone,
}

impl Zone {
    /// The host's zone as Go finds and names it: `TZ`, else the system's under the name `Local`; UTC where neither
    /// can be read.
    #[must_use]
    pub fn of_host(environment: &Environment) -> Self {
        let found = match environment.get("TZ") {
            None => TimeZone::try_system().ok().map(|zone| ("Local", zone)),
            Some(text) => {
                let name = text.strip_prefix(':').unwrap_or(text);
                TimeZoneDatabase::from_env()
                    .get(name)
                    .ok()
                    .map(|zone| (name, zone))
            }
        };
        let (name, zone) = found.unwrap_or(("UTC", TimeZone::UTC));
        Self {
            name: name.to_owned(),
            zone,
        }
    }
}

/// A time in UTC as Go prints it: `2026-11-21 10:00:00.5 +0000 UTC`.
pub(super) fn go_text(time: Timestamp) -> String {
    let civil = time.to_zoned(TimeZone::UTC);
    let mut text = civil.strftime("%Y-%m-%d %H:%M:%S").to_string();
    let nanoseconds = civil.subsec_nanosecond();
    if nanoseconds != 0 {
        let digits = format!("{nanoseconds:09}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push_str(" +0000 UTC");
    text
}
