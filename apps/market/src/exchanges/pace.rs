//! How many trades are due.

/// The largest part of a second that is caught up on after a pause of the machine.
const CATCH_UP_NS: i64 = 1_000_000_000;

/// A steady rate, whatever the timer's grain. Pure: the time comes in.
#[derive(Debug, Clone)]
pub struct Pace {
    per_second: u64,
    start_ns: i64,
    done: u64,
}

impl Pace {
    /// So many a second from now on.
    #[must_use]
    pub fn new(per_second: u64, now_ns: i64) -> Self {
        Self {
            per_second,
            start_ns: now_ns,
            done: 0,
        }
    }

    /// How many are due now; they count as done. What a pause of more than a second swallowed never comes.
    pub fn due(&mut self, now_ns: i64) -> u64 {
        let passed = now_ns.saturating_sub(self.start_ns).max(0);
        let wanted = u128::from(self.per_second) * passed.unsigned_abs() as u128 / 1_000_000_000;
        let due = u64::try_from(wanted)
            .unwrap_or(u64::MAX)
            .saturating_sub(self.done);
        let most = self.per_second.saturating_mul(CATCH_UP_NS.unsigned_abs()) / 1_000_000_000;
        if due > most {
            *self = Self::new(self.per_second, now_ns);
            return most;
        }
        self.done += due;
        due
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_rate_holds_whatever_the_steps(
            rate in 1_u64..100_000,
            steps in proptest::collection::vec(1_i64..50_000_000, 1..200),
        ) {
            let (mut pace, mut now, mut done) = (Pace::new(rate, 7), 7, 0);
            for step in steps {
                now += step;
                done += pace.due(now);
            }
            let exact = u128::from(rate) * u128::from((now - 7).unsigned_abs()) / 1_000_000_000;
            prop_assert_eq!(u128::from(done), exact);
        }
    }

    #[test]
    fn a_long_pause_is_not_caught_up_on() {
        let mut pace = Pace::new(1_000, 0);
        assert_eq!(pace.due(60_000_000_000), 1_000);
        assert_eq!(pace.due(60_000_000_000), 0);
        assert_eq!(pace.due(60_500_000_000), 500);
        assert_eq!(pace.due(0), 0);
    }
}
