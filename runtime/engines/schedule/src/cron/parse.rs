//! Reading expressions.

use jiff::tz::{TimeZone, TimeZoneDatabase};
use outrigger_types::GoDuration;

use super::{STAR, Schedule, Spec};

/// An expression that cannot be read; the texts are kit's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Nothing is written.
    #[error("empty spec string")]
    Empty,
    /// The zone is unknown, or no expression follows it.
    #[error("provided bad location {zone}: unknown time zone {zone}")]
    Zone {
        /// Its name.
        zone: String,
    },
    /// Too many or too few fields.
    #[error("expected {expected} fields, found {found}: [{fields}]")]
    Fields {
        /// `exactly 6` or `5 to 6`.
        expected: &'static str,
        /// How many there are.
        found: usize,
        /// The fields.
        fields: String,
    },
    /// A field that is not what it should be.
    #[error("{0}")]
    Field(String),
    /// `@every` without a duration.
    #[error("failed to parse duration {descriptor}: {reason}")]
    Every {
        /// The whole descriptor.
        descriptor: String,
        /// What is wrong with the duration.
        reason: String,
    },
    /// An `@` word that means nothing.
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
}

/// Whether expressions begin with seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seconds {
    /// Six fields, as the scheduler wants them.
    Required,
    /// Six or five fields, as `bindings.cron` takes them.
    Optional,
    /// Five fields, as crontab has them.
    Absent,
}

/// Reads expressions.
#[derive(Debug, Clone)]
pub struct Parser {
    seconds: Seconds,
    zones: TimeZoneDatabase,
}

struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const SECONDS: Bounds = Bounds {
    min: 0,
    max: 59,
    names: &[],
};
const MINUTES: Bounds = Bounds {
    min: 0,
    max: 59,
    names: &[],
};
const HOURS: Bounds = Bounds {
    min: 0,
    max: 23,
    names: &[],
};
const DAYS_OF_MONTH: Bounds = Bounds {
    min: 1,
    max: 31,
    names: &[],
};
const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const DAYS_OF_WEEK: Bounds = Bounds {
    min: 0,
    max: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Parser {
    /// A parser that looks zones up here; the caller opens the database.
    #[must_use]
    pub const fn new(seconds: Seconds, zones: TimeZoneDatabase) -> Self {
        Self { seconds, zones }
    }

    /// Reads an expression: five or six fields or a descriptor (`@hourly`, `@every 1h30m`), perhaps after
    /// `CRON_TZ=<zone> ` or `TZ=<zone> `.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(&self, text: &str) -> Result<Schedule, CronError> {
        if text.is_empty() {
            return Err(CronError::Empty);
        }
        let mut rest = text;
        let mut zone = None;
        if let Some(named) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
            let (name, expression) = named.split_once(' ').ok_or_else(|| CronError::Zone {
                zone: named.to_owned(),
            })?;
            zone = self.zone(name)?;
            rest = expression.trim();
        }
        if rest.starts_with('@') {
            return descriptor(rest, zone);
        }
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let (expected, counts) = match self.seconds {
            Seconds::Required => ("exactly 6", 6..=6),
            Seconds::Optional => ("5 to 6", 5..=6),
            Seconds::Absent => ("exactly 5", 5..=5),
        };
        if !counts.contains(&fields.len()) {
            return Err(CronError::Fields {
                expected,
                found: fields.len(),
                fields: fields.join(" "),
            });
        }
        let (second, fields) = if fields.len() == 6 {
            (fields[0], &fields[1..])
        } else {
            ("0", &fields[..])
        };
        Ok(Schedule::Spec(Box::new(Spec {
            second: field(second, &SECONDS)?,
            minute: field(fields[0], &MINUTES)?,
            hour: field(fields[1], &HOURS)?,
            day_of_month: field(fields[2], &DAYS_OF_MONTH)?,
            month: field(fields[3], &MONTHS)?,
            day_of_week: field(fields[4], &DAYS_OF_WEEK)?,
            zone,
        })))
    }

    /// `None` for local time.
    fn zone(&self, name: &str) -> Result<Option<TimeZone>, CronError> {
        match name {
            "" | "UTC" => Ok(Some(TimeZone::UTC)),
            "Local" => Ok(None),
            _ => self.zones.get(name).map(Some).map_err(|_| CronError::Zone {
                zone: name.to_owned(),
            }),
        }
    }
}

