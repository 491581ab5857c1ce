//! Reminders and timers of actors (upstream `pkg/actors/api`).

use jiff::Zoned;
use outrigger_types::{DurationError, Period};

use crate::{
    calendar::add_period,
    point::{PointError, parse_time},
};

/// What is scheduled; errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Durable.
    Reminder,
    /// Gone with its actor.
    Timer,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reminder => "reminder",
            Self::Timer => "timer",
        })
    }
}

/// Times that make no schedule; the texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReminderError {
    /// The due time.
    #[error("error parsing {0} due time: {1}")]
    DueTime(Kind, PointError),
    /// The period.
    #[error("invalid {0} period: parse error: {1}")]
    Period(Kind, DurationError),
    /// A period that repeats zero times.
    #[error("invalid {0} period: has zero repetitions")]
    ZeroRepetitions(Kind),
    /// The time to live.
    #[error("error parsing {0} TTL: {1}")]
    Ttl(Kind, PointError),
    /// It would end before it starts.
    #[error("{kind} {key} has already expired: dueTime: {due} TTL: {ttl}")]
    Expired {
        /// What it is.
        kind: Kind,
        /// `<type>||<id>||<name>`.
        key: String,
        /// When it would fire.
        due: String,
        /// What was written.
        ttl: String,
    },
    /// A period that the scheduler cannot express: years, months or days.
    #[error("unsupported period format: {0}")]
    Unsupported(String),
}

/// When a reminder or timer fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reminder {
    /// The next time.
    pub next: Zoned,
    /// The pause between times, and how many are left.
    pub period: Period,
    /// When it ends, whatever is left.
    pub expiration: Option<Zoned>,
}

impl Reminder {
    /// From what a user wrote; empty texts are absent. `key` is for the error text.
    ///
    /// # Errors
    /// When one of the texts cannot be read, or it would end before it starts.
    pub fn new(
        kind: Kind,
        key: &str,
        due: &str,
        period: &str,
        ttl: &str,
        now: &Zoned,
    ) -> Result<Self, ReminderError> {
        let next = match due {
            "" => now.clone(),
            due => parse_time(due, now).map_err(|error| ReminderError::DueTime(kind, error))?,
        };
        let period = match period {
            "" => Period::default(),
            period => Period::parse(period).map_err(|error| ReminderError::Period(kind, error))?,
        };
        if period.repetitions == Some(0) {
            return Err(ReminderError::ZeroRepetitions(kind));
        }
        let expiration = match ttl {
            "" => None,
            ttl => {
                let expiration = parse_time(ttl, &next).map_err(|error| ReminderError::Ttl(kind, error))?;
                if *now > expiration || next > expiration {
                    return Err(ReminderError::Expired {
                        kind,
                        key: key.to_owned(),
                        due: next.timestamp().to_string(),
                        ttl: ttl.to_owned(),
                    });
                }
                Some(expiration)
            }
        };
        Ok(Self {
            next,
            period,
            expiration,
        })
    }

    /// Whether it still fires at [`Reminder::next`].
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.expiration
            .as_ref()
            .is_none_or(|expiration| self.next < *expiration)
    }

    /// Takes note that it has fired and moves on; `false` when that was the last time.
    pub fn ticked(&mut self) -> bool {
        if let Some(left) = &mut self.period.repetitions
            && *left > 0
        {
            *left -= 1;
        }
        if self.period.repetitions == Some(0) || self.period.is_zero() {
            return false;
        }
        match add_period(&self.next, &self.period) {
            Some(next) => {
                self.next = next;
                true
            }
            None => false,
        }
    }
}

