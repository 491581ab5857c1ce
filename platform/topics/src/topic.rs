//! The grammar (R6).

use std::{fmt, str::FromStr};

use crate::{Id, Name, ScenarioId};

/// Longest name; brokers have bounds, this one suits all.
const LONGEST: usize = 512;

/// Why a text is no topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// `act.<selector>.exchange…`
    #[error("act topics MUST NOT carry a selector")]
    ActWithSelector,
    /// `hyp.exchange…`
    #[error("hyp topics MUST carry a selector")]
    HypWithoutSelector,
    /// No rule makes it.
    #[error("no pattern matches {0:?}")]
    NoPattern(String),
    /// A piece has characters it may not have, or too many.
    #[error("{0:?} cannot be a part of a topic")]
    Segment(String),
}

/// Which market an event is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The actual one.
    Act,
    /// A hypothetical one, by its selector.
    Hyp(ScenarioId),
}

/// What a trading event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trading {
    /// An order.
    Order,
    /// A trade.
    Trade,
}

/// What an infrastructure topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Category {
    /// Coming and going of what a service has.
    Lifecycle,
    /// Heartbeats and the like.
    Infra,
    /// Who did what.
    Audit,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// `act.exchange.<venue>.<entity>.<event>[.<id>]`, `hyp.<selector>.exchange.…`
    Market {
        /// Actual or hypothetical.
        lane: Lane,
        /// An exchange.
        venue: Name,
        /// `orderbook`, `trade`, `ticker`, …
        entity: Name,
        /// `update`, `snapshot`, …
        event: Name,
        /// `<interval>` of `ohlcv.candle.<interval>`, a part of the event.
        interval: Option<Name>,
        /// A pair, where a broker's subscription needs it.
        id: Option<Id>,
    },
    /// `sc.<scenario>.trading.<order|trade>.<event>.<id>`
    Trading {
        /// Whose.
        scenario: ScenarioId,
        /// Order or trade.
        entity: Trading,
        /// `submitted`, `filled`, …
        event: Name,
        /// The order or trade.
        id: Id,
    },
    /// `sc.<scenario>.position.<symbol>.<event>`, the event with a dot perhaps (`liquidation.warning`); the portfolio's
    /// as symbol `portfolio`.
    Position {
        /// Whose.
        scenario: ScenarioId,
        /// What is held; `portfolio` for all of it.
        symbol: Id,
        /// `opened`, `snapshot`, …
        event: Name,
        /// What follows the dot of an event that has one.
        detail: Option<Name>,
    },
    /// `sc.<scenario>.risk.<metric>.<event>`
    Risk {
        /// Whose.
        scenario: ScenarioId,
        /// `exposure`, `margin`, …
        metric: Name,
        /// `update`, `alert`, …
        event: Name,
    },
    /// `sc.<scenario>.pnl.<metric>.<event>`
    Pnl {
        /// Whose.
        scenario: ScenarioId,
        /// `realized`, `unrealized`.
        metric: Name,
        /// `update`.
        event: Name,
    },
    /// `<service>.<category>[.…]`
    Infrastructure {
        /// The owner, who alone publishes.
        service: Name,
        /// What it is for.
        category: Category,
        /// `connection.heartbeat`, …
        rest: Vec<Name>,
    },
    /// `state-changes`
    StateChanges,
}

impl Topic {
    /// The scenario that is written to, if the topic is one's.
    #[must_use]
    pub fn scenario(&self) -> Option<&ScenarioId> {
        match self {
            Self::Trading { scenario, .. }
            | Self::Position { scenario, .. }
            | Self::Risk { scenario, .. }
            | Self::Pnl { scenario, .. } => Some(scenario),
            Self::Market { .. } | Self::Infrastructure { .. } | Self::StateChanges => None,
        }
    }
}

impl Trading {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Trade => "trade",
        }
    }
}

