//! A service that is replaced while requests run (design D13).

use std::sync::Arc;

use arc_swap::ArcSwap;

/// What answers now. Servers ask once per request, so that a connection outlives what it was opened to, and a request
/// under way ends on what it began with. Cheap to clone; clones share the service.
#[derive(Debug)]
pub struct Switch<T>(Arc<ArcSwap<T>>);

impl<T> Switch<T> {
    /// What answers a request that comes now.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Lets another one answer from now on.
    pub fn replace(&self, service: T) {
        self.0.store(Arc::new(service));
    }
}

impl<T> Clone for Switch<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> From<T> for Switch<T> {
    fn from(service: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(service)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_began_with_one_keeps_it() {
        let switch = Switch::from(1);
        let (shared, began) = (switch.clone(), switch.current());
        shared.replace(2);
        assert_eq!((*began, *switch.current()), (1, 2));
    }
}
