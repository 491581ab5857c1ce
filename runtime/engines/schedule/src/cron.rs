//! Cron expressions (kit `cron`, a fork of robfig/cron v3).
//!
//! Differences from robfig that the fork brings and we keep: `@every` neither rounds to seconds nor has a least
//! period.

mod parse;

use jiff::{Timestamp, Zoned, tz::TimeZone};
use outrigger_types::GoDuration;

pub use parse::{CronError, Parser, Seconds};

use crate::calendar::{Civil, add_date, add_nanos};

/// How many years ahead a match is looked for.
const YEARS_AHEAD: i16 = 5;

/// When something fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// A fixed time after the last.
    Every(GoDuration),
    /// When the civil time matches.
    Spec(Box<Spec>),
}

impl Schedule {
    /// The next time after the given one, in the zone of the given one. `None` when nothing matches within five
    /// years, or beyond the calendar. A period that is not above zero answers with a time that is not later: the
    /// caller has to bound what it does with that.
    #[must_use]
    pub fn next(&self, after: &Zoned) -> Option<Zoned> {
        match self {
            Self::Every(period) => add_nanos(after, period.as_nanos()),
            Self::Spec(spec) => spec.next(after),
        }
    }
}

/// Set in a field's bits when it was written with a star.
const STAR: u64 = 1 << 63;

/// Matching values of each field as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    second: u64,
    minute: u64,
    hour: u64,
    day_of_month: u64,
    month: u64,
    day_of_week: u64,
    /// `None` for the zone of the time that is asked about.
    zone: Option<TimeZone>,
}

const fn has(bits: u64, value: i8) -> bool {
    value >= 0 && bits & (1 << value) != 0
}

impl Spec {
    fn day_matches(&self, time: &Zoned) -> bool {
        let of_month = has(self.day_of_month, time.day());
        let of_week = has(self.day_of_week, time.weekday().to_sunday_zero_offset());
        if (self.day_of_month | self.day_of_week) & STAR != 0 {
            of_month && of_week
        } else {
            of_month || of_week
        }
    }

    /// Whether a field that has to match alone can match at all: without this a list like `,` would be searched
    /// second by second for five years.
    fn can_match(&self) -> bool {
        [self.second, self.minute, self.hour, self.month]
            .iter()
            .all(|bits| bits & !STAR != 0)
            && (self.day_of_month | self.day_of_week) & !STAR != 0
    }

    fn next(&self, after: &Zoned) -> Option<Zoned> {
        if !self.can_match() {
            return None;
        }
        let zone = self.zone.as_ref().unwrap_or_else(|| after.time_zone());
        // From the coming second on.
        let second = after.timestamp().as_nanosecond().div_euclid(1_000_000_000) + 1;
        let start = Timestamp::from_second(i64::try_from(second).ok()?).ok()?;
        let mut time = start.to_zoned(zone.clone());
        let last_year = time.year().checked_add(YEARS_AHEAD)?;
        // Once a field has been moved, the smaller ones start from their beginning.
        let mut moved = false;
        'wrap: loop {
            if time.year() > last_year {
                return None;
            }
            while !has(self.month, time.month()) {
                if !moved {
                    moved = true;
                    time = Civil {
                        day: 1,
                        ..midnight(&time)
                    }
                    .at(zone)?;
                }
                time = add_date(&time, 0, 1, 0)?;
                if time.month() == 1 {
                    continue 'wrap;
                }
            }
            while !self.day_matches(&time) {
                if !moved {
                    moved = true;
                    time = midnight(&time).at(zone)?;
                }
                time = add_date(&time, 0, 0, 1)?;
                // Midnight may not exist where the clocks change then: go back, or on, to the start of the day.
                let hour = i64::from(time.hour());
                if hour != 0 {
                    let hours = if hour > 12 { 24 - hour } else { -hour };
                    time = add_seconds(&time, hours * 3600)?;
                }
                if time.day() == 1 {
                    continue 'wrap;
                }
            }
            while !has(self.hour, time.hour()) {
                if !moved {
                    moved = true;
                    time = Civil {
                        hour: time.hour().into(),
                        ..midnight(&time)
                    }
                    .at(zone)?;
                }
                time = add_seconds(&time, 3600)?;
                if time.hour() == 0 {
                    continue 'wrap;
                }
            }
            while !has(self.minute, time.minute()) {
                if !moved {
                    moved = true;
                    // Go truncates exact time here, not civil time.
                    time = add_seconds(&time, -time.timestamp().as_second().rem_euclid(60))?;
                }
                time = add_seconds(&time, 60)?;
                if time.minute() == 0 {
                    continue 'wrap;
                }
            }
            while !has(self.second, time.second()) {
                moved = true;
                time = add_seconds(&time, 1)?;
                if time.second() == 0 {
                    continue 'wrap;
                }
            }
            return Some(time.with_time_zone(after.time_zone().clone()));
        }
    }
}

fn midnight(time: &Zoned) -> Civil {
    Civil {
        hour: 0,
        minute: 0,
        second: 0,
        nanosecond: 0,
        ..Civil::of(time)
    }
}

fn add_seconds(time: &Zoned, seconds: i64) -> Option<Zoned> {
    add_nanos(time, seconds.checked_mul(1_000_000_000)?)
}

#[cfg(test)]
mod tests;
