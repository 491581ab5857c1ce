//! Metadata of `pubsub.redis`.

use std::time::Duration;

use outrigger_component::{Error, Metadata, Properties};
use outrigger_types::GoDuration;

use crate::settings::{Purpose, Settings, milliseconds};

/// More handlers at once than this are a mistake.
const MAX_CONCURRENCY: usize = 10_000;
/// More entries read ahead than this are a mistake.
const MAX_DEPTH: usize = 100_000;

/// Checked metadata.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) settings: Settings,
    pub(super) options: Options,
}

/// How entries are kept and delivered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    /// How long an entry may be pending before it is delivered again; zero: never again.
    pub(super) processing_timeout: Duration,
    /// How often pending entries are looked at; zero: never.
    pub(super) redeliver_interval: Duration,
    /// Entries a subscription reads ahead of its handlers.
    pub(super) queue_depth: usize,
    /// Handlers of the component at once.
    pub(super) concurrency: usize,
    /// A stream keeps about this many entries; zero: all.
    pub(super) max_len: u64,
    /// A stream keeps entries for about this long; zero: for ever.
    pub(super) stream_ttl: Duration,
}

impl Config {
    pub(super) fn parse(properties: &Properties) -> Result<Self, Error> {
        let settings = Settings::parse(properties, Purpose::PubSub)?;
        settings.dialer()?;
        let options = Options {
            processing_timeout: milliseconds(properties, "processingTimeout", Duration::from_secs(60))?,
            redeliver_interval: milliseconds(properties, "redeliverInterval", Duration::from_secs(15))?,
            queue_depth: bounded(properties, "queueDepth", 0, MAX_DEPTH)?
                .unwrap_or(100)
                .max(1),
            concurrency: bounded(properties, "concurrency", 1, MAX_CONCURRENCY)?.unwrap_or(10),
            max_len: properties
                .number::<i64>("maxLenApprox")?
                .and_then(|length| u64::try_from(length).ok())
                .unwrap_or(0),
            stream_ttl: stream_ttl(properties)?,
        };
        if options.max_len > 0 && !options.stream_ttl.is_zero() {
            tracing::warn!(
                "redis streams: maxLenApprox and streamTTL cannot be used together; only one stream trimming \
                 strategy can be active at a time."
            );
        }
        Ok(Self { settings, options })
    }
}

impl Options {
    pub(super) fn redelivers(&self) -> bool {
        !self.processing_timeout.is_zero() && !self.redeliver_interval.is_zero()
    }

    /// Whether a subscription's own metadata asks for one message at a time (components-contrib
    /// `pubsub/concurrency.go`).
    pub(super) fn is_single(metadata: &Metadata) -> Result<bool, Error> {
        match metadata.get("concurrencyMode").map_or("", String::as_str) {
            "" | "parallel" => Ok(false),
            "single" => Ok(true),
            other => Err(Error::invalid(format!("invalid concurrencyMode {other}"))),
        }
    }
}

/// Bare numbers are seconds here, as the decoder upstream uses reads them.
fn stream_ttl(properties: &Properties) -> Result<Duration, Error> {
    let Some(text) = properties.non_empty("streamTTL") else {
        return Ok(Duration::ZERO);
    };
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    GoDuration::parse(text)
        .map(GoDuration::to_std_or_zero)
        .map_err(|error| Error::configuration(format!("metadata field \"streamTTL\": {error}")))
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
        Config::parse(&Properties::from_pairs(pairs.iter().copied())).map(|config| config.options)
    }

    #[test]
    fn defaults_are_upstreams() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.processing_timeout, Duration::from_secs(60));
        assert_eq!(options.redeliver_interval, Duration::from_secs(15));
        assert_eq!((options.queue_depth, options.concurrency), (100, 10));
        assert!(options.redelivers());
    }

    #[test]
    fn bare_numbers_are_milliseconds_but_for_the_streams_life() {
        let options = parse(&[
            ("processingTimeout", "1500"),
            ("redeliverInterval", "0"),
            ("streamTTL", "90"),
        ])
        .unwrap();
        assert_eq!(options.processing_timeout, Duration::from_millis(1500));
        assert!(!options.redelivers());
        assert_eq!(options.stream_ttl, Duration::from_secs(90));
        assert_eq!(
            parse(&[("streamTTL", "2m")]).unwrap().stream_ttl,
            Duration::from_secs(120)
        );
    }

    #[test]
    fn mistakes_are_refused() {
        for wrong in [
            ("processingTimeout", "soon"),
            ("concurrency", "0"),
            ("queueDepth", "-1"),
            ("maxLenApprox", "many"),
            ("streamTTL", "x"),
        ] {
            assert!(parse(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}
