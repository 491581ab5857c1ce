//! Metadata of `pubsub.rabbitmq` besides the connection's (components-contrib `pubsub/rabbitmq/metadata.go`).

use std::time::Duration;

use lapin::ExchangeKind;
use outrigger_component::{Error, Metadata, Properties};
use outrigger_types::{duration::GoDuration, is_truthy};

use crate::connection::{Settings, invalid};

/// Unacknowledged messages of a subscription where `prefetchCount` sets no number.
const PREFETCH: u16 = 256;

/// The component's metadata.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) connection: Settings,
    pub(super) exchange_kind: ExchangeKind,
    pub(super) durable: bool,
    pub(super) delete_when_unused: bool,
    pub(super) dead_letter: bool,
    pub(super) max_len: Option<i64>,
    pub(super) max_len_bytes: Option<i64>,
    pub(super) ttl: Option<Duration>,
    /// 0 or 1 for transient, 2 for persistent.
    pub(super) delivery_mode: u8,
    pub(super) auto_ack: bool,
    pub(super) requeue: bool,
    pub(super) prefetch: u16,
    /// Whether one message is handled after the other.
    pub(super) single: bool,
    pub(super) confirm: bool,
    pub(super) properties_to_metadata: bool,
}

impl Config {
    pub(super) fn parse(properties: &Properties) -> Result<Self, Error> {
        let switch = |name: &str, default: bool| properties.non_empty(name).map_or(default, is_truthy);
        let bound = |name: &str| {
            let number = properties.number::<i64>(name)?;
            Ok::<_, Error>(number.filter(|number| *number > 0))
        };
        let delivery_mode = properties.number::<u8>("deliveryMode")?.unwrap_or(0);
        if delivery_mode > 2 {
            return Err(invalid(
                "invalid RabbitMQ delivery mode, accepted values are between 0 and 2",
            ));
        }
        let prefetch = properties.number::<u8>("prefetchCount")?.unwrap_or(0);
        Ok(Self {
            connection: Settings::parse(properties)?,
            exchange_kind: exchange_kind(properties.non_empty("exchangeKind").unwrap_or("fanout"))?,
            durable: switch("durable", true),
            delete_when_unused: switch("deletedWhenUnused", true),
            dead_letter: switch("enableDeadLetter", false),
            max_len: bound("maxLen")?,
            max_len_bytes: bound("maxLenBytes")?,
            ttl: ttl_of(
                properties
                    .non_empty("ttl")
                    .or(properties.non_empty("ttlInSeconds")),
            )
            .map_err(|error| invalid(format!("parse RabbitMQ ttl metadata with error: {error}")))?,
            delivery_mode,
            auto_ack: switch("autoAck", false),
            requeue: switch("requeueInFailure", false),
            prefetch: if prefetch == 0 { PREFETCH } else { prefetch.into() },
            single: single(properties)?,
            confirm: switch("publisherConfirm", true),
            properties_to_metadata: switch("publishMessagePropertiesToMetadata", false),
        })
    }
}

fn exchange_kind(text: &str) -> Result<ExchangeKind, Error> {
    match text {
        "fanout" => Ok(ExchangeKind::Fanout),
        "topic" => Ok(ExchangeKind::Topic),
        "direct" => Ok(ExchangeKind::Direct),
        "headers" => Ok(ExchangeKind::Headers),
        other => Err(invalid(format!("invalid RabbitMQ exchange kind {other}"))),
    }
}

fn single(properties: &Properties) -> Result<bool, Error> {
    for name in ["concurrencyMode", "concurrency"] {
        match properties.non_empty(name) {
            None => {}
            Some("single") => return Ok(true),
            Some("parallel") => return Ok(false),
            Some(other) => return Err(Error::configuration(format!("invalid {name} {other}"))),
        }
    }
    Ok(false)
}

/// The time to live a message asks for (components-contrib `metadata.TryGetTTL`).
pub(super) fn message_ttl(metadata: &Metadata) -> Result<Option<Duration>, String> {
    ttl_of(find(metadata, "ttl").or_else(|| find(metadata, "ttlInSeconds")))
}

fn ttl_of(text: Option<&str>) -> Result<Option<Duration>, String> {
    let Some(text) = text else { return Ok(None) };
    if let Ok(duration) = GoDuration::parse(text) {
        // Below zero counts as zero.
        return Ok(Some(duration.to_std().unwrap_or_default()));
    }
    match text.parse::<i64>() {
        Ok(seconds @ 1..) => Ok(Some(Duration::from_secs(seconds.unsigned_abs()))),
        Ok(seconds) => Err(format!(
            "ttl value must be higher than zero: actual is '{seconds}'"
        )),
        Err(_) => Err(format!("ttl value must be a valid integer: actual is '{text}'")),
    }
}

/// A value of metadata that is not empty, by exact name first, then without case.
pub(super) fn find<'a>(metadata: &'a Metadata, name: &str) -> Option<&'a str> {
    let exact = metadata.get(name).filter(|value| !value.is_empty());
    exact
        .or_else(|| {
            metadata
                .iter()
                .find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty())
                .map(|(_, value)| value)
        })
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Config, Error> {
        Config::parse(&Properties::from_pairs(pairs.iter().copied()))
    }

    #[test]
    fn defaults_are_upstreams_but_for_the_confirm() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.exchange_kind, ExchangeKind::Fanout);
        assert!(config.durable && config.delete_when_unused && config.confirm);
        assert!(!config.auto_ack && !config.requeue && !config.single && !config.dead_letter);
        assert_eq!(
            (config.delivery_mode, config.prefetch, config.ttl),
            (0, 256, None)
        );
        assert!(!parse(&[("publisherConfirm", "false")]).unwrap().confirm);
        assert!(parse(&[("concurrency", "single")]).unwrap().single);
    }

    #[test]
    fn times_to_live_are_durations_or_seconds() {
        let ttl = |text: &str| ttl_of(Some(text));
        assert_eq!(ttl("10"), Ok(Some(Duration::from_secs(10))));
        assert_eq!(ttl("1500ms"), Ok(Some(Duration::from_millis(1500))));
        assert_eq!(ttl("-1s"), Ok(Some(Duration::ZERO)));
        // A duration without unit is none, but for zero.
        assert_eq!(ttl("0"), Ok(Some(Duration::ZERO)));
        assert!(ttl("-1").is_err() && ttl("soon").is_err());
    }

    #[test]
    fn what_is_wrong_is_refused_in_upstreams_words() {
        for (name, value, text) in [
            (
                "deliveryMode",
                "3",
                "invalid RabbitMQ delivery mode, accepted values are between 0 and 2",
            ),
            ("exchangeKind", "odd", "invalid RabbitMQ exchange kind odd"),
            ("concurrencyMode", "many", "invalid concurrencyMode many"),
            (
                "ttlInSeconds",
                "-2",
                "parse RabbitMQ ttl metadata with error: ttl value must be higher",
            ),
            ("prefetchCount", "300", "prefetchCount"),
            ("maxLen", "x", "maxLen"),
        ] {
            let error = parse(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
