//! Circuit breaker: a dependency that keeps failing is left alone for a while (E1.7).
//!
//! [`Core`] is the machine, without clock or lock; [`Breaker`] shares it; [`Breakers`] has one per dependency: the
//! sidecar, and each app that is called. What counts is decided by the client: only transient errors are failures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::health::HealthEntry;
use crate::{Environment, Error};

/// Outcomes older than this no longer count.
const WINDOW: Duration = Duration::from_secs(30);
/// The window moves on in steps of a tenth.
const SLICES: u32 = 10;
/// Dependencies with a breaker of their own; the name of an app may come from a request.
const MAX_DEPENDENCIES: usize = 256;

/// When a breaker opens and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    threshold: u32,
    open_for: Duration,
}

impl Default for BreakerPolicy {
    /// Opens when at least half of at least 5 calls within 30 s failed, for 30 s.
    fn default() -> Self {
        Self {
            threshold: 5,
            open_for: Duration::from_secs(30),
        }
    }
}

impl BreakerPolicy {
    /// A breaker that looks at no fewer than `threshold` calls (1–1000) and stays open for `open_for` (1 s–1 h).
    ///
    /// # Errors
    /// [`Error::Invalid`] out of these ranges.
    pub fn new(threshold: u32, open_for: Duration) -> Result<Self, Error> {
        if !(1..=1000).contains(&threshold) {
            return Err(Error::Invalid(format!(
                "DAPR_CIRCUIT_BREAKER_THRESHOLD must be from 1 to 1000, not {threshold}"
            )));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&open_for) {
            return Err(Error::Invalid(format!(
                "DAPR_CIRCUIT_BREAKER_DURATION_SECONDS must be from 1 to 3600, not {}",
                open_for.as_secs_f64()
            )));
        }
        Ok(Self { threshold, open_for })
    }

    /// `DAPR_CIRCUIT_BREAKER_THRESHOLD` and `DAPR_CIRCUIT_BREAKER_DURATION_SECONDS`, or the defaults.
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
        let threshold = number("DAPR_CIRCUIT_BREAKER_THRESHOLD", 5)?;
        Self::new(
            u32::try_from(threshold).unwrap_or(u32::MAX),
            Duration::from_secs(number("DAPR_CIRCUIT_BREAKER_DURATION_SECONDS", 30)?),
        )
    }
}

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Every call.
    Closed,
    /// None.
    Open,
    /// One, whose outcome decides.
    HalfOpen,
}

/// Failures and calls of one slice of the window.
#[derive(Debug, Clone, Copy, Default)]
struct Slice {
    number: u64,
    calls: u32,
    failures: u32,
}

/// The machine. Times are since an origin that the caller chooses.
#[derive(Debug)]
struct Core {
    policy: BreakerPolicy,
    slices: [Slice; SLICES as usize],
    /// The end of the break, while the circuit is not closed.
    open_until: Option<Duration>,
    trial: bool,
}

