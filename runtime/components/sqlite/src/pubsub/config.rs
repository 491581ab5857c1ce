//! Metadata of `pubsub.sqlite`.

use std::time::Duration;

use outrigger_component::{Error, Metadata, Properties};

use crate::connection::{Defaults, Settings};

const MAX_CONCURRENCY: usize = 10_000;
/// Running groups are marked as seen three times in their life; less would not leave time for that.
const LEAST_LIFE: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

/// Checked metadata.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(super) database: Settings,
    pub(super) options: Options,
}

/// How messages are kept and delivered.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Handlers of one subscription at once.
    pub(super) concurrency: usize,
    /// Messages claimed ahead of the handlers.
    pub(super) prefetch: usize,
    /// How long a claim holds without renewal.
    pub(super) lease: Duration,
    /// Wait before the first redelivery; doubles with each refusal.
    pub(super) redeliver: Duration,
    /// The longest wait before a redelivery.
    pub(super) redeliver_max: Duration,
    /// Unfinished messages are dropped after this.
    pub(super) retention: Duration,
    /// Messages every group has finished are kept this long for groups yet to come.
    pub(super) settled_retention: Duration,
    /// Where a group begins, and how long it is kept.
    pub(super) group: GroupOptions,
    /// Publishing is refused when more bytes than this are stored.
    pub(super) max_bytes: u64,
    /// Finished messages go early when more bytes than this are stored.
    pub(super) settled_max_bytes: u64,
}

/// What is written down with a group when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct GroupOptions {
    /// Begin after the newest message, not at the oldest one kept.
    pub(super) at_end: bool,
    /// How long it is kept after its last reader; `None`: as long as messages are.
    pub(super) life: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrency: 10,
            prefetch: 10,
            lease: Duration::from_secs(30),
            redeliver: Duration::from_secs(1),
            redeliver_max: Duration::from_secs(60),
            retention: Duration::from_secs(7 * 24 * 3600),
            settled_retention: Duration::from_secs(600),
            group: GroupOptions::default(),
            max_bytes: 1024 * MIB,
            settled_max_bytes: 64 * MIB,
        }
    }
}

impl Config {
    pub(super) fn parse(properties: &Properties) -> Result<Self, Error> {
        let database = Settings::from_properties(properties, Defaults::default())?;
        let mut options = Options::default();
        if let Some(concurrency) = bounded(properties, "concurrency", 1, MAX_CONCURRENCY)? {
            options.concurrency = concurrency;
            options.prefetch = concurrency;
        }
        if let Some(prefetch) = bounded(properties, "prefetch", 0, MAX_CONCURRENCY)? {
            options.prefetch = prefetch;
        }
        for (name, field, least) in [
            ("leaseDuration", &mut options.lease, Duration::from_secs(1)),
            ("redeliverInterval", &mut options.redeliver, Duration::ZERO),
            ("redeliverMaxInterval", &mut options.redeliver_max, Duration::ZERO),
            ("messageRetention", &mut options.retention, Duration::from_secs(1)),
            ("settledRetention", &mut options.settled_retention, Duration::ZERO),
        ] {
            if let Some(value) = properties.duration(name)? {
                if value < least {
                    return Err(Error::configuration(format!(
                        "metadata field {name:?} must be at least {}s",
                        least.as_secs()
                    )));
                }
                *field = value;
            }
        }
        options.group = GroupOptions::parse(properties)?;
        options.redeliver_max = options.redeliver_max.max(options.redeliver);
        for (name, field) in [
            ("maxSizeMiB", &mut options.max_bytes),
            ("settledMaxSizeMiB", &mut options.settled_max_bytes),
        ] {
            if let Some(value) = properties.number::<u64>(name)? {
                // The count of bytes is a signed number in the database.
                *field = value
                    .checked_mul(MIB)
                    .filter(|bytes| i64::try_from(*bytes).is_ok())
                    .ok_or_else(|| Error::configuration(format!("metadata field {name:?} is too large")))?;
            }
        }
        Ok(Self { database, options })
    }
}

