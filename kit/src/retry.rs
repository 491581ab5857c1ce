//! Retry of transient errors with exponential back-off (E1.6).

use std::time::Duration;

use crate::{Environment, Error};

/// How often and after what wait a request is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    attempts: u32,
    base_delay: Duration,
}

/// No wait is longer than this, however many attempts are configured.
const MAX_DELAY: Duration = Duration::from_secs(60);

impl Default for RetryPolicy {
    /// Up to 3 retries, 200 ms before the first.
    fn default() -> Self {
        Self {
            attempts: 3,
            base_delay: Duration::from_millis(200),
        }
    }
}

impl RetryPolicy {
    /// A policy of `attempts` retries (0–20) that waits `base_delay` (10 ms–60 s) × 2^attempt.
    ///
    /// # Errors
    /// [`Error::Invalid`] out of these ranges.
    pub fn new(attempts: u32, base_delay: Duration) -> Result<Self, Error> {
        if attempts > 20 {
            return Err(Error::Invalid(format!(
                "DAPR_RETRY_ATTEMPTS must be from 0 to 20, not {attempts}"
            )));
        }
        if !(Duration::from_millis(10)..=Duration::from_secs(60)).contains(&base_delay) {
            return Err(Error::Invalid(format!(
                "DAPR_RETRY_BASE_DELAY_MS must be from 10 to 60000, not {}",
                base_delay.as_millis()
            )));
        }
        Ok(Self { attempts, base_delay })
    }

    /// No retries.
    pub fn none() -> Self {
        Self {
            attempts: 0,
            ..Self::default()
        }
    }

    /// `DAPR_RETRY_ATTEMPTS` and `DAPR_RETRY_BASE_DELAY_MS`, or the defaults.
    ///
    /// # Errors
    /// [`Error::Invalid`] if one is not a number in its range.
    pub fn from_environment(environment: &Environment) -> Result<Self, Error> {
        let number = |name: &str, default: u64| match environment.get(name).map(|text| text.trim()) {
            None | Some("") => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| Error::Invalid(format!("{name} {text:?} is not a number"))),
        };
        let attempts = number("DAPR_RETRY_ATTEMPTS", 3)?;
        Self::new(
            u32::try_from(attempts).unwrap_or(u32::MAX),
            Duration::from_millis(number("DAPR_RETRY_BASE_DELAY_MS", 200)?),
        )
    }

    /// The wait before retry number `attempt` (the first is 0), or `None` if there is to be none.
    pub fn delay(&self, attempt: u32) -> Option<Duration> {
        (attempt < self.attempts).then(|| {
            self.base_delay
                .saturating_mul(1 << attempt.min(30))
                .min(MAX_DELAY)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_end() {
        let policy = RetryPolicy::default();
        let millis: Vec<_> = (0..4)
            .map(|n| policy.delay(n).map(|delay| delay.as_millis()))
            .collect();
        assert_eq!(millis, [Some(200), Some(400), Some(800), None]);
        let long = RetryPolicy::new(20, Duration::from_secs(60)).unwrap();
        assert_eq!(long.delay(19), Some(MAX_DELAY));
        assert_eq!(RetryPolicy::none().delay(0), None);
    }

    #[test]
    fn ranges_hold() {
        for (name, value) in [
            ("DAPR_RETRY_ATTEMPTS", "21"),
            ("DAPR_RETRY_ATTEMPTS", "-1"),
            ("DAPR_RETRY_BASE_DELAY_MS", "9"),
            ("DAPR_RETRY_BASE_DELAY_MS", "60001"),
        ] {
            let environment = Environment::from([(name.to_owned(), value.to_owned())]);
            assert!(
                RetryPolicy::from_environment(&environment).is_err(),
                "{name}={value}"
            );
        }
    }
}
