//! Time limit, retry with back-off, and circuit breaker around the calls of one dependency.

use std::future::Future;
use std::time::{Duration, Instant};

use outrigger_todo::reply::Refusal;
use parking_lot::Mutex;

/// Why a call of a dependency failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It is away, or will do better in a moment.
    #[error("{0} cannot be reached: {1}")]
    Unavailable(&'static str, String),
    /// It did not answer in time.
    #[error("{0} did not answer in time")]
    Timeout(&'static str),
    /// It failed so often lately that it is left alone.
    #[error("{0} failed too often lately")]
    CircuitOpen(&'static str),
    /// It answered something that no other attempt makes better.
    #[error("{0}: {1}")]
    Broken(&'static str, String),
}

impl Failure {
    /// Whether another attempt can help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(..) | Self::Timeout(_))
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match &failure {
            Failure::Broken(..) => {
                tracing::error!(%failure, "answering an internal error");
                Self::new(
                    http::StatusCode::INTERNAL_SERVER_ERROR,
                    "INTERNAL",
                    failure.to_string(),
                )
            }
            Failure::Unavailable(name, _) | Failure::Timeout(name) | Failure::CircuitOpen(name) => {
                tracing::warn!(%failure, "answering that the service is unavailable");
                Self::unavailable(format!("the {name} service cannot be reached"))
            }
        }
    }
}

/// How one dependency is called.
#[derive(Debug)]
pub struct Guard {
    name: &'static str,
    timeout: Duration,
    retries: u32,
    first_wait: Duration,
    longest_wait: Duration,
    breaker: Breaker,
}

impl Guard {
    /// Calls may take `timeout` each and are repeated `retries` times.
    pub fn new(name: &'static str, timeout: Duration, retries: u32) -> Self {
        Self {
            name,
            timeout,
            retries,
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_secs(1),
            breaker: Breaker::new(8, Duration::from_secs(3)),
        }
    }

    /// Makes a call, again after transient failures.
    pub async fn run<T, F, Fut>(&self, call: F) -> Result<T, Failure>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let mut attempt = 0;
        loop {
            if !self.breaker.admits(Instant::now()) {
                return Err(Failure::CircuitOpen(self.name));
            }
            let outcome = match tokio::time::timeout(self.timeout, call()).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Failure::Timeout(self.name)),
            };
            let transient = matches!(&outcome, Err(failure) if failure.is_transient());
            self.breaker.record(!transient, Instant::now());
            if !transient || attempt == self.retries {
                return outcome;
            }
            tokio::time::sleep(self.wait(attempt)).await;
            attempt += 1;
        }
    }

    /// Doubles with each attempt; the upper half of it is by chance, so that callers part.
    fn wait(&self, attempt: u32) -> Duration {
        let whole = self.first_wait.saturating_mul(1 << attempt.min(16));
        let whole = whole.min(self.longest_wait);
        let chance = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
        whole / 2 + whole / 512 * chance
    }
}

/// Opens after some failures in a row; then lets one call through each time a pause has passed, until one succeeds.
#[derive(Debug)]
struct Breaker {
    threshold: u32,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
}

impl Breaker {
    fn new(threshold: u32, pause: Duration) -> Self {
        Self {
            threshold,
            pause,
            state: Mutex::new(State::Closed { failures: 0 }),
        }
    }

    fn admits(&self, now: Instant) -> bool {
        match &mut *self.state.lock() {
            State::Closed { .. } => true,
            State::Open { until } if now < *until => false,
            State::Open { until } => {
                // This call is the trial; others wait for its outcome, or as long as another pause.
                *until = now + self.pause;
                true
            }
        }
    }

    fn record(&self, succeeded: bool, now: Instant) {
        let mut state = self.state.lock();
        let failures = match (&*state, succeeded) {
            (_, true) => 0,
            (State::Closed { failures }, false) => failures + 1,
            (State::Open { .. }, false) => self.threshold,
        };
        *state = if failures < self.threshold {
            State::Closed { failures }
        } else {
            let until = now + self.pause;
            State::Open { until }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_breaker_opens_tries_once_and_closes() {
        let breaker = Breaker::new(2, Duration::from_secs(3));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        breaker.record(false, at(0));
        assert!(breaker.admits(at(0)));
        breaker.record(false, at(0));
        assert!(!breaker.admits(at(2)));
        assert!(breaker.admits(at(3)), "the trial");
        assert!(!breaker.admits(at(3)), "one only");
        breaker.record(false, at(4));
        assert!(!breaker.admits(at(6)));
        assert!(breaker.admits(at(7)));
        breaker.record(true, at(7));
        assert!(breaker.admits(at(7)));
    }

    #[tokio::test]
    async fn only_transient_failures_are_repeated() {
        let guard = Guard {
            first_wait: Duration::from_millis(1),
            ..Guard::new("test", Duration::from_secs(1), 3)
        };
        let calls = AtomicU32::new(0);
        let call = |succeeds_at: u32, failure: fn() -> Failure| {
            let number = calls.fetch_add(1, Ordering::Relaxed) + 1;
            std::future::ready(if number >= succeeds_at {
                Ok(number)
            } else {
                Err(failure())
            })
        };
        let away = || Failure::Unavailable("test", "away".to_owned());
        assert_eq!(guard.run(|| call(3, away)).await.unwrap(), 3);
        calls.store(0, Ordering::Relaxed);
        let broken = || Failure::Broken("test", "no JSON".to_owned());
        assert!(guard.run(|| call(3, broken)).await.is_err());
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
}