impl Category {
    fn name(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Infra => "infra",
            Self::Audit => "audit",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Lifecycle, Self::Infra, Self::Audit]
            .into_iter()
            .find(|category| category.name() == name)
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        let unknown = || TopicError::NoPattern(text.chars().take(LONGEST).collect());
        if text.len() > LONGEST {
            return Err(unknown());
        }
        let segments: Vec<&str> = text.split('.').collect();
        match segments.as_slice() {
            ["state-changes"] => Ok(Self::StateChanges),
            ["act", "exchange", rest @ ..] => market(Lane::Act, rest, unknown),
            ["act", _, "exchange", ..] => Err(TopicError::ActWithSelector),
            ["hyp", "exchange", ..] => Err(TopicError::HypWithoutSelector),
            ["hyp", selector, "exchange", rest @ ..] => {
                market(Lane::Hyp(ScenarioId::new(selector)?), rest, unknown)
            }
            ["act" | "hyp", ..] => Err(unknown()),
            ["sc", scenario, rest @ ..] => of_scenario(ScenarioId::new(scenario)?, rest, unknown),
            ["sc"] => Err(unknown()),
            [service, category, rest @ ..] => Ok(Self::Infrastructure {
                category: Category::of(category).ok_or_else(unknown)?,
                service: Name::new(service)?,
                rest: rest
                    .iter()
                    .map(|name| Name::new(name))
                    .collect::<Result<_, _>>()?,
            }),
            _ => Err(unknown()),
        }
    }
}

fn market(lane: Lane, rest: &[&str], unknown: impl Fn() -> TopicError) -> Result<Topic, TopicError> {
    let [venue, entity, event, rest @ ..] = rest else {
        return Err(unknown());
    };
    let (interval, rest) = match (*entity, *event, rest) {
        ("ohlcv", "candle", [interval, rest @ ..]) => (Some(Name::new(interval)?), rest),
        ("ohlcv", "candle", []) => return Err(unknown()),
        _ => (None, rest),
    };
    let id = match rest {
        [] => None,
        [id] => Some(Id::new(id)?),
        _ => return Err(unknown()),
    };
    Ok(Topic::Market {
        lane,
        venue: Name::new(venue)?,
        entity: Name::new(entity)?,
        event: Name::new(event)?,
        interval,
        id,
    })
}