impl Core {
    fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            slices: [Slice::default(); SLICES as usize],
            open_until: None,
            trial: false,
        }
    }

    fn state(&self, now: Duration) -> BreakerState {
        match self.open_until {
            None => BreakerState::Closed,
            Some(end) if now < end => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// Whether a call may go out; if not, after what time it is worth asking again. `Ok(true)` is the trial.
    fn admit(&mut self, now: Duration) -> Result<bool, Duration> {
        match self.open_until {
            None => Ok(false),
            Some(end) => {
                let left = end.saturating_sub(now);
                if !left.is_zero() {
                    return Err(left);
                }
                if std::mem::replace(&mut self.trial, true) {
                    return Err(WINDOW / SLICES);
                }
                Ok(true)
            }
        }
    }

    /// Takes in an outcome; `None` is a call that was given up without one.
    fn record(&mut self, now: Duration, trial: bool, failed: Option<bool>) {
        if trial {
            self.trial = false;
            match failed {
                Some(false) => self.close(),
                Some(true) => self.open_until = Some(now + self.policy.open_for),
                None => {}
            }
            return;
        }
        let Some(failed) = failed.filter(|_| self.open_until.is_none()) else {
            return;
        };
        let length = WINDOW / SLICES;
        let number = u64::try_from(now.as_nanos() / length.as_nanos()).unwrap_or(u64::MAX);
        let index = usize::try_from(number % u64::from(SLICES)).unwrap_or_default();
        let slice = &mut self.slices[index];
        if slice.number != number {
            *slice = Slice {
                number,
                ..Slice::default()
            };
        }
        slice.calls = slice.calls.saturating_add(1);
        slice.failures = slice.failures.saturating_add(u32::from(failed));
        let oldest = number.saturating_sub(u64::from(SLICES) - 1);
        let (calls, failures) = self.slices.iter().filter(|slice| slice.number >= oldest).fold(
            (0_u64, 0_u64),
            |(calls, failures), slice| {
                (
                    calls + u64::from(slice.calls),
                    failures + u64::from(slice.failures),
                )
            },
        );
        if calls >= u64::from(self.policy.threshold) && failures * 2 >= calls {
            self.open_until = Some(now + self.policy.open_for);
        }
    }

    /// Ends the break early: the next call is the trial.
    fn half_open(&mut self, now: Duration) {
        if let Some(end) = &mut self.open_until {
            *end = now.min(*end);
        }
    }

    fn close(&mut self) {
        self.open_until = None;
        self.trial = false;
        self.slices = [Slice::default(); SLICES as usize];
    }
}

/// The breaker of one dependency.
#[derive(Debug)]
pub struct Breaker {
    dependency: String,
    origin: Instant,
    core: Mutex<Core>,
}

impl Breaker {
    fn new(dependency: String, policy: BreakerPolicy) -> Arc<Self> {
        Arc::new(Self {
            dependency,
            origin: Instant::now(),
            core: Mutex::new(Core::new(policy)),
        })
    }

    /// Lets a call out, or says at once that it may not go.
    ///
    /// # Errors
    /// [`Error::CircuitOpen`].
    pub fn admit(self: &Arc<Self>) -> Result<Permit, Error> {
        match self.core.lock().admit(self.origin.elapsed()) {
            Ok(trial) => Ok(Permit {
                breaker: Arc::clone(self),
                trial,
                open: true,
            }),
            Err(retry_after) => Err(Error::CircuitOpen {
                dependency: self.dependency.clone(),
                retry_after,
            }),
        }
    }

    /// The dependency was seen to work: the next call may try it.
    pub(crate) fn half_open(&self) {
        self.core.lock().half_open(self.origin.elapsed());
    }

    fn state(&self) -> BreakerState {
        self.core.lock().state(self.origin.elapsed())
    }
}

/// A call under way. Dropped without an outcome it counts for nothing.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<Breaker>,
    trial: bool,
    open: bool,
}

impl Permit {
    /// Says what came of the call.
    pub fn record(mut self, failed: bool) {
        self.settle(Some(failed));
    }

    fn settle(&mut self, failed: Option<bool>) {
        if std::mem::take(&mut self.open) {
            let now = self.breaker.origin.elapsed();
            let mut core = self.breaker.core.lock();
            let was = core.open_until.is_some();
            core.record(now, self.trial, failed);
            if !was && core.open_until.is_some() {
                tracing::warn!(
                    dependency = self.breaker.dependency,
                    "too many calls failed: the circuit is open"
                );
            } else if was && core.open_until.is_none() {
                tracing::info!(
                    dependency = self.breaker.dependency,
                    "the circuit is closed again"
                );
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.settle(None);
    }
}

/// The breakers of a client, or of a service that calls others by other ways than the client.
#[derive(Debug)]
pub struct Breakers {
    policy: BreakerPolicy,
    sidecar: Arc<Breaker>,
    apps: Mutex<BTreeMap<String, Arc<Breaker>>>,
}

impl Breakers {
    /// All closed.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            sidecar: Breaker::new("dapr".to_owned(), policy),
            apps: Mutex::default(),
        }
    }

    pub(crate) fn sidecar(&self) -> &Arc<Breaker> {
        &self.sidecar
    }

    /// The breaker of an app. When there are too many, those that have nothing to tell are forgotten.
    pub fn app(&self, app_id: &str) -> Arc<Breaker> {
        let mut apps = self.apps.lock();
        if let Some(breaker) = apps.get(app_id) {
            return Arc::clone(breaker);
        }
        if apps.len() >= MAX_DEPENDENCIES {
            apps.retain(|_, breaker| breaker.state() != BreakerState::Closed);
        }
        let breaker = Breaker::new(format!("app {app_id}"), self.policy);
        if apps.len() < MAX_DEPENDENCIES {
            apps.insert(app_id.to_owned(), Arc::clone(&breaker));
        }
        breaker
    }

    /// Unhealthy while the sidecar or an app is left alone, naming them.
    pub fn entry(&self) -> HealthEntry {
        let apps = self.apps.lock();
        let open: Vec<&str> = std::iter::once(&self.sidecar)
            .chain(apps.values())
            .filter(|breaker| breaker.state() != BreakerState::Closed)
            .map(|breaker| breaker.dependency.as_str())
            .collect();
        if open.is_empty() {
            HealthEntry::healthy("all circuits are closed")
        } else {
            HealthEntry::unhealthy(format!("open: {}", open.join(", ")))
        }
    }

