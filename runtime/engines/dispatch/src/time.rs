//! RFC 3339 as Go writes and reads it.

use std::fmt::Write as _;

use jiff::Timestamp;

/// The present, and how far local time is from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The instant.
    pub at: Timestamp,
    /// Seconds east of Greenwich.
    pub offset_seconds: i32,
}

impl Now {
    /// Where local time is UTC.
    #[must_use]
    pub const fn utc(at: Timestamp) -> Self {
        Self {
            at,
            offset_seconds: 0,
        }
    }

    /// Whole seconds with the local offset, as `time.Now().Format(time.RFC3339)`.
    #[must_use]
    pub fn rfc3339(&self) -> String {
        // An offset is within a day, so this can only clamp at the ends of the calendar.
        let offset = jiff::tz::Offset::from_seconds(self.offset_seconds).unwrap_or(jiff::tz::Offset::UTC);
        let local = offset.to_datetime(self.at);
        let mut text = String::with_capacity(25);
        let (date, time) = (local.date(), local.time());
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            date.year(),
            date.month(),
            date.day(),
            time.hour(),
            time.minute(),
            time.second()
        );
        match offset.seconds() {
            0 => text.push('Z'),
            seconds => {
                let minutes = seconds.unsigned_abs() / 60;
                let sign = if seconds < 0 { '-' } else { '+' };
                let _ = write!(text, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
            }
        }
        text
    }

    /// The instant after a duration, in UTC; clamps at the end of the calendar.
    #[must_use]
    pub fn utc_after(&self, duration: outrigger_types::GoDuration) -> String {
        let span = jiff::SignedDuration::from_nanos(duration.as_nanos());
        let at = self.at.checked_add(span).unwrap_or(Timestamp::MAX);
        Self::utc(at).rfc3339()
    }
}

/// Reads RFC 3339 with seconds and an offset; `None` for anything else.
pub(crate) fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    // jiff reads more dialects than Go, so the shape is checked first.
    if outrigger_types::is_rfc3339(text) {
        text.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrigger_types::GoDuration;

    #[test]
    fn writes_with_the_local_offset() {
        let at: Timestamp = "2026-08-01T23:59:58.7Z".parse().unwrap();
        assert_eq!(Now::utc(at).rfc3339(), "2026-08-01T23:59:58Z");
        assert_eq!(
            Now {
                at,
                offset_seconds: 7200
            }
            .rfc3339(),
            "2026-08-02T01:59:58+02:00"
        );
        assert_eq!(
            Now {
                at,
                offset_seconds: -12600
            }
            .rfc3339(),
            "2026-08-01T20:29:58-03:30"
        );
        let later = Now {
            at,
            offset_seconds: 7200,
        }
        .utc_after(GoDuration::from_secs(2));
        assert_eq!(later, "2026-08-02T00:00:00Z");
        assert_eq!(Now::utc(at).utc_after(GoDuration::MAX).len(), 20);
    }

    #[test]
    fn reads_only_rfc3339() {
        for text in ["2026-08-01T23:59:58Z", "2026-08-01T23:59:58.123456789+02:00"] {
            assert!(parse_rfc3339(text).is_some(), "{text}");
        }
        for text in [
            "",
            "2026-08-01",
            "2026-08-01T23:59:58",
            "2026-08-01 23:59:58Z",
            "2026-13-01T23:59:58Z",
            "20260801T235958Z",
            "2026-08-01T23:59:58Z[UTC]",
            "2026-08-01T23:59:58é",
        ] {
            assert!(parse_rfc3339(text).is_none(), "{text}");
        }
    }
}
