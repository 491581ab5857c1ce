//! Civil time with Go's rules: fields may overflow into the next larger one, and a local time that a change of
//! offset skips or repeats is taken as Go's `time.Date` takes it.

use jiff::{Timestamp, Zoned, civil::Date, tz::TimeZone};
use outrigger_types::Period;

const DAY: i64 = 86_400;

/// Civil date and time, whose fields need not be in range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    pub(crate) nanosecond: i64,
}

impl Civil {
    pub(crate) fn of(time: &Zoned) -> Self {
        Self {
            year: time.year().into(),
            month: time.month().into(),
            day: time.day().into(),
            hour: time.hour().into(),
            minute: time.minute().into(),
            second: time.second().into(),
            nanosecond: time.subsec_nanosecond().into(),
        }
    }

    /// `time.Date`: `None` beyond the years -9999 to 9999.
    pub(crate) fn at(&self, zone: &TimeZone) -> Option<Zoned> {
        let months = self.month.checked_sub(1)?;
        let year = self.year.checked_add(months.div_euclid(12))?;
        let month = months.rem_euclid(12) + 1;
        let first = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, 1).ok()?;
        let midnight = TimeZone::UTC.to_timestamp(first.at(0, 0, 0, 0)).ok()?.as_second();
        let days = self.day.checked_sub(1)?.checked_mul(DAY)?;
        let seconds = self
            .hour
            .checked_mul(3600)?
            .checked_add(self.minute.checked_mul(60)?)?
            .checked_add(self.second)?
            .checked_add(days)?;
        let local = midnight.checked_add(seconds)?;
        // The first look-up takes the local time for UTC; where that lands in the wrong period, the second one,
        // made with the offset found, decides.
        let guess = local.checked_sub(offset(zone, local)?)?;
        let second = local.checked_sub(offset(zone, guess)?)?;
        Some(
            Timestamp::new(second, i32::try_from(self.nanosecond).ok()?)
                .ok()?
                .to_zoned(zone.clone()),
        )
    }
}

fn offset(zone: &TimeZone, second: i64) -> Option<i64> {
    Some(
        zone.to_offset(Timestamp::from_second(second).ok()?)
            .seconds()
            .into(),
    )
}

/// Years, months and days by the calendar of the time's zone (`AddDate`): a day that the month does not have runs
/// over into the next. `None` beyond the calendar.
#[must_use]
pub fn add_date(time: &Zoned, years: i64, months: i64, days: i64) -> Option<Zoned> {
    let mut civil = Civil::of(time);
    civil.year = civil.year.checked_add(years)?;
    civil.month = civil.month.checked_add(months)?;
    civil.day = civil.day.checked_add(days)?;
    civil.at(time.time_zone())
}

/// Exact time, whatever the clocks do.
#[must_use]
pub fn add_nanos(time: &Zoned, nanos: i64) -> Option<Zoned> {
    let at = time
        .timestamp()
        .checked_add(jiff::SignedDuration::from_nanos(nanos))
        .ok()?;
    Some(at.to_zoned(time.time_zone().clone()))
}

/// One period later: its calendar part first, then its exact part. `None` beyond the calendar.
#[must_use]
pub fn add_period(time: &Zoned, period: &Period) -> Option<Zoned> {
    let by_calendar = if (period.years, period.months, period.days) == (0, 0, 0) {
        time.clone()
    } else {
        add_date(time, period.years, period.months, period.days)?
    };
    add_nanos(&by_calendar, period.time.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrigger_types::GoDuration;

    fn new_york() -> TimeZone {
        TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap()
    }

    fn zoned(text: &str, zone: &TimeZone) -> Zoned {
        text.parse::<Timestamp>().unwrap().to_zoned(zone.clone())
    }

    #[test]
    fn months_overflow_as_in_go() {
        let utc = TimeZone::UTC;
        for (from, (y, m, d), to) in [
            ("2020-02-03T11:12:13Z", (1, 2, 3), "2021-04-06T11:12:13Z"),
            ("2019-02-03T11:12:13Z", (1, 2, 3), "2020-04-06T11:12:13Z"),
            ("2021-01-31T00:00:00Z", (0, 1, 0), "2021-03-03T00:00:00Z"),
            ("2020-02-29T00:00:00Z", (1, 0, 0), "2021-03-01T00:00:00Z"),
            ("2021-12-31T00:00:00.5Z", (0, 0, 1), "2022-01-01T00:00:00.5Z"),
            ("2021-01-15T00:00:00Z", (0, -1, -15), "2020-11-30T00:00:00Z"),
        ] {
            let added = add_date(&zoned(from, &utc), y, m, d).unwrap();
            assert_eq!(added.timestamp().to_string(), to, "{from}");
        }
        assert!(add_date(&zoned("2021-01-01T00:00:00Z", &utc), 9000, 0, 0).is_none());
        assert!(add_date(&zoned("2021-01-01T00:00:00Z", &utc), i64::MAX, i64::MAX, i64::MAX).is_none());
    }

    #[test]
    fn days_keep_the_local_time_and_durations_do_not() {
        let zone = new_york();
        let before = zoned("2026-03-07T12:00:00Z", &zone);
        assert_eq!(add_date(&before, 0, 0, 1).unwrap().hour(), 7);
        assert_eq!(add_nanos(&before, 24 * 3_600_000_000_000).unwrap().hour(), 8);
        // 02:30 does not exist on 8 March; Go answers with the offset before the change at 01:30.
        let skipped = add_date(&zoned("2026-03-07T07:30:00Z", &zone), 0, 0, 1).unwrap();
        assert_eq!(
            (skipped.hour(), skipped.timestamp().to_string().as_str()),
            (1, "2026-03-08T06:30:00Z")
        );
    }

    #[test]
    fn periods() {
        let period = Period {
            months: 1,
            time: GoDuration::from_secs(5),
            ..Period::default()
        };
        let later = add_period(&zoned("2026-01-01T00:00:00Z", &TimeZone::UTC), &period).unwrap();
        assert_eq!(later.timestamp().to_string(), "2026-02-01T00:00:05Z");
    }
}
