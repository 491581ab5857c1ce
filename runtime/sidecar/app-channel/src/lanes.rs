//! Connections to a gRPC app: servers may bound the streams of one (grpc-go's and tonic's defaults differ, 100 is
//! common), so further ones are opened while all are full (upstream `pkg/api/grpc/manager/pool.go`).

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Relaxed},
};

/// Calls per connection before another one is opened (upstream `grpcMaxConcurrentStreams`).
const PER_LANE: usize = 100;
/// Most connections; calls beyond wait for a stream.
const MAX_LANES: usize = 64;

/// Clients of one app, each with a connection of its own. The first one serves alone until it is full.
pub(crate) struct Lanes<T> {
    make: Box<dyn Fn() -> T + Send + Sync>,
    lanes: RwLock<Vec<Arc<Lane<T>>>>,
}

struct Lane<T> {
    client: T,
    calls: AtomicUsize,
}

/// A call's place; free again when dropped.
pub(crate) struct Place<T>(Arc<Lane<T>>);

impl<T> Lanes<T> {
    pub(crate) fn new(make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self {
            make: Box::new(make),
            lanes: RwLock::default(),
        }
    }

    /// A place for one more call.
    pub(crate) fn place(&self) -> Place<T> {
        if let Some(place) = self.free() {
            return place;
        }
        let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        let least = lanes.iter().min_by_key(|lane| lane.calls.load(Relaxed)).cloned();
        let lane = match least {
            Some(lane) if lane.calls.load(Relaxed) < PER_LANE || lanes.len() >= MAX_LANES => lane,
            _ => {
                let lane = Arc::new(Lane {
                    client: (self.make)(),
                    calls: AtomicUsize::new(0),
                });
                lanes.push(Arc::clone(&lane));
                lane
            }
        };
        lane.calls.fetch_add(1, AcqRel);
        Place(lane)
    }

    fn free(&self) -> Option<Place<T>> {
        let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        for lane in lanes.iter() {
            if lane.calls.fetch_add(1, AcqRel) < PER_LANE {
                return Some(Place(Arc::clone(lane)));
            }
            lane.calls.fetch_sub(1, AcqRel);
        }
        None
    }
}

impl<T> Place<T> {
    pub(crate) fn client(&self) -> &T {
        &self.0.client
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_makes_another() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let lanes = Lanes::new(move || count.fetch_add(1, Relaxed));
        let mut places: Vec<_> = (0..250).map(|_| lanes.place()).collect();
        assert_eq!(made.load(Relaxed), 3);
        places.truncate(50);
        assert_eq!(*lanes.place().client(), 0, "the first lane is preferred");
        assert_eq!(made.load(Relaxed), 3);
    }
}
