//! What a run saw, and its line of JSON.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    clock::{cpu_millis, nanos},
    samples::Samples,
};

/// The moment behind the warm-up.
#[derive(Debug)]
pub(crate) struct Start {
    begun: Instant,
    /// The same moment on the clock that the app shares.
    nanos: u64,
    cpu: u64,
}

impl Start {
    pub(crate) fn now() -> Self {
        Self {
            begun: Instant::now(),
            nanos: nanos(),
            cpu: cpu_millis(),
        }
    }
}

/// Answers and failures.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    latency: Samples,
    requests: u64,
    errors: u64,
    last_error: Option<String>,
}

impl Seen {
    pub(crate) fn success(&mut self, took: Duration) {
        self.requests += 1;
        self.latency
            .add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn failure(&mut self, error: String) {
        self.errors += 1;
        self.last_error = Some(error);
    }

    /// Takes in what another task saw.
    pub(crate) fn add(&mut self, other: Self) {
        self.latency.merge(other.latency);
        self.requests += other.requests;
        self.errors += other.errors;
        self.last_error = other.last_error.or(self.last_error.take());
    }

    /// `warm_up` requests came before the start.
    pub(crate) fn report(&mut self, start: &Start, warm_up: u32) -> Value {
        let took = start.begun.elapsed().as_secs_f64();
        let mut report = self.latency.percentiles();
        report["requests"] = json!(self.requests);
        report["warm_up"] = json!(warm_up);
        report["errors"] = json!(self.errors);
        report["last_error"] = json!(self.last_error);
        report["seconds"] = json!(took);
        report["per_second"] = json!(self.requests as f64 / took);
        report["begun_ns"] = json!(start.nanos);
        report["cpu_ms"] = json!(cpu_millis() - start.cpu);
        report
    }
}
