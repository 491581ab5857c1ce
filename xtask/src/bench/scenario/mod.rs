//! The scenarios. Each starts what it needs, loads it, and gives values by key; `targets` and `rows` say what a key means.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::{Plan, metrics::Values, nginx, rig::Side};

mod calls;
mod events;
mod grpc;
mod memory;
mod start;
mod state;
mod upload;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Both,
    /// The reference has nothing like it.
    Ours,
    /// Two nginx hops, for scale.
    Nginx,
}

/// A scenario by name.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) who: Who,
    /// Adds its values one by one: what was measured before a failure stays.
    pub(crate) run: fn(&Plan, &Side, &mut Values) -> anyhow::Result<()>,
}

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "start",
        who: Who::Both,
        run: start::start,
    },
    Scenario {
        name: "memory",
        who: Who::Both,
        run: memory::memory,
    },
    Scenario {
        name: "calls",
        who: Who::Both,
        run: calls::calls,
    },
    Scenario {
        name: "nginx",
        who: Who::Nginx,
        run: nginx::two_hops,
    },
    Scenario {
        name: "grpc",
        who: Who::Both,
        run: grpc::grpc,
    },
    Scenario {
        name: "state",
        who: Who::Both,
        run: state::state,
    },
    Scenario {
        name: "events",
        who: Who::Both,
        run: events::events,
    },
    Scenario {
        name: "bulk",
        who: Who::Both,
        run: events::bulk,
    },
    Scenario {
        name: "queue",
        who: Who::Ours,
        run: events::queue,
    },
    Scenario {
        name: "upload",
        who: Who::Both,
        run: upload::upload,
    },
];

/// Connections for throughput: enough to keep two cores busy, few enough to stay out of queues.
pub(crate) const BUSY: &str = "16";

/// Connections at a steady rate.
const STEADY: &str = "8";

/// The rate at which the requirements ask for latencies (A10.1–A10.3).
const RATE: &str = "1000";

/// The request of all invocations, and the event of all publishing: a hundred bytes of JSON.
pub(crate) const HUNDRED_BYTES: &[&str] = &[
    "--method",
    "POST",
    "--header",
    "Content-Type: application/json",
    "--event-bytes",
    "100",
];

/// Joins arguments and adds how long to run.
pub(crate) fn timed<'a>(parts: &[&[&'a str]], seconds: &'a str) -> Vec<&'a str> {
    [&parts.concat()[..], &["--seconds", seconds]].concat()
}

/// A number of a report.
pub(crate) fn number(report: &Value, key: &str) -> anyhow::Result<f64> {
    report[key]
        .as_f64()
        .with_context(|| format!("the report has no {key}: {report}"))
}

/// All requests of a report, those of the warm-up too: all cost CPU.
pub(crate) fn requests(report: &Value) -> anyhow::Result<f64> {
    Ok(number(report, "requests")? + number(report, "warm_up")?)
}

/// What one request cost the generator.
fn generator(report: &Value) -> anyhow::Result<f64> {
    Ok(number(report, "cpu_ms")? * 1000.0 / requests(report)?)
}

pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
