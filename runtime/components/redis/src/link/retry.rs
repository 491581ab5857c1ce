//! When a command is sent once more (go-redis `error.go`, `options.go`).

use std::time::Duration;

use redis::RedisError;

/// Whether a command may be sent again when nobody knows if the server ran it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safety {
    /// Running it twice is as good as once.
    Repeatable,
    /// Only if it cannot have run.
    Once,
}

/// How often and after which waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retries {
    pub(crate) times: u32,
    pub(crate) least: Duration,
    pub(crate) longest: Duration,
}

/// The server refused without running the command; a moment later it may not.
const REFUSALS: [&str; 5] = ["LOADING", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN"];

impl Retries {
    /// Waits before another attempt; `false` when there is none.
    pub(super) async fn again(
        &self,
        attempt: &mut u32,
        error: &RedisError,
        sent: bool,
        safety: Safety,
    ) -> bool {
        if *attempt >= self.times || !may_repeat(error, sent, safety) {
            return false;
        }
        tokio::time::sleep(self.wait(*attempt)).await;
        *attempt += 1;
        true
    }

    /// The wait before a retry: doubles from the least to the longest.
    pub(crate) fn wait(&self, attempt: u32) -> Duration {
        self.least.saturating_mul(1 << attempt.min(20)).min(self.longest)
    }
}

fn may_repeat(error: &RedisError, sent: bool, safety: Safety) -> bool {
    if let Some(code) = error.code() {
        return REFUSALS.contains(&code);
    }
    if error.is_connection_refusal() {
        return true;
    }
    (error.is_io_error() || error.is_connection_dropped()) && (!sent || safety == Safety::Repeatable)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn io(kind: io::ErrorKind) -> RedisError {
        RedisError::from(io::Error::from(kind))
    }

    #[test]
    fn an_unknown_outcome_is_not_repeated_unless_that_is_harmless() {
        let lost = io(io::ErrorKind::ConnectionReset);
        assert!(may_repeat(&lost, true, Safety::Repeatable));
        assert!(!may_repeat(&lost, true, Safety::Once));
        assert!(may_repeat(&lost, false, Safety::Once));
        assert!(may_repeat(
            &io(io::ErrorKind::ConnectionRefused),
            true,
            Safety::Once
        ));
        let wrong = RedisError::from((redis::ErrorKind::InvalidClientConfig, "wrong"));
        assert!(!may_repeat(&wrong, false, Safety::Repeatable));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let retries = Retries {
            times: 3,
            least: Duration::from_millis(8),
            longest: Duration::from_millis(20),
        };
        assert_eq!([0, 1, 2].map(|at| retries.wait(at).as_millis()), [8, 16, 20]);
    }
}