fn of_scenario(
    scenario: ScenarioId,
    rest: &[&str],
    unknown: impl Fn() -> TopicError,
) -> Result<Topic, TopicError> {
    Ok(match rest {
        ["trading", entity @ ("order" | "trade"), event, id] => Topic::Trading {
            scenario,
            entity: if *entity == "order" {
                Trading::Order
            } else {
                Trading::Trade
            },
            event: Name::new(event)?,
            id: Id::new(id)?,
        },
        ["position", symbol, event] => Topic::Position {
            scenario,
            symbol: Id::new(symbol)?,
            event: Name::new(event)?,
            detail: None,
        },
        ["position", symbol, event, detail] => Topic::Position {
            scenario,
            symbol: Id::new(symbol)?,
            event: Name::new(event)?,
            detail: Some(Name::new(detail)?),
        },
        ["risk", metric, event] => Topic::Risk {
            scenario,
            metric: Name::new(metric)?,
            event: Name::new(event)?,
        },
        ["pnl", metric, event] => Topic::Pnl {
            scenario,
            metric: Name::new(metric)?,
            event: Name::new(event)?,
        },
        _ => return Err(unknown()),
    })
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Market {
                lane,
                venue,
                entity,
                event,
                interval,
                id,
            } => {
                match lane {
                    Lane::Act => f.write_str("act")?,
                    Lane::Hyp(selector) => write!(f, "hyp.{selector}")?,
                }
                write!(f, ".exchange.{venue}.{entity}.{event}")?;
                if let Some(interval) = interval {
                    write!(f, ".{interval}")?;
                }
                id.iter().try_for_each(|id| write!(f, ".{id}"))
            }
            Self::Trading {
                scenario,
                entity,
                event,
                id,
            } => write!(f, "sc.{scenario}.trading.{}.{event}.{id}", entity.name()),
            Self::Position {
                scenario,
                symbol,
                event,
                detail,
            } => {
                write!(f, "sc.{scenario}.position.{symbol}.{event}")?;
                detail.iter().try_for_each(|detail| write!(f, ".{detail}"))
            }
            Self::Risk {
                scenario,
                metric,
                event,
            } => write!(f, "sc.{scenario}.risk.{metric}.{event}"),
            Self::Pnl {
                scenario,
                metric,
                event,
            } => write!(f, "sc.{scenario}.pnl.{metric}.{event}"),
            Self::Infrastructure {
                service,
                category,
                rest,
            } => {
                write!(f, "{service}.{}", category.name())?;
                rest.iter().try_for_each(|name| write!(f, ".{name}"))
            }
            Self::StateChanges => f.write_str("state-changes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One of each rule, as R6 writes them.
    const TOPICS: &[&str] = &[
        "act.exchange.binance.orderbook.snapshot",
        "act.exchange.binance.ticker.update.BTC-USD",
        "act.exchange.binance.ohlcv.candle.1m",
        "act.exchange.binance.ohlcv.candle.1m.BTCUSD",
        "hyp.CRASH_1987.exchange.alpaca.trade.tape",
        "hyp.CRASH_1987.exchange.alpaca.trade.tape.AAPL",
        "sc.LIVE.trading.order.submitted.4f9c1a52-0000-4000-8000-000000000001",
        "sc.S1.trading.trade.settled.17",
        "sc.S1.position.AAPL.opened",
        "sc.S1.position.AAPL.liquidation.warning",
        "sc.S1.position.portfolio.snapshot",
        "sc.S1.risk.exposure.update",
        "sc.S1.pnl.realized.update",
        "workmanager.lifecycle",
        "websocketmanager.infra.connection.heartbeat",
        "workmanager.infra.grouplock",
        "apigateway.audit",
        "state-changes",
    ];

    #[test]
    fn every_rule_reads_and_writes() {
        for text in TOPICS {
            let topic: Topic = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(topic.to_string(), *text);
        }
    }

    #[test]
    fn a_hypothetical_market_has_one_segment_more() {
        let act = "act.exchange.binance.ticker.update";
        let hyp = "hyp.S1.exchange.binance.ticker.update";
        assert_eq!(hyp.split('.').count(), act.split('.').count() + 1);
        assert_eq!(
            "act.S1.exchange.binance.ticker.update".parse::<Topic>(),
            Err(TopicError::ActWithSelector)
        );
        assert_eq!(
            "hyp.exchange.binance.ticker.update".parse::<Topic>(),
            Err(TopicError::HypWithoutSelector)
        );
    }

    #[test]
    fn what_no_rule_makes_is_no_topic() {
        for text in [
            "",
            ".",
            "act",
            "act.exchange",
            "act.exchange.binance",
            "act.exchange.binance.ticker",
            "act.exchange.binance.ohlcv.candle",
            "act.exchange.binance.ticker.update.a.b",
            "act.market.binance.ticker.update",
            "hyp.S1.binance.ticker.update",
            "sc",
            "sc.S1",
            "sc.S1.trading.order.submitted",
            "sc.S1.trading.fill.submitted.1",
            "sc.S1.trading.order.submitted.1.2",
            "sc.S1.weather.a.b",
            "workmanager",
            "workmanager.events",
            "state-changes.more",
        ] {
            let error = text.parse::<Topic>().unwrap_err();
            assert!(matches!(error, TopicError::NoPattern(_)), "{text}: {error}");
        }
        for text in [
            "act.exchange.Binance.ticker.update",
            "act.exchange.binance..update",
            "act.exchange.*.ticker.update",
            "act.exchange.binance.ticker.update.>",
            "act.exchange.binance.ticker.update.a b",
            "hyp.small.exchange.binance.ticker.update",
            "hyp..exchange.binance.ticker.update",
            "sc.live.risk.exposure.update",
            "sc.THIRTY_THREE_CHARACTERS_ARE_TOO_MANY.risk.a.b",
            "workmanager.infra.",
            "wörker.infra",
        ] {
            let error = text.parse::<Topic>().unwrap_err();
            assert!(matches!(error, TopicError::Segment(_)), "{text}: {error}");
        }
        assert!("a".repeat(1000).parse::<Topic>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_alike(text in "(act|hyp|sc|[a-z]{1,5})(\\.([A-Z]{1,3}|exchange|trading|order|position|risk|pnl|infra|ohlcv|candle|[a-z0-9]{1,4})){0,7}") {
            if let Ok(topic) = text.parse::<Topic>() {
                prop_assert_eq!(topic.to_string(), text);
            }
        }

        #[test]
        fn no_text_is_too_much(text in ".{0,80}") {
            let _ = text.parse::<Topic>();
        }
    }
}
