//! Where a policy is evaluated: quick ones at once, slow ones beside the executor, not too many at a time.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use regorus::{Engine, Value, utils::limits::ExecutionTimerConfig};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const RULE: &str = "data.http.allow";
/// Steps between looks at the clock.
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::new(256).unwrap();
/// A longer body is not even tried on the executor: reading it takes its time before the policy begins.
const MAX_BODY_AT_ONCE: usize = 64 << 10;
/// A quick evaluation may have lost the processor meanwhile: it gets this many tries before it waits behind slow ones.
const TRIES: usize = 2;
/// After an evaluation that was not quick, this many go aside without a try.
const ASIDE: u32 = 63;

/// What bounds the evaluation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How long a policy may think about one request; longer is no verdict.
    pub(super) thinking: Duration,
    /// How long it may keep the executor before it is taken aside and begins anew.
    pub(super) at_once: Duration,
    /// How many may think at the same time aside.
    pub(super) places: usize,
    /// How many requests may wait for a place.
    pub(super) waiting: usize,
    /// How long one may wait.
    pub(super) patience: Duration,
}

impl Default for Limits {
    /// A second of thinking; two milliseconds at once, a multiple of what common policies take; as many aside as there
    /// are processors, so that the threads of the blocking pool stay free for others.
    fn default() -> Self {
        Self {
            thinking: Duration::from_secs(1),
            at_once: Duration::from_millis(2),
            places: std::thread::available_parallelism().map_or(2, |processors| processors.get().max(2)),
            waiting: 256,
            patience: Duration::from_secs(2),
        }
    }
}

/// Why there is no result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Too many slow evaluations at once.
    Overloaded,
    /// The policy did not come to an end, or to a bad one.
    Policy(String),
}

/// What a policy sees.
pub(super) enum Input {
    /// Read, and cheap to clone.
    Small(Value),
    /// With a body that takes time to be read.
    Large(serde_json::Value, Bytes),
}

impl Input {
    /// Of a request without its body, and the body.
    pub(super) fn new(request: serde_json::Value, body: Bytes) -> Self {
        let large = body.len() > MAX_BODY_AT_ONCE;
        let input = Self::Large(request, body);
        if large {
            input
        } else {
            Self::Small(input.into_value())
        }
    }

    pub(super) fn into_value(self) -> Value {
        match self {
            Self::Small(value) => value,
            Self::Large(mut request, body) => {
                request["body"] = String::from_utf8_lossy(&body).into();
                Value::from(json!({ "request": request }))
            }
        }
    }
}

/// A prepared policy with its places.
#[derive(Debug)]
pub(super) struct Evaluation {
    /// Cloned per request, which shares the policy.
    engine: Engine,
    limits: Limits,
    places: Arc<Semaphore>,
    queue: Semaphore,
    /// How many evaluations go aside before one is tried at once again.
    aside: AtomicU32,
}

impl Evaluation {
    pub(super) fn new(engine: Engine, limits: Limits) -> Self {
        Self {
            engine,
            limits,
            places: Arc::new(Semaphore::new(limits.places)),
            queue: Semaphore::new(limits.waiting),
            aside: AtomicU32::new(0),
        }
    }

    /// Evaluates once, which prepares the rules for all clones and finds what only the analysis of the whole finds.
    /// Blocks for as long as the policy may think.
    pub(super) fn prepare(&mut self, input: Input) -> Result<Value, String> {
        evaluate(&mut self.engine, input.into_value(), self.limits.thinking)
    }

    /// The policy's answer. Safe to drop: an evaluation aside ends by itself, and keeps its place until then.
    pub(super) async fn run(&self, input: Input) -> Result<Value, Failure> {
        let mut place = self.place_of_a_slow_one();
        if place.is_none()
            && let Input::Small(value) = &input
        {
            for _ in 0..TRIES {
                let (mut engine, limit) = (self.engine.clone(), self.limits.at_once);
                let begun = Instant::now();
                let result = evaluate(&mut engine, value.clone(), limit);
                if begun.elapsed() < limit {
                    return result.map_err(Failure::Policy);
                }
                self.aside.store(ASIDE, Ordering::Relaxed);
                place = self.free_place();
                if place.is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let place = match place {
            Some(place) => place,
            None => self.place().await.ok_or(Failure::Overloaded)?,
        };
        let (mut engine, limit) = (self.engine.clone(), self.limits.thinking);
        let work = move || {
            let result = evaluate(&mut engine, input.into_value(), limit);
            drop(place);
            result
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Failure::Policy(error.to_string()))?
            .map_err(Failure::Policy)
    }

    /// A place at once after a slow evaluation, without a try. Only a free one: a quick request never waits behind
    /// slow ones.
    fn place_of_a_slow_one(&self) -> Option<OwnedSemaphorePermit> {
        self.aside
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .ok()?;
        self.free_place()
    }

    fn free_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let _queued = self.queue.try_acquire().ok()?;
        let place = Arc::clone(&self.places).acquire_owned();
        tokio::time::timeout(self.limits.patience, place).await.ok()?.ok()
    }
}

/// One evaluation within a limit. Past the limit nothing is believed, whatever the engine made of being stopped: a
/// rule that was cut off must not leave its default to be the verdict.
fn evaluate(engine: &mut Engine, input: Value, limit: Duration) -> Result<Value, String> {
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit,
        check_interval: CHECK_INTERVAL,
    });
    engine.set_input(input);
    let begun = Instant::now();
    let result = engine.eval_rule(RULE.to_owned());
    if begun.elapsed() >= limit {
        return Err(format!("the policy thought for more than {limit:?}"));
    }
    result.map_err(|error| error.to_string())
}