    /// What the breaker of the sidecar lets through.
    pub(crate) fn sidecar_state(&self) -> BreakerState {
        self.sidecar.state()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn call(core: &mut Core, now: Duration, failed: bool) -> Result<(), Duration> {
        let trial = core.admit(now)?;
        core.record(now, trial, Some(failed));
        Ok(())
    }

    #[test]
    fn half_of_enough_calls_open_it_and_one_good_trial_closes_it() {
        let mut core = Core::new(BreakerPolicy::default());
        for failed in [true, true, false, false] {
            call(&mut core, s(1), failed).unwrap();
        }
        assert_eq!(core.state(s(1)), BreakerState::Closed, "four calls are too few");
        call(&mut core, s(2), true).unwrap();
        assert_eq!(core.admit(s(3)), Err(s(29)));
        // The trial fails: another break.
        assert_eq!(core.admit(s(32)), Ok(true));
        assert!(core.admit(s(32)).is_err(), "only one trial at a time");
        core.record(s(32), true, Some(true));
        assert_eq!(core.admit(s(33)), Err(s(29)));
        call(&mut core, s(62), false).unwrap();
        assert_eq!(core.state(s(62)), BreakerState::Closed);
        call(&mut core, s(62), true).unwrap();
        assert_eq!(
            core.state(s(62)),
            BreakerState::Closed,
            "what was before is forgotten"
        );
    }

    #[test]
    fn old_failures_leave_the_window() {
        let mut core = Core::new(BreakerPolicy::default());
        for _ in 0..4 {
            call(&mut core, s(0), true).unwrap();
        }
        call(&mut core, s(31), true).unwrap();
        assert_eq!(core.state(s(31)), BreakerState::Closed);
    }

    #[test]
    fn a_trial_that_was_given_up_frees_its_place() {
        let mut core = Core::new(BreakerPolicy::new(1, s(1)).unwrap());
        call(&mut core, s(0), true).unwrap();
        assert_eq!(core.admit(s(1)), Ok(true));
        core.record(s(1), true, None);
        assert_eq!(core.admit(s(1)), Ok(true));
    }

    #[test]
    fn a_dependency_seen_to_work_is_tried_early() {
        let mut core = Core::new(BreakerPolicy::new(1, s(30)).unwrap());
        call(&mut core, s(1), true).unwrap();
        core.half_open(s(2));
        assert_eq!(core.admit(s(2)), Ok(true));
        core.record(s(2), true, Some(false));
        assert_eq!(core.state(s(2)), BreakerState::Closed);
    }

    #[test]
    fn ranges_hold() {
        for (name, value) in [
            ("DAPR_CIRCUIT_BREAKER_THRESHOLD", "0"),
            ("DAPR_CIRCUIT_BREAKER_THRESHOLD", "1001"),
            ("DAPR_CIRCUIT_BREAKER_DURATION_SECONDS", "0"),
            ("DAPR_CIRCUIT_BREAKER_DURATION_SECONDS", "3601"),
            ("DAPR_CIRCUIT_BREAKER_DURATION_SECONDS", "long"),
        ] {
            let environment = Environment::from([(name.to_owned(), value.to_owned())]);
            assert!(
                BreakerPolicy::from_environment(&environment).is_err(),
                "{name}={value}"
            );
        }
    }

    #[test]
    fn dependencies_are_bounded_but_open_ones_are_kept() {
        let breakers = Breakers::new(BreakerPolicy::new(1, s(30)).unwrap());
        breakers.app("down").admit().unwrap().record(true);
        for n in 0..2 * MAX_DEPENDENCIES {
            breakers.app(&format!("app-{n}")).admit().unwrap().record(false);
        }
        assert!(breakers.apps.lock().len() <= MAX_DEPENDENCIES);
        assert!(matches!(
            breakers.app("down").admit(),
            Err(Error::CircuitOpen { .. })
        ));
        assert_eq!(breakers.entry(), HealthEntry::unhealthy("open: app down"));
    }

    proptest! {
        #[test]
        fn an_open_circuit_always_lets_a_trial_through_in_the_end(
            steps in proptest::collection::vec((0_u64..5000, any::<Option<bool>>()), 0..200),
        ) {
            let policy = BreakerPolicy::new(3, s(2)).unwrap();
            let mut core = Core::new(policy);
            let mut now = Duration::ZERO;
            for (millis, outcome) in steps {
                now += Duration::from_millis(millis);
                if let Ok(trial) = core.admit(now) {
                    core.record(now, trial, outcome);
                }
            }
            prop_assert!(core.admit(now + policy.open_for).is_ok());
        }
    }
}