fn descriptor(text: &str, zone: Option<TimeZone>) -> Result<Schedule, CronError> {
    if let Some(period) = text.strip_prefix("@every ") {
        return GoDuration::parse(period)
            .map(Schedule::Every)
            .map_err(|error| CronError::Every {
                descriptor: text.to_owned(),
                reason: error.to_string(),
            });
    }
    let first = |bounds: &Bounds| 1_u64 << bounds.min;
    let all = |bounds: &Bounds| bits(bounds.min, bounds.max, 1) | STAR;
    let (hour, day_of_month, month, day_of_week) = match text {
        "@yearly" | "@annually" => (
            first(&HOURS),
            first(&DAYS_OF_MONTH),
            first(&MONTHS),
            all(&DAYS_OF_WEEK),
        ),
        "@monthly" => (
            first(&HOURS),
            first(&DAYS_OF_MONTH),
            all(&MONTHS),
            all(&DAYS_OF_WEEK),
        ),
        "@weekly" => (
            first(&HOURS),
            all(&DAYS_OF_MONTH),
            all(&MONTHS),
            first(&DAYS_OF_WEEK),
        ),
        "@daily" | "@midnight" => (
            first(&HOURS),
            all(&DAYS_OF_MONTH),
            all(&MONTHS),
            all(&DAYS_OF_WEEK),
        ),
        "@hourly" => (all(&HOURS), all(&DAYS_OF_MONTH), all(&MONTHS), all(&DAYS_OF_WEEK)),
        _ => return Err(CronError::Descriptor(text.to_owned())),
    };
    Ok(Schedule::Spec(Box::new(Spec {
        second: 1,
        minute: 1,
        hour,
        day_of_month,
        month,
        day_of_week,
        zone,
    })))
}

/// A comma separated list; empty items are passed over.
fn field(text: &str, bounds: &Bounds) -> Result<u64, CronError> {
    text.split(',')
        .filter(|range| !range.is_empty())
        .try_fold(0, |bits, expression| Ok(bits | range(expression, bounds)?))
}

/// `number`, `number-number`, `*` or `?`, each perhaps with `/step`.
fn range(text: &str, bounds: &Bounds) -> Result<u64, CronError> {
    let error = |message: String| Err(CronError::Field(message));
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let (start, mut end, mut star) = match ends[..] {
        ["*" | "?", ..] => (bounds.min, bounds.max, STAR),
        [only] => {
            let value = value(only, bounds)?;
            (value, value, 0)
        }
        [low, high] => (value(low, bounds)?, value(high, bounds)?, 0),
        _ => return error(format!("too many hyphens: {text}")),
    };
    let step = match parts[..] {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            // A single number with a step runs to the end.
            if ends.len() == 1 {
                end = bounds.max;
            }
            if step > 1 {
                star = 0;
            }
            step
        }
        _ => return error(format!("too many slashes: {text}")),
    };
    let (min, max) = (bounds.min, bounds.max);
    if start < min {
        return error(format!(
            "beginning of range ({start}) below minimum ({min}): {text}"
        ));
    }
    if end > max {
        return error(format!("end of range ({end}) above maximum ({max}): {text}"));
    }
    if start > end {
        return error(format!(
            "beginning of range ({start}) beyond end of range ({end}): {text}"
        ));
    }
    if step == 0 {
        return error(format!("step of range should be a positive number: {text}"));
    }
    Ok(bits(start, end, step) | star)
}

fn value(text: &str, bounds: &Bounds) -> Result<u32, CronError> {
    if let Some(index) = bounds
        .names
        .iter()
        .position(|name| name.eq_ignore_ascii_case(text))
    {
        return Ok(bounds.min + u32::try_from(index).unwrap_or(u32::MAX));
    }
    number(text)
}

fn number(text: &str) -> Result<u32, CronError> {
    let value: i64 = text.parse().map_err(|error: std::num::ParseIntError| {
        let reason = match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        CronError::Field(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {reason}"
        ))
    })?;
    if value < 0 {
        return Err(CronError::Field(format!(
            "negative number ({value}) not allowed: {text}"
        )));
    }
    // Larger ones are out of every field's bounds, and a step that large has the same effect.
    Ok(u32::try_from(value).unwrap_or(u32::MAX))
}

