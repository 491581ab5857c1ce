//! The circuit breaker as a state machine (sony/gobreaker v0.5 under Dapr's settings).

use std::{
    fmt,
    time::{Duration, Instant},
};

use outrigger_engine_expr::{Expr, Outcome};

/// When a closed breaker opens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trip {
    /// More than five failures in a row.
    #[default]
    Default,
    /// A CEL condition over `requests`, `totalSuccesses`, `totalFailures`, `consecutiveSuccesses` and
    /// `consecutiveFailures`. A condition that fails or is not boolean does not open the breaker.
    Expr(Expr),
}

/// The settings of a named breaker; every instance is made from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerSettings {
    /// The policy's name.
    pub name: String,
    /// Requests let through while half-open, and successes needed to close; at least 1.
    pub max_requests: u32,
    /// How often the closed breaker forgets its counts; `None` for never.
    pub interval: Option<Duration>,
    /// How long the breaker stays open.
    pub timeout: Duration,
    /// When it opens.
    pub trip: Trip,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            max_requests: 1,
            interval: None,
            timeout: Duration::from_secs(60),
            trip: Trip::Default,
        }
    }
}

/// The state of a breaker; prints as in logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Requests pass.
    Closed,
    /// A few requests pass, to see whether the other side has recovered.
    HalfOpen,
    /// No request passes.
    Open,
}

impl State {
    /// All states, in the order of the gauge's labels.
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// `closed`, `half-open` or `open`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A change of state, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
}

/// Why a request may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The breaker is open.
    #[error("circuit breaker is open")]
    Open,
    /// It is half-open and has let enough requests through.
    #[error("too many requests")]
    TooManyRequests,
}

/// Leave to send one request; hand it back with the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the outcome of the request has to be reported"]
pub struct Permit {
    generation: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    requests: u32,
    total_successes: u32,
    total_failures: u32,
    consecutive_successes: u32,
    consecutive_failures: u32,
}

/// One instance of a breaker. Outcomes of requests that were let through before the last change of state (or of
/// counting period) are ignored.
#[derive(Debug)]
pub struct CircuitBreaker {
    settings: BreakerSettings,
    state: State,
    generation: u64,
    counts: Counts,
    expiry: Option<Instant>,
}

