//! CloudEvents attributes that a topic implies (K3, F8).

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use crate::{Lane, Name, Topic};

/// Which clock an event's time is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The world's.
    Wall,
    /// A replayed market's.
    Historical,
}

/// The attributes of an event: those of CloudEvents 1.0 and the platform's extensions.
///
/// Logic goes by `eventtime`, which is `time`; `walltime` is when it was published, for tracing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// `ce-id`.
    pub id: Uuid,
    /// `ce-source`, of the service and not of one of its instances.
    pub source: String,
    /// `ce-type`.
    pub kind: String,
    /// `ce-subject`: `<entity>/<id>`, where there is an entity with an id.
    pub subject: Option<String>,
    /// `ce-time`.
    pub time: Timestamp,
    /// Extensions by their names.
    pub extensions: BTreeMap<&'static str, String>,
}

impl Envelope {
    /// The envelope of an event that a service publishes. `subject` names an entity where the topic does not.
    #[must_use]
    pub fn new(topic: &Topic, service: &Name, id: Uuid, subject: Option<String>, time: Timestamp) -> Self {
        let mut extensions = BTreeMap::new();
        if is_domain(topic) {
            extensions.insert("eventtime", time.to_string());
        }
        match topic {
            Topic::Market { lane, venue, .. } => {
                extensions.insert("exchange", venue.to_string());
                match lane {
                    Lane::Act => extensions.insert("marketlane", "act".to_owned()),
                    Lane::Hyp(selector) => {
                        extensions.insert("marketselector", selector.to_string());
                        extensions.insert("marketlane", "hyp".to_owned())
                    }
                };
            }
            _ => {
                if let Some(scenario) = topic.scenario() {
                    extensions.insert("scenarioid", scenario.to_string());
                }
            }
        }
        Self {
            id,
            source: format!("urn:com.virtufin.{service}"),
            kind: kind(topic),
            subject: subject.or_else(|| subject_of(topic)),
            time,
            extensions,
        }
    }

    /// Which clock `time` is of, and when it was published. Infrastructure events carry neither.
    #[must_use]
    pub fn on(mut self, clock: Clock, wall: Timestamp) -> Self {
        if self.extensions.contains_key("eventtime") {
            let name = match clock {
                Clock::Wall => "wall",
                Clock::Historical => "historical",
            };
            self.extensions.insert("clocktype", name.to_owned());
            self.extensions.insert("walltime", wall.to_string());
        }
        self
    }

    /// What it answers or follows from. The one extension that infrastructure events carry too.
    #[must_use]
    pub fn correlated(mut self, correlation: Uuid) -> Self {
        self.extensions.insert("correlationid", correlation.to_string());
        self
    }

    /// The run it is of, where runs go on side by side. It is never a part of the topic.
    #[must_use]
    pub fn in_run(mut self, run: Uuid) -> Self {
        if self.extensions.contains_key("eventtime") {
            self.extensions.insert("runid", run.to_string());
        }
        self
    }

    /// As publish metadata (F8): CloudEvents attributes behind `ce-`.
    #[must_use]
    pub fn to_metadata(&self) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::from([
            ("ce-id".to_owned(), self.id.to_string()),
            ("ce-source".to_owned(), self.source.clone()),
            ("ce-type".to_owned(), self.kind.clone()),
            ("ce-time".to_owned(), self.time.to_string()),
            ("ce-specversion".to_owned(), "1.0".to_owned()),
            ("ce-datacontenttype".to_owned(), "application/json".to_owned()),
        ]);
        metadata.extend(
            self.subject
                .clone()
                .map(|subject| ("ce-subject".to_owned(), subject)),
        );
        for (name, value) in &self.extensions {
            metadata.insert(format!("ce-{name}"), value.clone());
        }
        metadata
    }
}

fn is_domain(topic: &Topic) -> bool {
    !matches!(topic, Topic::Infrastructure { .. } | Topic::StateChanges)
}

