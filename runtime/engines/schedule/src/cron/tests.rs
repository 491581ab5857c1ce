use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;

use super::*;

fn parser() -> Parser {
    Parser::new(Seconds::Optional, TimeZoneDatabase::none())
}

/// A zone by its POSIX rule, so that no zone file is needed.
fn zone(rule: &str) -> TimeZone {
    TimeZone::posix(rule).unwrap()
}

/// Civil time in a zone, which jiff resolves; none of the inputs is ambiguous.
fn at(text: &str, zone: &TimeZone) -> Zoned {
    text.parse::<jiff::civil::DateTime>()
        .unwrap()
        .to_zoned(zone.clone())
        .unwrap()
}

fn next(expression: &str, from: &str, zone: &TimeZone) -> Option<String> {
    parser()
        .parse(expression)
        .unwrap()
        .next(&at(from, zone))
        .map(|time| time.datetime().to_string())
}

#[test]
fn civil_times() {
    for (from, expression, expected) in [
        ("2012-07-09T14:45:00", "0 0/15 * * * *", "2012-07-09T15:00:00"),
        ("2012-07-09T14:59:59", "0 0/15 * * * *", "2012-07-09T15:00:00"),
        ("2012-07-09T15:45:00", "0 20-35/15 * * * *", "2012-07-09T16:20:00"),
        ("2012-07-09T23:46:00", "0 */15 * * * *", "2012-07-10T00:00:00"),
        (
            "2012-07-09T23:35:51",
            "15/35 20-35/15 * * * *",
            "2012-07-10T00:20:15",
        ),
        (
            "2012-07-09T23:35:51",
            "15/35 20-35/15 1/2 * * *",
            "2012-07-10T01:20:15",
        ),
        (
            "2012-07-09T23:35:51",
            "15/35 20-35/15 10-12 * * *",
            "2012-07-10T10:20:15",
        ),
        (
            "2012-07-09T23:35:51",
            "15/35 20-35/15 1/2 */2 * *",
            "2012-07-11T01:20:15",
        ),
        (
            "2012-07-09T23:35:51",
            "15/35 20-35/15 * 9-20 Jul *",
            "2012-07-10T00:20:15",
        ),
        ("2012-07-09T23:35:00", "0 0 0 9 Apr-Oct ?", "2012-08-09T00:00:00"),
        (
            "2012-07-09T23:35:00",
            "0 0 0 */5 Apr,Aug,Oct Mon",
            "2012-08-01T00:00:00",
        ),
        ("2012-07-09T23:35:00", "0 0 0 */5 Oct Mon", "2012-10-01T00:00:00"),
        ("2012-07-09T23:35:00", "0 0 0 * Feb Mon", "2013-02-04T00:00:00"),
        ("2012-07-09T23:35:00", "0 0 0 * Feb Mon/2", "2013-02-01T00:00:00"),
        ("2012-12-31T23:59:45", "0 * * * * *", "2013-01-01T00:00:00"),
        ("2012-07-09T23:35:00", "0 0 0 29 Feb ?", "2016-02-29T00:00:00"),
        ("2012-07-09T23:35:00", "0 0 0 1 * Mon", "2012-07-16T00:00:00"),
        ("2012-07-28T23:35:00", "0 0 0 1 * Mon", "2012-07-30T00:00:00"),
        ("2012-07-31T00:00:00", "0 0 0 1 * Mon", "2012-08-01T00:00:00"),
        ("2012-07-09T14:45:00", "@hourly", "2012-07-09T15:00:00"),
        ("2012-07-09T14:45:00", "@daily", "2012-07-10T00:00:00"),
        ("2012-07-09T14:45:00", "@weekly", "2012-07-15T00:00:00"),
        ("2012-07-09T14:45:00", "@monthly", "2012-08-01T00:00:00"),
        ("2012-07-09T14:45:00", "@annually", "2013-01-01T00:00:00"),
        (
            "2012-07-09T14:45:00.25",
            "@every 1h0.5s",
            "2012-07-09T15:45:00.75",
        ),
        ("2012-07-09T14:45:00.999", "* * * * * *", "2012-07-09T14:45:01"),
        ("2012-07-09T14:45:00", "45 14 * * *", "2012-07-10T14:45:00"),
    ] {
        assert_eq!(
            next(expression, from, &TimeZone::UTC).as_deref(),
            Some(expected),
            "{expression} after {from}"
        );
    }
}

#[test]
fn never() {
    for expression in ["0 0 0 30 Feb ?", "0 0 0 31 Apr ?", ", * * * * *", "0 0 0 , * ,"] {
        assert_eq!(
            next(expression, "2012-07-09T23:35:00", &TimeZone::UTC),
            None,
            "{expression}"
        );
    }
    assert_eq!(next("0 0 0 1 1 ?", "9999-06-01T00:00:00", &TimeZone::UTC), None);
}