/// The schedule and repeats of the job that stands for a reminder of this period; nothing for an empty one.
///
/// # Errors
/// When the period cannot be read or counts by the calendar.
pub fn job_schedule(period: &str) -> Result<Option<(String, Option<u32>)>, ReminderError> {
    if period.is_empty() {
        return Ok(None);
    }
    let unsupported = || ReminderError::Unsupported(period.to_owned());
    let parsed = Period::parse(period).map_err(|_| unsupported())?;
    if parsed.years > 0 || parsed.months > 0 || parsed.days > 0 {
        return Err(unsupported());
    }
    let repeats = parsed
        .repetitions
        .filter(|repeats| *repeats > 0)
        .and_then(|repeats| u32::try_from(repeats).ok());
    Ok(Some((format!("@every {}", parsed.time), repeats)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{Timestamp, tz::TimeZone};

    fn now() -> Zoned {
        "2026-01-01T00:00:00Z"
            .parse::<Timestamp>()
            .unwrap()
            .to_zoned(TimeZone::UTC)
    }

    fn new(due: &str, period: &str, ttl: &str) -> Result<Reminder, String> {
        Reminder::new(Kind::Reminder, "t||i||n", due, period, ttl, &now()).map_err(|error| error.to_string())
    }

    fn ticks(mut reminder: Reminder, most: usize) -> Vec<String> {
        let mut ticks = Vec::new();
        while reminder.is_active() && ticks.len() < most {
            ticks.push(reminder.next.datetime().to_string());
            if !reminder.ticked() {
                break;
            }
        }
        ticks
    }

    #[test]
    fn once_often_and_until() {
        assert_eq!(ticks(new("", "", "").unwrap(), 9), ["2026-01-01T00:00:00"]);
        assert_eq!(ticks(new("5s", "", "").unwrap(), 9), ["2026-01-01T00:00:05"]);
        assert_eq!(
            ticks(new("1s", "R3/PT2S", "").unwrap(), 9),
            [
                "2026-01-01T00:00:01",
                "2026-01-01T00:00:03",
                "2026-01-01T00:00:05"
            ]
        );
        assert_eq!(ticks(new("", "1s", "2.5s").unwrap(), 9).len(), 3);
        assert_eq!(
            ticks(new("", "P1M", "").unwrap(), 3),
            [
                "2026-01-01T00:00:00",
                "2026-02-01T00:00:00",
                "2026-03-01T00:00:00"
            ]
        );
        assert_eq!(
            ticks(new("", "0s", "").unwrap(), 9).len(),
            1,
            "no period, no repetition"
        );
        assert_eq!(ticks(new("", "R5", "").unwrap(), 9).len(), 1);
    }

    #[test]
    fn mistakes() {
        for (due, period, ttl, error) in [
            (
                "x",
                "",
                "",
                "error parsing reminder due time: unsupported time/duration format: x",
            ),
            (
                "",
                "x",
                "",
                "invalid reminder period: parse error: unsupported duration format: x",
            ),
            ("", "R0/PT1S", "", "invalid reminder period: has zero repetitions"),
            (
                "",
                "",
                "x",
                "error parsing reminder TTL: unsupported time/duration format: x",
            ),
        ] {
            assert_eq!(new(due, period, ttl).unwrap_err(), error);
        }
        assert!(
            new("", "", "-1s")
                .unwrap_err()
                .starts_with("reminder t||i||n has already expired: dueTime: ")
        );
        assert!(new("2026-01-02T00:00:00Z", "", "2026-01-01T12:00:00Z").is_err());
    }

    #[test]
    fn as_jobs() {
        assert_eq!(job_schedule(""), Ok(None));
        assert_eq!(
            job_schedule("1h30m"),
            Ok(Some(("@every 1h30m0s".to_owned(), None)))
        );
        assert_eq!(
            job_schedule("R5/PT10S"),
            Ok(Some(("@every 10s".to_owned(), Some(5))))
        );
        assert_eq!(
            job_schedule("P1D").unwrap_err().to_string(),
            "unsupported period format: P1D"
        );
        assert_eq!(
            job_schedule("x").unwrap_err().to_string(),
            "unsupported period format: x"
        );
    }
}
