//! What a publisher asks before it publishes (K2).

use crate::{LIVE, ScenarioId, Topic, TopicError};

/// How a scenario stands (K10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScenarioStatus {
    /// Takes events.
    Active,
    /// Takes none for now.
    Paused,
    /// Takes none any more.
    Archived,
    /// Gone.
    Deleted,
}

/// The scenarios a publisher knows of.
pub trait Scenarios {
    /// How one stands; `None` when nobody registered it.
    fn status(&self, scenario: &ScenarioId) -> Option<ScenarioStatus>;
}

/// Why an event is not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The name is no topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Nobody registered the scenario, or it takes no events.
    #[error("scenario {scenario} is not registered{}", active(.status))]
    Scenario {
        /// Which.
        scenario: ScenarioId,
        /// How it stands, when it is registered.
        status: Option<ScenarioStatus>,
    },
}

fn active(status: &Option<ScenarioStatus>) -> &'static str {
    match status {
        None => "",
        Some(_) => " as active",
    }
}

/// Whether an event may go to a topic. A hypothetical market's selector is a scenario's too. `LIVE` always takes
/// events, whatever a registry says.
///
/// # Errors
/// [`PublishError`].
pub fn check(topic: &str, scenarios: &impl Scenarios) -> Result<Topic, PublishError> {
    let topic: Topic = topic.parse()?;
    let selector = match &topic {
        Topic::Market {
            lane: crate::Lane::Hyp(selector),
            ..
        } => Some(selector),
        _ => None,
    };
    if let Some(scenario) = topic.scenario().or(selector)
        && scenario.as_str() != LIVE
    {
        let status = scenarios.status(scenario);
        if status != Some(ScenarioStatus::Active) {
            return Err(PublishError::Scenario {
                scenario: scenario.clone(),
                status,
            });
        }
    }
    Ok(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Registered(&'static [(&'static str, ScenarioStatus)]);

    impl Scenarios for Registered {
        fn status(&self, scenario: &ScenarioId) -> Option<ScenarioStatus> {
            self.0
                .iter()
                .find_map(|(name, status)| (*name == scenario.as_str()).then_some(*status))
        }
    }

    const SCENARIOS: Registered = Registered(&[
        ("S1", ScenarioStatus::Active),
        ("PAUSED", ScenarioStatus::Paused),
        ("LIVE", ScenarioStatus::Archived),
    ]);

    #[test]
    fn only_active_scenarios_take_events() {
        for (topic, text) in [
            ("sc.S1.risk.exposure.update", None),
            ("hyp.S1.exchange.binance.ticker.update", None),
            ("act.exchange.binance.ticker.update", None),
            ("workmanager.lifecycle", None),
            // Always.
            ("sc.LIVE.risk.exposure.update", None),
            (
                "sc.PAUSED.risk.exposure.update",
                Some("scenario PAUSED is not registered as active"),
            ),
            (
                "sc.S2.risk.exposure.update",
                Some("scenario S2 is not registered"),
            ),
            (
                "hyp.S2.exchange.binance.ticker.update",
                Some("scenario S2 is not registered"),
            ),
            (
                "act.S1.exchange.binance.ticker.update",
                Some("act topics MUST NOT carry a selector"),
            ),
            (
                "hyp.exchange.binance.ticker.update",
                Some("hyp topics MUST carry a selector"),
            ),
            ("weather.today", Some("no pattern matches \"weather.today\"")),
        ] {
            let refused = check(topic, &SCENARIOS).err().map(|error| error.to_string());
            assert_eq!(refused.as_deref(), text, "{topic}");
        }
    }
}
