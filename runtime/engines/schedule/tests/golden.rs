//! Answers of kit's `cron` and Go's `time`, recorded with Go 1.26: zone, expression, second and nanosecond asked
//! about, next second (`-` for never), then years, months and days added to the same time and the second they give.

use jiff::{
    Timestamp, Zoned,
    tz::{TimeZone, TimeZoneDatabase},
};
use outrigger_engine_schedule::{
    calendar::add_date,
    cron::{Parser, Seconds},
};

fn second(time: &Zoned) -> String {
    time.timestamp()
        .as_nanosecond()
        .div_euclid(1_000_000_000)
        .to_string()
}

#[test]
fn as_go_answers() {
    let parser = Parser::new(Seconds::Optional, TimeZoneDatabase::none());
    let mut seen = 0;
    for line in include_str!("golden/cron.txt").lines() {
        let [zone, expression, at, nanos, next, years, months, days, added] =
            line.split('|').collect::<Vec<_>>().try_into().unwrap();
        // Machines without zone files still check what is in UTC.
        let Ok(zone) = TimeZone::get(zone) else { continue };
        let from = Timestamp::new(at.parse().unwrap(), nanos.parse().unwrap())
            .unwrap()
            .to_zoned(zone);
        let answer = parser.parse(expression).unwrap().next(&from);
        assert_eq!(
            answer.as_ref().map_or_else(|| "-".to_owned(), second),
            next,
            "{line}"
        );
        let number = |text: &str| text.parse().unwrap();
        let later = add_date(&from, number(years), number(months), number(days)).unwrap();
        assert_eq!(second(&later), added, "{line}");
        seen += 1;
    }
    assert!(seen >= 50);
}
