//! Points in time that users write: due times and times to live.

use jiff::{Timestamp, Zoned};
use outrigger_types::{GoDuration, Period, is_rfc3339};

use crate::calendar::{add_nanos, add_period};

/// A time that cannot be read; the texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// Neither a duration nor a time.
    #[error("unsupported time/duration format: {0}")]
    Format(String),
    /// A due time does not repeat.
    #[error("repetitions are not allowed")]
    Repetitions,
    /// Neither a duration nor a time, in the scheduler's words.
    #[error("due time format not recognized")]
    JobFormat,
    /// A due time does not repeat, in the scheduler's words.
    #[error("repeats not supported for due time")]
    JobRepeats,
    /// Beyond the years a calendar knows.
    #[error("time out of range: {0}")]
    Range(String),
}

/// Reads RFC 3339, with or without fractions.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    if is_rfc3339(text) { text.parse().ok() } else { None }
}

fn after(from: &Zoned, period: &Period, text: &str) -> Result<Zoned, PointError> {
    add_period(from, period).ok_or_else(|| PointError::Range(text.to_owned()))
}

/// As actors read it (kit `ParseTime`): an ISO 8601 or Go duration after `from`, or a time. The answer is in the
/// zone of `from`, whose calendar counts.
///
/// # Errors
/// When it is none of them, or repeats.
pub fn parse_time(text: &str, from: &Zoned) -> Result<Zoned, PointError> {
    if let Ok(period) = Period::parse_iso8601(text) {
        if period.repetitions.is_some() {
            return Err(PointError::Repetitions);
        }
        return after(from, &period, text);
    }
    if let Ok(duration) = GoDuration::parse(text) {
        return add_nanos(from, duration.as_nanos()).ok_or_else(|| PointError::Range(text.to_owned()));
    }
    parse_rfc3339(text)
        .map(|time| time.to_zoned(from.time_zone().clone()))
        .ok_or_else(|| PointError::Format(text.to_owned()))
}

/// As the scheduler reads it (go-etcd-cron): a time, or a Go or ISO 8601 duration after `from`.
///
/// # Errors
/// When it is none of them, or repeats.
pub fn parse_job_time(text: &str, from: &Zoned) -> Result<Zoned, PointError> {
    if let Some(time) = parse_rfc3339(text) {
        return Ok(time.to_zoned(from.time_zone().clone()));
    }
    if let Ok(duration) = GoDuration::parse(text) {
        return add_nanos(from, duration.as_nanos()).ok_or_else(|| PointError::Range(text.to_owned()));
    }
    let period = Period::parse_iso8601(text).map_err(|_| PointError::JobFormat)?;
    if period.repetitions.is_some_and(|repetitions| repetitions > 0) {
        return Err(PointError::JobRepeats);
    }
    after(from, &period, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from() -> Zoned {
        "2026-01-31T10:00:00Z"
            .parse::<Timestamp>()
            .unwrap()
            .to_zoned(jiff::tz::TimeZone::UTC)
    }

    fn text(time: Result<Zoned, PointError>) -> Result<String, String> {
        time.map(|time| time.timestamp().to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn of_actors() {
        for (written, expected) in [
            ("P1M", Ok("2026-03-03T10:00:00Z")),
            ("PT1H30M", Ok("2026-01-31T11:30:00Z")),
            ("1.5s", Ok("2026-01-31T10:00:01.5Z")),
            ("-1h", Ok("2026-01-31T09:00:00Z")),
            ("0s", Ok("2026-01-31T10:00:00Z")),
            ("2026-02-01T00:00:00.25+02:00", Ok("2026-01-31T22:00:00.25Z")),
            ("R5/PT1S", Err("repetitions are not allowed")),
            ("soon", Err("unsupported time/duration format: soon")),
            ("", Err("unsupported time/duration format: ")),
            ("2026-02-01", Err("unsupported time/duration format: 2026-02-01")),
        ] {
            assert_eq!(
                text(parse_time(written, &from()))
                    .as_ref()
                    .map(String::as_str)
                    .map_err(String::as_str),
                expected
            );
        }
        assert!(parse_time("P9999Y", &from()).is_err());
    }

    #[test]
    fn of_jobs() {
        for (written, expected) in [
            ("P1D", Ok("2026-02-01T10:00:00Z")),
            ("10s", Ok("2026-01-31T10:00:10Z")),
            ("2026-02-01T00:00:00Z", Ok("2026-02-01T00:00:00Z")),
            ("R5/PT1S", Err("repeats not supported for due time")),
            ("soon", Err("due time format not recognized")),
        ] {
            assert_eq!(
                text(parse_job_time(written, &from()))
                    .as_ref()
                    .map(String::as_str)
                    .map_err(String::as_str),
                expected
            );
        }
    }
}