impl GroupOptions {
    fn parse(properties: &Properties) -> Result<Self, Error> {
        let life = properties.duration("groupRetention")?;
        if life.is_some_and(|life| life < LEAST_LIFE) {
            return Err(Error::configuration(format!(
                "metadata field \"groupRetention\" must be at least {}s",
                LEAST_LIFE.as_secs()
            )));
        }
        let at_end = match properties.non_empty("initialOffset") {
            None | Some("oldest") => false,
            Some("newest") => true,
            Some(other) => {
                return Err(Error::configuration(format!(
                    "metadata field \"initialOffset\": {other:?} is neither oldest nor newest"
                )));
            }
        };
        Ok(Self { at_end, life })
    }
}

impl Options {
    /// With what a subscription's own metadata changes: `concurrency`, or Dapr's `concurrencyMode`
    /// (components-contrib `pubsub/concurrency.go`).
    pub(super) fn for_subscription(&self, metadata: &Metadata) -> Result<Self, Error> {
        let mut options = self.clone();
        if let Some(text) = metadata.get("concurrency").filter(|text| !text.is_empty()) {
            options.concurrency = text
                .trim()
                .parse()
                .ok()
                .filter(|value| (1..=MAX_CONCURRENCY).contains(value))
                .ok_or_else(|| Error::invalid(format!("invalid concurrency {text:?}")))?;
            options.prefetch = options.concurrency;
        }
        match metadata.get("concurrencyMode").map_or("", String::as_str) {
            "" | "parallel" => {}
            "single" => {
                options.concurrency = 1;
                options.prefetch = options.prefetch.min(1);
            }
            other => return Err(Error::invalid(format!("invalid concurrencyMode {other}"))),
        }
        Ok(options)
    }

    /// How long a message waits after having been refused `attempts` times.
    pub(super) fn backoff(&self, attempts: i64) -> Duration {
        let doublings = u32::try_from(attempts.saturating_sub(1).clamp(0, 30)).unwrap_or(0);
        self.redeliver
            .saturating_mul(1 << doublings)
            .min(self.redeliver_max)
    }
}

fn bounded(properties: &Properties, name: &str, least: usize, most: usize) -> Result<Option<usize>, Error> {
    match properties.number::<usize>(name)? {
        Some(value) if !(least..=most).contains(&value) => Err(Error::configuration(format!(
            "metadata field {name:?} must be from {least} to {most}"
        ))),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Options, Error> {
        let file = ("connectionString", "pubsub.db");
        let all = std::iter::once(&file).chain(pairs).copied();
        Config::parse(&Properties::from_pairs(all)).map(|config| config.options)
    }

    #[test]
    fn prefetch_follows_concurrency() {
        assert_eq!(parse(&[]).unwrap().prefetch, 10);
        assert_eq!(parse(&[("concurrency", "3")]).unwrap().prefetch, 3);
        assert_eq!(
            parse(&[("concurrency", "3"), ("prefetch", "0")])
                .unwrap()
                .prefetch,
            0
        );
    }

    #[test]
    fn mistakes_are_refused() {
        for wrong in [
            ("concurrency", "0"),
            ("leaseDuration", "10ms"),
            ("messageRetention", "soon"),
            ("groupRetention", "1s"),
            ("initialOffset", "latest"),
            ("maxSizeMiB", "99999999999999999"),
        ] {
            assert!(parse(&[wrong]).is_err(), "{wrong:?}");
        }
        assert!(
            Config::parse(&Properties::default()).is_err(),
            "without a connection string"
        );
    }

    #[test]
    fn backoff_doubles_up_to_its_bound() {
        let options = Options::default();
        let seconds = |attempts| options.backoff(attempts).as_secs();
        assert_eq!(
            [seconds(1), seconds(2), seconds(3), seconds(7), seconds(i64::MAX)],
            [1, 2, 4, 60, 60]
        );
    }

    #[test]
    fn a_subscription_may_ask_for_one_at_a_time() {
        let options = Options::default();
        let with = |name: &str, value: &str| {
            options.for_subscription(&Metadata::from([(name.to_owned(), value.to_owned())]))
        };
        assert_eq!(with("concurrencyMode", "single").unwrap().concurrency, 1);
        assert_eq!(with("concurrency", "4").unwrap().concurrency, 4);
        assert!(with("concurrencyMode", "wild").is_err());
    }
}