#[test]
fn clocks_going_forward() {
    let new_york = zone("EST5EDT,M3.2.0,M11.1.0");
    for (from, expression, expected) in [
        // Hourly: 02:00 does not exist.
        ("2012-03-11T00:00:00", "0 0 * * * ?", "2012-03-11T01:00:00"),
        ("2012-03-11T01:00:00", "0 0 * * * ?", "2012-03-11T03:00:00"),
        ("2012-03-11T03:00:00", "0 0 * * * ?", "2012-03-11T04:00:00"),
        // Nightly within the gap: not that night.
        ("2012-03-11T00:00:00", "0 30 2 11 Mar ?", "2013-03-11T02:30:00"),
        ("2012-03-10T03:00:00", "0 0 2 * * ?", "2012-03-12T02:00:00"),
        ("2012-03-10T00:00:00", "0 0 1 * * ?", "2012-03-10T01:00:00"),
        ("2012-03-10T01:00:00", "0 0 1 * * ?", "2012-03-11T01:00:00"),
        ("2012-03-11T01:00:00", "0 0 1 * * ?", "2012-03-12T01:00:00"),
    ] {
        assert_eq!(
            next(expression, from, &new_york).as_deref(),
            Some(expected),
            "{expression} after {from}"
        );
    }
}

#[test]
fn clocks_going_back() {
    let new_york = zone("EST5EDT,M3.2.0,M11.1.0");
    let hourly = parser().parse("0 0 * * * ?").unwrap();
    let mut time = at("2012-11-04T00:00:00", &new_york);
    let mut seen = Vec::new();
    for _ in 0..4 {
        time = hourly.next(&time).unwrap();
        seen.push(time.to_string()[..25].to_owned());
    }
    assert_eq!(
        seen,
        [
            "2012-11-04T01:00:00-04:00",
            "2012-11-04T01:00:00-05:00",
            "2012-11-04T02:00:00-05:00",
            "2012-11-04T03:00:00-05:00"
        ],
        "the repeated hour fires twice, as in Go"
    );
}

#[test]
fn midnight_that_does_not_exist() {
    // São Paulo's old rule: at midnight of the third Sunday of October clocks jump to 01:00.
    let sao_paulo = zone("<-03>3<-02>,M10.3.0/0,M2.3.0/0");
    assert_eq!(
        next("0 0 9 21 Oct ?", "2018-10-01T00:00:00", &sao_paulo).as_deref(),
        Some("2018-10-21T09:00:00")
    );
    assert_eq!(
        next("0 0 9 22 Oct ?", "2018-10-01T00:00:00", &sao_paulo).as_deref(),
        Some("2018-10-22T09:00:00")
    );
}

#[test]
fn zones_of_expressions() {
    let spec = |zone: TimeZone| match parser().parse("0 30 8 * * *").unwrap() {
        Schedule::Spec(spec) => Schedule::Spec(Box::new(Spec {
            zone: Some(zone),
            ..*spec
        })),
        every @ Schedule::Every(_) => every,
    };
    let from = at("2026-01-01T12:00:00", &TimeZone::UTC);
    let next = spec(zone("EST5EDT,M3.2.0,M11.1.0")).next(&from).unwrap();
    assert_eq!(
        next.datetime().to_string(),
        "2026-01-01T13:30:00",
        "answered in the zone of the question"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn next_is_later_and_fits(
        second in 0..60i8, minute in 0..60i8, hour in 0..24i8, start in 0..4_000_000_000i64,
        rule in prop_oneof![Just("EST5EDT,M3.2.0,M11.1.0"), Just("CET-1CEST,M3.5.0,M10.5.0/3"), Just("<+0545>-5:45"), Just("UTC0")],
    ) {
        let zone = zone(rule);
        let from = Timestamp::from_second(start).unwrap().to_zoned(zone);
        let schedule = parser().parse(&format!("{second} {minute} {hour} * * *")).unwrap();
        let next = schedule.next(&from).unwrap();
        prop_assert!(next > from);
        prop_assert_eq!((next.second(), next.minute(), next.hour()), (second, minute, hour));
        prop_assert!(next.timestamp().as_second() - start <= 49 * 3600);
    }

    #[test]
    fn parsing_never_panics(text in "[@a-zA-Z=*/?,0-9 \\-]{0,30}") {
        if let Ok(schedule) = parser().parse(&text) {
            let _ = schedule.next(&at("2026-01-01T00:00:00", &TimeZone::UTC));
        }
    }
}
