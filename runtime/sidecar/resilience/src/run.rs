//! The composition: retry( circuit breaker( timeout( operation ))).

use std::{collections::hash_map::RandomState, fmt, future::Future, hash::BuildHasher};

use outrigger_engine_resiliency::{Permit, Rejection, Verdict};
use tokio::time::Instant;

use crate::{
    breakers::Breaker,
    observer::PolicyKind,
    provider::{Applied, Policy},
};

/// An error that knows whether trying again can help.
pub trait Retryable: fmt::Display {
    /// The judgement of the code that made the error.
    fn verdict(&self) -> Verdict;
}

/// How an operation under a policy can fail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError<E> {
    /// The operation failed, on its last attempt if there were several.
    #[error("{0}")]
    Op(E),
    /// The breaker let nothing through.
    #[error("circuit breaker is open")]
    BreakerOpen,
    /// The half-open breaker let nothing more through.
    #[error("too many requests")]
    TooManyRequests,
    /// An attempt took too long; the text is that of Go's `context.DeadlineExceeded`.
    #[error("context deadline exceeded")]
    Timeout,
}

impl<E> RunError<E> {
    /// The operation's own error, if that is what it was.
    pub fn into_op(self) -> Option<E> {
        match self {
            Self::Op(error) => Some(error),
            Self::BreakerOpen | Self::TooManyRequests | Self::Timeout => None,
        }
    }

    /// Whether the breaker refused, so the operation did not run.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::BreakerOpen | Self::TooManyRequests)
    }

    /// Turns the operation's error into another.
    pub fn map_op<F>(self, with: impl FnOnce(E) -> F) -> RunError<F> {
        match self {
            Self::Op(error) => RunError::Op(with(error)),
            Self::BreakerOpen => RunError::BreakerOpen,
            Self::TooManyRequests => RunError::TooManyRequests,
            Self::Timeout => RunError::Timeout,
        }
    }
}

impl<E> From<Rejection> for RunError<E> {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Open => Self::BreakerOpen,
            Rejection::TooManyRequests => Self::TooManyRequests,
        }
    }
}

impl Policy {
    /// Runs an operation, which gets the number of its attempt, from 1 on.
    ///
    /// # Errors
    /// The last attempt's, or the policy's own.
    pub async fn run<T, E, F, Fut>(&self, mut op: F) -> Result<T, RunError<E>>
    where
        E: Retryable,
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        match &self.0 {
            None => op(1).await.map_err(RunError::Op),
            Some(applied) => applied.run(op).await,
        }
    }
}

impl Applied {
    async fn run<T, E, F, Fut>(&self, mut op: F) -> Result<T, RunError<E>>
    where
        E: Retryable,
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut timed_out_before = false;
        let Some(retry) = &self.retry else {
            return self.attempt(|| op(1), &mut timed_out_before).await;
        };
        let mut pauses = retry.back_off(Instant::now().into_std());
        let mut attempt: u32 = 0;
        let mut jitter = None;
        loop {
            attempt = attempt.saturating_add(1);
            let error = match self.attempt(|| op(attempt), &mut timed_out_before).await {
                Ok(value) => {
                    if attempt > 1 {
                        tracing::info!(
                            target: "dapr.runtime",
                            "Recovered processing operation {} after {attempt} attempts", self.name
                        );
                    }
                    return Ok(value);
                }
                Err(error) => error,
            };
            let again = match &error {
                RunError::Op(error) => retry.retries(error.verdict()),
                RunError::Timeout => true,
                RunError::BreakerOpen | RunError::TooManyRequests => false,
            };
            if !again {
                return Err(error);
            }
            let Some(pause) = pauses.next(
                Instant::now().into_std(),
                unit(jitter.get_or_insert_with(RandomState::new), attempt),
            ) else {
                return Err(error);
            };
            if attempt == 1 {
                // Only the first retry is worth a line and a count (kit `NotifyRecover`).
                self.activated(PolicyKind::Retry);
                let text = outrigger_types::GoDuration::from_std(pause);
                tracing::warn!(
                    target: "dapr.runtime",
                    "Error processing operation {}. Retrying in {text}…", self.name
                );
                tracing::debug!(target: "dapr.runtime", "Error for operation {} was: {error}", self.name);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// `op` is called only once the breaker has let the attempt through.
    async fn attempt<T, E, Fut>(
        &self,
        op: impl FnOnce() -> Fut,
        timed_out_before: &mut bool,
    ) -> Result<T, RunError<E>>
    where
        Fut: Future<Output = Result<T, E>>,
    {
        let Some(breaker) = &self.breaker else {
            return self.timed(op(), timed_out_before).await;
        };
        let before = breaker.state();
        let answer = match breaker.allow() {
            Ok(permit) => {
                let outcome = Outcome {
                    breaker,
                    permit: Some(permit),
                };
                let answer = self.timed(op(), timed_out_before).await;
                outcome.report(answer.is_ok());
                answer
            }
            Err(rejection) => Err(rejection.into()),
        };
        if breaker.state() != before {
            self.activated(PolicyKind::CircuitBreaker);
        }
        answer
    }

    async fn timed<T, E>(
        &self,
        op: impl Future<Output = Result<T, E>>,
        timed_out_before: &mut bool,
    ) -> Result<T, RunError<E>> {
        let Some(limit) = self.timeout else {
            return op.await.map_err(RunError::Op);
        };
        match tokio::time::timeout(limit, op).await {
            Ok(answer) => answer.map_err(RunError::Op),
            Err(_) => {
                if !std::mem::replace(timed_out_before, true) {
                    self.activated(PolicyKind::Timeout);
                }
                Err(RunError::Timeout)
            }
        }
    }
}

/// Uniform in `[0, 1)`: the standard library's keyed hash of a counter, keyed anew per operation. Good enough to
/// spread retries; nothing secret hangs on it.
fn unit(jitter: &RandomState, attempt: u32) -> f64 {
    // 53 bits fill a double's mantissa.
    (jitter.hash_one(attempt) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Reports to the breaker even when the caller goes away: a permit that never comes back would keep a half-open
/// breaker from ever closing.
struct Outcome<'a> {
    breaker: &'a Breaker,
    permit: Option<Permit>,
}

impl Outcome<'_> {
    fn report(mut self, success: bool) {
        if let Some(permit) = self.permit.take() {
            self.breaker.report(permit, success);
        }
    }
}

impl Drop for Outcome<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.breaker.report(permit, false);
        }
    }
}

#[cfg(test)]
mod tests;
