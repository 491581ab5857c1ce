//! Steady load, open loop: every operation has a moment at which it is due, whatever became of those before it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::bench::http::Client;

/// Enough that a second without answers holds up no operation behind it.
const THREADS: u64 = 64;
/// A thread that wakes later than this was held up by what it asked: its wait counts.
const TIMER: Duration = Duration::from_millis(2);
/// What the kit waits before its retries (E1.6).
const RETRIES: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];

/// What is asked of a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// The service's `echo`, which must answer with what it was sent.
    Calls,
    /// By turns a value set and the same got: it must be the one that was acknowledged last.
    State,
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) due: Instant,
    pub(super) took: Duration,
    pub(super) succeeded: bool,
    /// Tries beyond the first.
    pub(super) retries: u32,
}

/// All operations so far, and why tries failed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) records: Vec<Record>,
    pub(super) failures: BTreeMap<String, u64>,
}

/// Threads at work.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    port: Arc<AtomicU16>,
    seen: Arc<Mutex<Seen>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Asks a sidecar `rate` times a second until finished, with the kit's retries or without any.
    pub(super) fn start(work: Work, port: u16, rate: u32, retrying: bool) -> Self {
        let port = Arc::new(AtomicU16::new(port));
        let stop = Arc::<AtomicBool>::default();
        let seen = Arc::<Mutex<Seen>>::default();
        let turn = Arc::<AtomicU64>::default();
        let begun = Instant::now();
        let threads = (0..THREADS)
            .map(|number| {
                let mut worker = Worker {
                    work,
                    port: Arc::clone(&port),
                    waits: if retrying { &RETRIES } else { &[] },
                    client: Client::default(),
                    key: format!("key-{number}"),
                    kept: None,
                };
                let (stop, seen, turn) = (Arc::clone(&stop), Arc::clone(&seen), Arc::clone(&turn));
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let number = turn.fetch_add(1, Ordering::Relaxed);
                        let due = begun + Duration::from_secs_f64(number as f64 / f64::from(rate));
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        let now = Instant::now();
                        let from = if now - due > TIMER { due } else { now };
                        let failures = worker.operate(number);
                        let record = Record {
                            due,
                            took: from.elapsed(),
                            succeeded: failures.len() <= worker.waits.len(),
                            retries: u32::try_from(failures.len().min(worker.waits.len())).unwrap_or(0),
                        };
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        seen.records.push(record);
                        for failure in failures {
                            *seen.failures.entry(failure).or_default() += 1;
                        }
                    }
                })
            })
            .collect();
        Self {
            stop,
            port,
            seen,
            threads,
        }
    }

    /// Goes on at another sidecar.
    pub(super) fn move_to(&self, port: u16) {
        self.port.store(port, Ordering::Relaxed);
    }

    /// Waits for what is under way and gives all that was seen.
    pub(super) fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One thread's connection, and what it knows of its key.
struct Worker {
    work: Work,
    port: Arc<AtomicU16>,
    waits: &'static [Duration],
    client: Client,
    key: String,
    /// What was set and not yet got; whether that was acknowledged.
    kept: Option<(u64, bool)>,
}

impl Worker {
    /// One operation with its retries: why each try failed that did.
    fn operate(&mut self, number: u64) -> Vec<String> {
        let mut failures = Vec::new();
        let reading = self.kept.take();
        loop {
            let outcome = match (self.work, reading) {
                (Work::Calls, _) => self.call(number),
                (Work::State, None) => self.set(number),
                (Work::State, Some((value, certain))) => self.get(value, certain),
            };
            let acknowledged = outcome.is_ok();
            failures.extend(outcome.err());
            let wait = self.waits.get(failures.len().saturating_sub(1));
            if acknowledged || wait.is_none() {
                if self.work == Work::State && reading.is_none() {
                    self.kept = Some((number, acknowledged));
                }
                return failures;
            }
            if let Some(wait) = wait {
                thread::sleep(*wait);
            }
        }
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, String), String> {
        self.client
            .request(self.port.load(Ordering::Relaxed), method, path, body)
            .map_err(|error| format!("{error:#}"))
    }

    fn call(&mut self, number: u64) -> Result<(), String> {
        let body = format!("{{\"n\":{number}}}");
        match self.ask("POST", "/v1.0/invoke/service/method/echo", &body)? {
            (200, answer) if answer == body => Ok(()),
            other => Err(said(&other)),
        }
    }

    fn set(&mut self, number: u64) -> Result<(), String> {
        let body = format!("[{{\"key\":\"{}\",\"value\":{number}}}]", self.key);
        match self.ask("POST", "/v1.0/state/statestore", &body)? {
            (204, _) => Ok(()),
            other => Err(said(&other)),
        }
    }

    fn get(&mut self, value: u64, certain: bool) -> Result<(), String> {
        let path = format!("/v1.0/state/statestore/{}", self.key);
        match self.ask("GET", &path, "")? {
            (200, answer) if answer == value.to_string() => Ok(()),
            (200, _) if certain => Err("another value than was acknowledged".to_owned()),
            (200 | 204, _) if !certain => Ok(()),
            other => Err(said(&other)),
        }
    }
}

/// An answer that is a failure, short enough to be counted by its text.
fn said((status, body): &(u16, String)) -> String {
    let start: String = body.chars().take(160).collect();
    format!("status {status}: {start}")
}
