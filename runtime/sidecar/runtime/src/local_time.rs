//! The machine's local time.

use jiff::tz::TimeZone;

/// What most systems have in place of `TZ`.
const LOCALTIME: &str = "/etc/localtime";

/// The zone of local time. Where `TZ` says nothing the system's file is read by itself: to learn its name, as
/// [`TimeZone::system`] does, all folders of the zone database are listed, three milliseconds of a start of twenty.
pub(crate) fn zone() -> TimeZone {
    if std::env::var_os("TZ").is_none()
        && let Ok(data) = std::fs::read(LOCALTIME)
        && let Ok(zone) = TimeZone::tzif("local", &data)
    {
        return zone;
    }
    TimeZone::system()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    #[test]
    fn agrees_with_the_system() {
        let now = Timestamp::now();
        assert_eq!(
            super::zone().to_offset(now),
            jiff::tz::TimeZone::system().to_offset(now)
        );
    }
}