impl CircuitBreaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(settings: BreakerSettings, now: Instant) -> Self {
        let mut breaker = Self {
            settings,
            state: State::Closed,
            generation: 0,
            counts: Counts::default(),
            expiry: None,
        };
        breaker.new_generation(now);
        breaker
    }

    /// The name it was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The state now, and the change if time alone has brought one about.
    pub fn state(&mut self, now: Instant) -> (State, Option<Transition>) {
        let transition = self.advance(now);
        (self.state, transition)
    }

    /// Asks to send a request.
    ///
    /// # Errors
    /// When it may not pass. The transition is reported either way.
    pub fn allow(&mut self, now: Instant) -> (Result<Permit, Rejection>, Option<Transition>) {
        let transition = self.advance(now);
        let answer = match self.state {
            State::Open => Err(Rejection::Open),
            State::HalfOpen if self.counts.requests >= self.settings.max_requests => {
                Err(Rejection::TooManyRequests)
            }
            _ => {
                self.counts.requests = self.counts.requests.saturating_add(1);
                Ok(Permit {
                    generation: self.generation,
                })
            }
        };
        (answer, transition)
    }

    /// Takes the outcome of a request that was let through.
    pub fn report(&mut self, permit: Permit, success: bool, now: Instant) -> Option<Transition> {
        let transition = self.advance(now);
        if permit.generation != self.generation {
            return transition;
        }
        let counts = &mut self.counts;
        if success {
            counts.total_successes = counts.total_successes.saturating_add(1);
            counts.consecutive_successes = counts.consecutive_successes.saturating_add(1);
            counts.consecutive_failures = 0;
            if self.state == State::HalfOpen && counts.consecutive_successes >= self.settings.max_requests {
                return self.set(State::Closed, now);
            }
            return transition;
        }
        match self.state {
            State::Closed => {
                counts.total_failures = counts.total_failures.saturating_add(1);
                counts.consecutive_failures = counts.consecutive_failures.saturating_add(1);
                counts.consecutive_successes = 0;
                if self.trips() {
                    self.set(State::Open, now)
                } else {
                    transition
                }
            }
            State::HalfOpen => self.set(State::Open, now),
            State::Open => transition,
        }
    }

    fn trips(&self) -> bool {
        let counts = &self.counts;
        match &self.settings.trip {
            Trip::Default => counts.consecutive_failures > 5,
            Trip::Expr(condition) => matches!(
                condition.eval_ints(&[
                    ("requests", counts.requests.into()),
                    ("totalSuccesses", counts.total_successes.into()),
                    ("totalFailures", counts.total_failures.into()),
                    ("consecutiveSuccesses", counts.consecutive_successes.into()),
                    ("consecutiveFailures", counts.consecutive_failures.into()),
                ]),
                Ok(Outcome::Bool(true))
            ),
        }
    }

    fn advance(&mut self, now: Instant) -> Option<Transition> {
        let expired = self.expiry.is_some_and(|expiry| expiry < now);
        match self.state {
            State::Closed if expired => {
                self.new_generation(now);
                None
            }
            State::Open if expired => self.set(State::HalfOpen, now),
            _ => None,
        }
    }

    fn set(&mut self, to: State, now: Instant) -> Option<Transition> {
        let from = std::mem::replace(&mut self.state, to);
        self.new_generation(now);
        Some(Transition { from, to })
    }

    fn new_generation(&mut self, now: Instant) {
        self.generation += 1;
        self.counts = Counts::default();
        self.expiry = match self.state {
            State::Closed => self
                .settings
                .interval
                .and_then(|interval| now.checked_add(interval)),
            State::Open => now.checked_add(self.settings.timeout),
            State::HalfOpen => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrigger_engine_expr::Compiler;

    struct Clocked {
        breaker: CircuitBreaker,
        now: Instant,
    }

    impl Clocked {
        fn new(settings: BreakerSettings) -> Self {
            let now = Instant::now();
            Self {
                breaker: CircuitBreaker::new(settings, now),
                now,
            }
        }
        fn wait(&mut self, secs: u64) {
            self.now += Duration::from_secs(secs);
        }
        fn allow(&mut self) -> Result<Permit, Rejection> {
            self.breaker.allow(self.now).0
        }
        fn request(&mut self, success: bool) -> Result<(), Rejection> {
            let permit = self.allow()?;
            self.breaker.report(permit, success, self.now);
            Ok(())
        }
        fn state(&mut self) -> State {
            self.breaker.state(self.now).0
        }
    }

    #[test]
    fn opens_after_six_failures_in_a_row_and_recovers() {
        let mut breaker = Clocked::new(BreakerSettings::default());
        for _ in 0..5 {
            breaker.request(false).unwrap();
        }
        breaker.request(true).unwrap();
        for _ in 0..5 {
            breaker.request(false).unwrap();
        }
        assert_eq!(breaker.state(), State::Closed);
        breaker.request(false).unwrap();
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(breaker.request(true), Err(Rejection::Open));
        breaker.wait(60);
        assert_eq!(
            breaker.state(),
            State::Open,
            "the timeout has to be over, not just reached"
        );
        breaker.wait(1);
        assert_eq!(breaker.state(), State::HalfOpen);
        let first = breaker.allow().unwrap();
        assert_eq!(breaker.allow(), Err(Rejection::TooManyRequests));
        assert_eq!(
            breaker.breaker.report(first, true, breaker.now),
            Some(Transition {
                from: State::HalfOpen,
                to: State::Closed
            })
        );
    }

    #[test]
    fn a_failure_while_half_open_opens_again() {
        let mut breaker = Clocked::new(BreakerSettings {
            max_requests: 3,
            ..BreakerSettings::default()
        });
        for _ in 0..6 {
            breaker.request(false).unwrap();
        }
        breaker.wait(61);
        breaker.request(true).unwrap();
        breaker.request(false).unwrap();
        assert_eq!(breaker.state(), State::Open);
    }

    #[test]
    fn late_outcomes_do_not_count() {
        let mut breaker = Clocked::new(BreakerSettings::default());
        let late = breaker.allow().unwrap();
        for _ in 0..6 {
            breaker.request(false).unwrap();
        }
        breaker.wait(61);
        assert_eq!(breaker.state(), State::HalfOpen);
        assert_eq!(breaker.breaker.report(late, false, breaker.now), None);
        assert_eq!(breaker.state(), State::HalfOpen);
    }

    #[test]
    fn the_interval_forgets() {
        let mut breaker = Clocked::new(BreakerSettings {
            interval: Some(Duration::from_secs(10)),
            ..BreakerSettings::default()
        });
        for _ in 0..5 {
            breaker.request(false).unwrap();
        }
        breaker.wait(11);
        breaker.request(false).unwrap();
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn trip_conditions() {
        let compiler = Compiler::new();
        let trip = |text: &str| BreakerSettings {
            trip: Trip::Expr(compiler.compile(text).unwrap()),
            ..BreakerSettings::default()
        };
        let mut breaker = Clocked::new(trip("totalFailures >= 2"));
        breaker.request(false).unwrap();
        breaker.request(true).unwrap();
        breaker.request(false).unwrap();
        assert_eq!(breaker.state(), State::Open);
        for harmless in ["requests", "unknown > 1"] {
            let mut breaker = Clocked::new(trip(harmless));
            for _ in 0..20 {
                breaker.request(false).unwrap();
            }
            assert_eq!(breaker.state(), State::Closed, "{harmless}");
        }
    }
}