/// Bits from `min` to `max`, both at most 59.
fn bits(min: u32, max: u32, step: u32) -> u64 {
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    (min..=max).step_by(step).fold(0, |bits, bit| bits | 1 << bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parser(seconds: Seconds) -> Parser {
        Parser::new(seconds, TimeZoneDatabase::none())
    }

    fn spec(text: &str) -> Spec {
        match parser(Seconds::Required).parse(text) {
            Ok(Schedule::Spec(spec)) => *spec,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn fields() {
        assert_eq!(spec("5 * * * * *").second, 1 << 5);
        assert_eq!(spec("0-2 * * * * *").second, 0b111);
        assert_eq!(
            spec("1-7/3,59 * * * * *").second,
            1 << 1 | 1 << 4 | 1 << 7 | 1 << 59
        );
        assert_eq!(spec("50/4 * * * * *").second, 1 << 50 | 1 << 54 | 1 << 58);
        assert_eq!(
            spec("*/30 * * * * *").second,
            1 | 1 << 30,
            "a step takes the star away"
        );
        assert_eq!(spec("*/1 * * * * *").second & STAR, STAR);
        assert_eq!(spec("* * * ? * *").day_of_month & STAR, STAR);
        assert_eq!(
            spec("* * * * JAN-mar,Dec Mon").month,
            1 << 1 | 1 << 2 | 1 << 3 | 1 << 12
        );
        assert_eq!(spec("* * * * * sun,6").day_of_week, 1 | 1 << 6);
        assert_eq!(spec("+5 , * * * *").second, 1 << 5);
    }

    #[test]
    fn optional_seconds() {
        assert_eq!(
            parser(Seconds::Optional).parse("5 * * * *"),
            parser(Seconds::Required).parse("0 5 * * * *")
        );
        assert_eq!(
            parser(Seconds::Absent).parse("5 * * * *"),
            parser(Seconds::Required).parse("0 5 * * * *")
        );
        assert!(parser(Seconds::Optional).parse("1 5 * * * *").is_ok());
    }

    #[test]
    fn zones() {
        for text in [
            "TZ=UTC 0 0 0 * * *",
            "CRON_TZ=UTC  0 0 0 * * *",
            "TZ= 0 0 0 * * *",
        ] {
            assert_eq!(spec(text).zone, Some(TimeZone::UTC), "{text}");
        }
        assert_eq!(spec("TZ=Local 0 0 0 * * *").zone, None);
        assert!(parser(Seconds::Required).parse("TZ=UTC @every 5s").is_ok());
    }

    #[test]
    fn mistakes_in_kits_words() {
        for (text, error) in [
            ("", "empty spec string"),
            ("* * * * *", "expected exactly 6 fields, found 5: [* * * * *]"),
            (
                "TZ=Nowhere/Land * * * * * *",
                "provided bad location Nowhere/Land: unknown time zone Nowhere/Land",
            ),
            ("TZ=UTC", "provided bad location UTC: unknown time zone UTC"),
            ("60 * * * * *", "end of range (60) above maximum (59): 60"),
            ("* * * 0 * *", "beginning of range (0) below minimum (1): 0"),
            (
                "5-3 * * * * *",
                "beginning of range (5) beyond end of range (3): 5-3",
            ),
            ("*/0 * * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * * *", "too many slashes: 1/2/3"),
            (
                "x * * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("*/-1 * * * * *", "negative number (-1) not allowed: -1"),
            ("* * * * * 7", "end of range (7) above maximum (6): 7"),
            (
                "@every 1x",
                "failed to parse duration @every 1x: time: unknown unit \"x\" in duration \"1x\"",
            ),
            ("@sometimes", "unrecognized descriptor: @sometimes"),
            ("@every", "unrecognized descriptor: @every"),
        ] {
            assert_eq!(
                parser(Seconds::Required).parse(text).unwrap_err().to_string(),
                error,
                "{text}"
            );
        }
        assert_eq!(
            parser(Seconds::Optional)
                .parse("* * * *")
                .unwrap_err()
                .to_string(),
            "expected 5 to 6 fields, found 4: [* * * *]"
        );
    }
}
