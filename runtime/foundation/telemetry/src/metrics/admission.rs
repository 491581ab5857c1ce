//! Which paths become labels of their own (ours; design D9, pains F2).
//!
//! A label per path is Dapr's default and its best known leak. Here the first few paths get their series at once, a
//! further one when it has proved that it comes back, and what is left is counted under
//! [`super::OVERFLOW_LABEL_VALUE`]: routes are labelled, ids and scanners are not.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

use parking_lot::{Mutex, RwLock};

use super::MAX_SERIES_PER_FAMILY;

/// Paths admitted without having proved anything. Six families carry a path: thirty of each, and their overflow, stay
/// below two hundred series.
const AT_ONCE: usize = 30;

/// Sightings that prove that a path comes back.
const ENOUGH: u8 = 8;

/// Counters per row, a power of two, and rows.
const WIDTH: usize = 4_096;
const ROWS: usize = 4;

/// Sightings after which all counters are halved: a million paths seen once each never reach [`ENOUGH`].
const WINDOW: usize = WIDTH;

pub(super) struct Admission {
    at_once: usize,
    admitted: RwLock<HashSet<Box<str>>>,
    sightings: Mutex<Sightings>,
}

impl Admission {
    /// `known` paths beside the first few are admitted at once: the configured patterns.
    pub(super) fn new(known: usize) -> Self {
        Self {
            at_once: AT_ONCE.saturating_add(known),
            admitted: RwLock::default(),
            sightings: Mutex::new(Sightings::default()),
        }
    }

    /// Whether the path gets a label of its own from now on. Asked where no series was found, so not per request.
    pub(super) fn admits(&self, path: &str) -> bool {
        let known = {
            let admitted = self.admitted.read();
            if admitted.contains(path) {
                return true;
            }
            admitted.len()
        };
        if known >= MAX_SERIES_PER_FAMILY
            || (known >= self.at_once && self.sightings.lock().count(path) < ENOUGH)
        {
            return false;
        }
        self.admitted.write().insert(path.into());
        true
    }
}

/// A count-min sketch that forgets: fixed in size, and never below the truth within a window.
struct Sightings {
    hasher: RandomState,
    /// Empty until the first count: most sidecars never need it.
    counters: Vec<u8>,
    since_halving: usize,
}

impl Default for Sightings {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            counters: Vec::new(),
            since_halving: 0,
        }
    }
}

impl Sightings {
    /// Counts one sighting and gives the number so far.
    fn count(&mut self, path: &str) -> u8 {
        if self.counters.is_empty() {
            self.counters = vec![0; WIDTH * ROWS];
        }
        if self.since_halving == WINDOW {
            self.counters.iter_mut().for_each(|counter| *counter /= 2);
            self.since_halving = 0;
        }
        self.since_halving += 1;
        let mut hash = self.hasher.hash_one(path);
        let mut least = u8::MAX;
        for row in 0..ROWS {
            let column = usize::try_from(hash).unwrap_or(usize::MAX) % WIDTH;
            hash >>= WIDTH.trailing_zeros();
            let counter = &mut self.counters[row * WIDTH + column];
            *counter = counter.saturating_add(1);
            least = least.min(*counter);
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_admitted_ids_are_not() {
        let admission = Admission::new(0);
        let mut admitted = 0;
        let mut route_at = None;
        for number in 0..1_000_000 {
            admitted += usize::from(admission.admits(&format!("/things/{number}")));
            // One route among them, in one of a hundred requests.
            if number % 100 == 0 && admission.admits("/route") && route_at.is_none() {
                route_at = Some(number);
            }
        }
        assert!(admitted <= AT_ONCE, "{admitted}");
        assert!(route_at.is_some_and(|at| at < 10_000), "{route_at:?}");
        assert!(admission.admits("/things/0"), "what was admitted stays");
    }
}