/// `ce-type` of a topic's events. What follows in an infrastructure topic's events is the publisher's to add.
fn kind(topic: &Topic) -> String {
    match topic {
        Topic::Market {
            venue,
            entity,
            event,
            interval,
            ..
        } => {
            let interval = interval.as_ref().map(|interval| format!(".{interval}"));
            format!(
                "com.virtufin.exchange.{venue}.{entity}.{event}{}",
                interval.unwrap_or_default()
            )
        }
        Topic::Trading { entity, event, .. } => format!("com.virtufin.trading.{}.{event}", entity.name()),
        Topic::Position {
            symbol,
            event,
            detail,
            ..
        } => {
            let portfolio = if symbol.as_str() == "portfolio" {
                "portfolio."
            } else {
                ""
            };
            let detail = detail.as_ref().map(|detail| format!(".{detail}"));
            format!(
                "com.virtufin.position.{portfolio}{event}{}",
                detail.unwrap_or_default()
            )
        }
        Topic::Risk { metric, event, .. } => format!("com.virtufin.risk.{metric}.{event}"),
        Topic::Pnl { metric, event, .. } => format!("com.virtufin.pnl.{metric}.{event}"),
        Topic::Infrastructure { .. } | Topic::StateChanges => format!("com.virtufin.{topic}"),
    }
}

fn subject_of(topic: &Topic) -> Option<String> {
    match topic {
        Topic::Market { entity, id, .. } => id.as_ref().map(|id| format!("{entity}/{id}")),
        Topic::Trading { entity, id, .. } => Some(format!("{}/{id}", entity.name())),
        Topic::Position { symbol, .. } => Some(format!("position/{symbol}")),
        Topic::Risk { .. } | Topic::Pnl { .. } | Topic::Infrastructure { .. } | Topic::StateChanges => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(topic: &str) -> Envelope {
        let time = "2026-01-02T03:04:05Z".parse().unwrap();
        let service = Name::new("connector").unwrap();
        Envelope::new(&topic.parse().unwrap(), &service, Uuid::nil(), None, time)
    }

    #[test]
    fn a_topic_gives_type_and_subject() {
        for (topic, kind, subject) in [
            (
                "act.exchange.binance.ticker.update.BTCUSD",
                "com.virtufin.exchange.binance.ticker.update",
                Some("ticker/BTCUSD"),
            ),
            (
                "hyp.S1.exchange.binance.ohlcv.candle.1m",
                "com.virtufin.exchange.binance.ohlcv.candle.1m",
                None,
            ),
            (
                "sc.S1.trading.order.filled.17",
                "com.virtufin.trading.order.filled",
                Some("order/17"),
            ),
            (
                "sc.S1.position.AAPL.liquidation.warning",
                "com.virtufin.position.liquidation.warning",
                Some("position/AAPL"),
            ),
            (
                "sc.S1.position.portfolio.snapshot",
                "com.virtufin.position.portfolio.snapshot",
                Some("position/portfolio"),
            ),
            ("sc.S1.risk.limit.breach", "com.virtufin.risk.limit.breach", None),
            (
                "sc.S1.pnl.realized.update",
                "com.virtufin.pnl.realized.update",
                None,
            ),
            (
                "workmanager.lifecycle",
                "com.virtufin.workmanager.lifecycle",
                None,
            ),
        ] {
            let envelope = envelope(topic);
            assert_eq!(
                (envelope.kind.as_str(), envelope.subject.as_deref()),
                (kind, subject),
                "{topic}"
            );
            assert_eq!(envelope.source, "urn:com.virtufin.connector");
        }
    }

    #[test]
    fn domain_events_tell_lane_clock_and_run() {
        let (run, cause) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let wall = "2026-11-22T00:00:00Z".parse().unwrap();
        let metadata = envelope("hyp.S1.exchange.binance.ticker.update")
            .on(Clock::Historical, wall)
            .correlated(cause)
            .in_run(run)
            .to_metadata();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-time", "2026-01-02T03:04:05Z"),
            ("ce-eventtime", "2026-01-02T03:04:05Z"),
            ("ce-walltime", "2026-11-22T00:00:00Z"),
            ("ce-clocktype", "historical"),
            ("ce-exchange", "binance"),
            ("ce-marketlane", "hyp"),
            ("ce-marketselector", "S1"),
            ("ce-runid", &run.to_string()),
            ("ce-correlationid", &cause.to_string()),
        ] {
            assert_eq!(metadata[name], value, "{name}");
        }
        let actual = envelope("act.exchange.binance.ticker.update");
        assert!(!actual.extensions.contains_key("marketselector"));
        assert_eq!(
            envelope("sc.LIVE.risk.exposure.update").extensions["scenarioid"],
            "LIVE"
        );
    }

    #[test]
    fn infrastructure_events_carry_a_correlation_at_most() {
        let wall = "2026-11-22T00:00:00Z".parse().unwrap();
        let envelope = envelope("workmanager.lifecycle")
            .on(Clock::Wall, wall)
            .in_run(Uuid::nil())
            .correlated(Uuid::nil());
        assert_eq!(
            envelope.extensions.keys().copied().collect::<Vec<_>>(),
            ["correlationid"]
        );
    }
}
