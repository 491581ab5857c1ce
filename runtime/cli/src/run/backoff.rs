//! How long to wait before a process is started again.

use std::time::Duration;

/// Before the first restart: a killed process is back well within two seconds.
const FIRST: Duration = Duration::from_millis(100);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(5);

/// A process that was up this long starts counting anew.
const STEADY: Duration = Duration::from_secs(10);

/// Doubling waits with a spread of a fifth, so that things that fell together do not rise together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after a life of `up`; `random` is any number.
    pub(super) fn after(&mut self, up: Duration, random: u64) -> Duration {
        if up >= STEADY {
            self.failures = 0;
        }
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let percent = u32::try_from(random % 41).unwrap_or(0) + 80;
        (wait * percent / 100).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_longest_and_start_anew_after_a_steady_life() {
        let mut backoff = Backoff::default();
        let brief = Duration::from_millis(5);
        // 20 % 41 leaves the wait as it is.
        let waits: Vec<u128> = (0..8).map(|_| backoff.after(brief, 20).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.after(STEADY, 20).as_millis(), 100);
        assert_eq!(backoff.after(brief, 0).as_millis(), 160);
        assert_eq!(backoff.after(brief, 40).as_millis(), 480);
    }
}
