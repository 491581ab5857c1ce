//! Calendar arithmetic for the two places that print times; no time zone database.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A moment in the proleptic Gregorian calendar at some offset from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    year: i64,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    nanosecond: u32,
    offset_seconds: i32,
}

impl Civil {
    pub(crate) fn from_system_time(time: SystemTime, offset_seconds: i32) -> Self {
        // Times before 1970 only come from a broken clock.
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seconds = i64::try_from(since.as_secs()).unwrap_or(0) + i64::from(offset_seconds);
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Howard Hinnant's days-to-civil: years begin in March, eras have 400 years.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let small = |value: i64| u32::try_from(value).unwrap_or(0);
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month: small(month),
            day: small(day_of_year - (153 * shifted_month + 2) / 5 + 1),
            hour: small(of_day / 3_600),
            minute: small(of_day / 60 % 60),
            second: small(of_day % 60),
            nanosecond: since.subsec_nanos(),
            offset_seconds,
        }
    }

    /// Date and time of day with `separator` between them.
    pub(crate) fn date_time(&self, separator: char) -> String {
        let mut text = String::with_capacity(40);
        let _ = write!(
            text,
            "{:04}-{:02}-{:02}{separator}{:02}:{:02}:{:02}",
            self.year, self.month, self.day, self.hour, self.minute, self.second
        );
        text
    }

    /// Nanoseconds without trailing zeros; nothing for a whole second.
    pub(crate) fn push_fraction(&self, text: &mut String) {
        if self.nanosecond != 0 {
            let _ = write!(text, ".{:09}", self.nanosecond);
            text.truncate(text.trim_end_matches('0').len());
        }
    }

    /// Go's `time.RFC3339Nano`.
    pub(crate) fn push_rfc3339_nano(&self, text: &mut String) {
        let _ = write!(
            text,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            self.year, self.month, self.day, self.hour, self.minute, self.second
        );
        self.push_fraction(text);
        if self.offset_seconds == 0 {
            text.push('Z');
        } else {
            let minutes = self.offset_seconds.abs() / 60;
            let sign = if self.offset_seconds < 0 { '-' } else { '+' };
            let _ = write!(text, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values printed by Go's `time.Unix(s, n).In(zone).Format(time.RFC3339Nano)`.
    #[test]
    fn times_read_as_go_prints_them() {
        for (seconds, nanoseconds, offset, text) in [
            (0, 0, 0, "1970-01-01T00:00:00Z"),
            (951_827_696, 789_000_000, 0, "2000-02-29T12:34:56.789Z"),
            (1_763_720_000, 5, 3_600, "2025-11-21T11:13:20.000000005+01:00"),
            (1_704_067_199, 120, -12_600, "2023-12-31T20:29:59.00000012-03:30"),
            (4_102_444_800, 999_999_999, 0, "2100-01-01T00:00:00.999999999Z"),
        ] {
            let time = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
            let mut out = String::new();
            Civil::from_system_time(time, offset).push_rfc3339_nano(&mut out);
            assert_eq!(out, text);
        }
    }
}
