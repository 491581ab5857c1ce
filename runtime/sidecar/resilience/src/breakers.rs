//! The instances of circuit breakers, kept per target.

use std::{collections::HashMap, sync::Arc};

use outrigger_engine_resiliency::{BreakerSettings, CircuitBreaker, Permit, Rejection, State, Transition};
use parking_lot::Mutex;
use tokio::time::Instant;

/// One breaker, shared by all operations on its target.
#[derive(Debug)]
pub(crate) struct Breaker(Mutex<CircuitBreaker>);

impl Breaker {
    fn new(template: &BreakerSettings, name: String) -> Self {
        Self(Mutex::new(CircuitBreaker::new(
            BreakerSettings {
                name,
                ..template.clone()
            },
            now(),
        )))
    }

    pub(crate) fn state(&self) -> State {
        let mut breaker = self.0.lock();
        let (state, transition) = breaker.state(now());
        log(breaker.name(), transition);
        state
    }

    pub(crate) fn allow(&self) -> Result<Permit, Rejection> {
        let mut breaker = self.0.lock();
        let (answer, transition) = breaker.allow(now());
        log(breaker.name(), transition);
        answer
    }

    pub(crate) fn report(&self, permit: Permit, success: bool) {
        let mut breaker = self.0.lock();
        let transition = breaker.report(permit, success, now());
        log(breaker.name(), transition);
    }
}

/// The runtime's clock, which tests can pause.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn log(name: &str, transition: Option<Transition>) {
    if let Some(Transition { from, to }) = transition {
        tracing::info!(target: "dapr.runtime", "Circuit breaker {name:?} changed state from {from} to {to}");
    }
}

/// The most recently used breakers of one app or actor type.
#[derive(Debug)]
struct Cache {
    capacity: usize,
    clock: u64,
    entries: HashMap<String, (u64, Arc<Breaker>)>,
}

impl Cache {
    fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            clock: 0,
            entries: HashMap::new(),
        }
    }

    fn get(&mut self, key: &str, template: &BreakerSettings) -> Arc<Breaker> {
        self.clock += 1;
        if let Some((used, breaker)) = self.entries.get_mut(key) {
            *used = self.clock;
            return Arc::clone(breaker);
        }
        if self.entries.len() >= self.capacity {
            // Rare (a new endpoint beyond the bound), so a scan beats keeping an order on every use.
            let oldest = self
                .entries
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
            }
        }
        let breaker = Arc::new(Breaker::new(template, key.to_owned()));
        self.entries
            .insert(key.to_owned(), (self.clock, Arc::clone(&breaker)));
        breaker
    }
}

/// How many apps or actor types keep breakers under default policies; targets that resources name always fit.
const MAX_TARGETS: usize = 10_000;

/// Caches by app id or actor type.
#[derive(Debug, Default)]
pub(crate) struct Caches(Mutex<HashMap<String, Cache>>);

impl Caches {
    pub(crate) fn get(
        &self,
        target: &str,
        key: &str,
        size: usize,
        template: &BreakerSettings,
    ) -> Arc<Breaker> {
        let mut caches = self.0.lock();
        if let Some(cache) = caches.get_mut(target) {
            return cache.get(key, template);
        }
        if caches.len() >= MAX_TARGETS {
            // App ids come from callers; forgetting all states is the bounded answer to an endless list of them.
            caches.clear();
        }
        caches
            .entry(target.to_owned())
            .or_insert_with(|| Cache::new(size))
            .get(key, template)
    }
}

/// One breaker per component for the life of the provider, shared by both directions: whichever comes first decides
/// the template.
#[derive(Debug, Default)]
pub(crate) struct ComponentBreakers(Mutex<HashMap<String, Arc<Breaker>>>);

impl ComponentBreakers {
    pub(crate) fn get(&self, component: &str, template: &BreakerSettings) -> Arc<Breaker> {
        let mut breakers = self.0.lock();
        if let Some(breaker) = breakers.get(component) {
            return Arc::clone(breaker);
        }
        let breaker = Arc::new(Breaker::new(template, format!("{}-{component}", template.name)));
        breakers.insert(component.to_owned(), Arc::clone(&breaker));
        breaker
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_breaker_goes() {
        let caches = Caches::default();
        let template = BreakerSettings::default();
        let first = caches.get("app", "a", 2, &template);
        let second = caches.get("app", "b", 2, &template);
        assert!(Arc::ptr_eq(&first, &caches.get("app", "a", 2, &template)));
        caches.get("app", "c", 2, &template);
        assert!(Arc::ptr_eq(&first, &caches.get("app", "a", 2, &template)));
        assert!(!Arc::ptr_eq(&second, &caches.get("app", "b", 2, &template)));
    }

    #[test]
    fn both_directions_of_a_component_share() {
        let breakers = ComponentBreakers::default();
        let first = breakers.get("store", &BreakerSettings::default());
        let other = BreakerSettings {
            max_requests: 9,
            ..BreakerSettings::default()
        };
        assert!(Arc::ptr_eq(&first, &breakers.get("store", &other)));
    }
}
