//! Retry policies and the pauses they ask for (kit `retry`, cenkalti/backoff v4).

use std::time::{Duration, Instant};

use outrigger_types::GoDuration;

use crate::matching::{Code, StatusMatch};

/// What the failure of an operation means for retries; the code that knows says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Trying again cannot help.
    Permanent,
    /// Trying again may help.
    Transient,
    /// The policy's `matching` decides.
    Code(Code),
}

/// How the pause between attempts develops.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BackOffKind {
    /// Always the same pause.
    Constant(Duration),
    /// A growing, randomised pause.
    Exponential {
        /// The first pause, before randomisation.
        initial: Duration,
        /// Growth per attempt.
        multiplier: f64,
        /// Half-width of the random interval, as a fraction of the pause.
        randomization: f64,
        /// Where growth stops.
        max_interval: Duration,
        /// No pause that would end later than this after the start; zero for no bound.
        max_elapsed: Duration,
    },
}

impl BackOffKind {
    /// cenkalti/backoff v4's defaults (500 ms, ×1.5, ±0.5, 15 min) with the given ceiling (60 s there).
    #[must_use]
    pub fn exponential(max_interval: Duration) -> Self {
        Self::Exponential {
            initial: Duration::from_millis(500),
            multiplier: 1.5,
            randomization: 0.5,
            max_interval,
            max_elapsed: Duration::from_secs(15 * 60),
        }
    }
}

/// A named retry policy.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The pauses.
    pub kind: BackOffKind,
    /// How many retries follow the first attempt; `None` for no bound.
    pub max_retries: Option<u64>,
    /// Which status codes are retried.
    pub matching: StatusMatch,
}

impl RetryPolicy {
    /// Constant pauses and no `matching`.
    #[must_use]
    pub fn constant(pause: Duration, max_retries: u64) -> Self {
        Self {
            kind: BackOffKind::Constant(pause),
            max_retries: Some(max_retries),
            matching: StatusMatch::default(),
        }
    }

    /// Whether a failed attempt can ever be repeated.
    #[must_use]
    pub fn has_retries(&self) -> bool {
        self.max_retries != Some(0)
    }

    /// Whether a failure with this verdict may be retried.
    #[must_use]
    pub fn retries(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Permanent => false,
            Verdict::Transient => true,
            Verdict::Code(code) => self.matching.needs_retry(code),
        }
    }

    /// The pauses of one operation that starts now.
    #[must_use]
    pub fn back_off(&self, now: Instant) -> BackOff {
        let current = match self.kind {
            BackOffKind::Constant(pause) => pause,
            BackOffKind::Exponential { initial, .. } => initial,
        };
        BackOff {
            kind: self.kind,
            left: self.max_retries,
            start: now,
            current,
        }
    }
}

/// Yields the pauses before the retries of one operation.
#[derive(Debug, Clone)]
pub struct BackOff {
    kind: BackOffKind,
    left: Option<u64>,
    start: Instant,
    current: Duration,
}

impl BackOff {
    /// The pause before the next attempt; `None` when there is to be none. `random` is uniform in `[0, 1)`.
    pub fn next(&mut self, now: Instant, random: f64) -> Option<Duration> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        let BackOffKind::Exponential {
            multiplier,
            randomization,
            max_interval,
            max_elapsed,
            ..
        } = self.kind
        else {
            return Some(self.current);
        };
        let pause = randomize(self.current, randomization, random);
        self.current = if self.current.as_secs_f64() >= max_interval.as_secs_f64() / multiplier {
            max_interval
        } else {
            self.current.mul_f64(multiplier)
        };
        let elapsed = now.saturating_duration_since(self.start);
        (max_elapsed.is_zero() || elapsed.saturating_add(pause) <= max_elapsed).then_some(pause)
    }
}

/// Uniform in `[d·(1−r), d·(1+r)]`, in nanoseconds, both ends included.
fn randomize(duration: Duration, randomization: f64, random: f64) -> Duration {
    if randomization == 0.0 {
        return duration;
    }
    let nanos = duration.as_nanos() as f64;
    let delta = randomization * nanos;
    Duration::from_nanos((nanos - delta + random * (2.0 * delta + 1.0)) as u64)
}

/// Go waits not at all for a pause below zero.
pub(crate) fn pause(duration: GoDuration) -> Duration {
    duration.to_std_or_zero()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn constant_pauses_until_the_retries_are_spent() {
        let policy = RetryPolicy::constant(Duration::from_secs(1), 3);
        let mut pauses = policy.back_off(now());
        for _ in 0..3 {
            assert_eq!(pauses.next(now(), 0.5), Some(Duration::from_secs(1)));
        }
        assert_eq!(pauses.next(now(), 0.5), None);
        assert!(!RetryPolicy::constant(Duration::ZERO, 0).has_retries());
    }

    #[test]
    fn exponential_grows_to_its_ceiling_and_ends_in_time() {
        let policy = RetryPolicy {
            kind: BackOffKind::exponential(Duration::from_secs(60)),
            max_retries: None,
            matching: StatusMatch::default(),
        };
        let start = now();
        let mut pauses = policy.back_off(start);
        let mut expected = 0.5;
        for _ in 0..11 {
            // 0.5 is the middle of the interval.
            let pause = pauses.next(start, 0.5).unwrap().as_secs_f64();
            assert!((pause - expected).abs() < 1e-6, "{pause} {expected}");
            expected *= 1.5;
        }
        for _ in 0..3 {
            pauses.next(start, 0.5);
        }
        assert_eq!(pauses.next(start, 0.5).unwrap().as_secs(), 60);
        assert_eq!(
            pauses.next(start + Duration::from_secs(15 * 60 - 59), 0.5),
            None,
            "would end too late"
        );
    }

    #[test]
    fn a_ceiling_below_the_first_pause_holds_from_the_second_on() {
        let policy = RetryPolicy {
            kind: BackOffKind::exponential(Duration::from_millis(100)),
            max_retries: Some(2),
            matching: StatusMatch::default(),
        };
        let mut pauses = policy.back_off(now());
        assert_eq!(pauses.next(now(), 0.0), Some(Duration::from_millis(250)));
        assert_eq!(pauses.next(now(), 0.0), Some(Duration::from_millis(50)));
        assert_eq!(pauses.next(now(), 0.0), None);
    }

    #[test]
    fn verdicts() {
        let mut policy = RetryPolicy::constant(Duration::ZERO, 1);
        policy.matching = StatusMatch::parse("500-599", "").unwrap();
        assert!(policy.retries(Verdict::Transient) && !policy.retries(Verdict::Permanent));
        assert!(
            policy.retries(Verdict::Code(Code::Http(503))) && !policy.retries(Verdict::Code(Code::Http(404)))
        );
    }

    proptest! {
        #[test]
        fn pauses_stay_in_their_interval(millis in 1u64..100_000, random in 0.0..1.0f64) {
            let pause = randomize(Duration::from_millis(millis), 0.5, random).as_nanos() as f64;
            let nanos = millis as f64 * 1e6;
            prop_assert!(pause >= nanos * 0.5 - 1.0 && pause <= nanos * 1.5 + 1.0);
        }
    }
}
