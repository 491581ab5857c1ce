//! The publisher: numbered events at a steady rate. One that is not acknowledged is sent again under its number.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::app::NUMBER;
use crate::bench::http;

const THREADS: u64 = 4;

/// An acknowledged event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// When it was acknowledged.
    pub(crate) at: Instant,
    /// Tries it took. More than one may have arrived.
    pub(crate) tries: u32,
}

/// What has been acknowledged so far, and how often it was not.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    pub(crate) by_number: HashMap<u64, Sent>,
    pub(crate) refused: u64,
}

/// Publishing threads.
#[derive(Debug)]
pub(crate) struct Publisher {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    acknowledged: Arc<Mutex<Acknowledged>>,
    /// The sidecar's port: another one after the sidecar was replaced.
    port: Arc<AtomicU16>,
}

impl Publisher {
    /// Publishes `rate` events a second until stopped.
    pub(crate) fn start(port: u16, rate: u64) -> Self {
        let publisher = Self {
            stop: Arc::default(),
            threads: Vec::new(),
            acknowledged: Arc::default(),
            port: Arc::new(AtomicU16::new(port)),
        };
        let next = Arc::new(AtomicU64::new(0));
        let pause = Duration::from_secs(1) * u32::try_from(THREADS).unwrap_or(1)
            / u32::try_from(rate.max(1)).unwrap_or(u32::MAX);
        let threads = (0..THREADS)
            .map(|_| {
                let (stop, acknowledged, port, next) = (
                    Arc::clone(&publisher.stop),
                    Arc::clone(&publisher.acknowledged),
                    Arc::clone(&publisher.port),
                    Arc::clone(&next),
                );
                thread::spawn(move || {
                    let mut due = Instant::now();
                    while !stop.load(Ordering::Relaxed) {
                        publish(&stop, &acknowledged, &port, next.fetch_add(1, Ordering::Relaxed));
                        due += pause;
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        // After a break the rate goes on, not a flood.
                        due = due.max(Instant::now());
                    }
                })
            })
            .collect();
        Self { threads, ..publisher }
    }

    /// Goes on at another sidecar.
    pub(crate) fn move_to(&self, port: u16) {
        self.port.store(port, Ordering::Relaxed);
    }

    /// Waits for what is under way and gives what was acknowledged.
    pub(crate) fn finish(self) -> Acknowledged {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        std::mem::take(&mut *self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sends one event until it is acknowledged, or publishing ends.
fn publish(stop: &AtomicBool, acknowledged: &Mutex<Acknowledged>, port: &AtomicU16, number: u64) {
    let body = format!("{{{NUMBER}{number}}}");
    for tries in 1.. {
        let answer = http::request(
            port.load(Ordering::Relaxed),
            "POST",
            "/v1.0/publish/bus/numbers",
            &body,
        );
        let mut acknowledged = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        if answer.is_ok_and(|(status, _)| status == 204) {
            let at = Instant::now();
            acknowledged.by_number.insert(number, Sent { at, tries });
            return;
        }
        acknowledged.refused += 1;
        drop(acknowledged);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
