//! The scenarios. Each starts what it needs, loads it, and gives values by key; `targets` and `rows` say what a key means.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::{
    Plan,
    metrics::Values,
    nginx,
    rig::{Pair, Side},
    soak,
};

mod calls;
mod engines;
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
    /// Whether it runs without being asked for by name.
    pub(crate) usual: bool,
    /// Adds its values one by one: what was measured before a failure stays.
    pub(crate) run: fn(&Plan, &Side, &mut Values) -> anyhow::Result<()>,
}

/// In the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "start",
        who: Who::Both,
        usual: true,
        run: start::start,
    },
    Scenario {
        name: "memory",
        who: Who::Both,
        usual: true,
        run: memory::memory,
    },
    Scenario {
        name: "calls",
        who: Who::Both,
        usual: true,
        run: calls::calls,
    },
    Scenario {
        name: "nginx",
        who: Who::Nginx,
        usual: true,
        run: nginx::two_hops,
    },
    Scenario {
        name: "grpc",
        who: Who::Both,
        usual: true,
        run: grpc::grpc,
    },
    Scenario {
        name: "state",
        who: Who::Both,
        usual: true,
        run: state::state,
    },
    Scenario {
        name: "events",
        who: Who::Both,
        usual: true,
        run: events::events,
    },
    Scenario {
        name: "bulk",
        who: Who::Both,
        usual: true,
        run: events::bulk,
    },
    Scenario {
        name: "queue",
        who: Who::Ours,
        usual: true,
        run: events::queue,
    },
    Scenario {
        name: "redis",
        who: Who::Both,
        usual: true,
        run: engines::redis,
    },
    Scenario {
        name: "postgres",
        who: Who::Both,
        usual: true,
        run: engines::postgres,
    },
    Scenario {
        name: "soak",
        who: Who::Ours,
        usual: false,
        run: soak::soak,
    },
    Scenario {
        name: "upload",
        who: Who::Both,
        usual: true,
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

/// Sets and gets for so many seconds in all; gives how many.
pub(crate) fn state_turn(plan: &Plan, pair: &Pair, store: &str, seconds: &str) -> anyhow::Result<f64> {
    let [sets, gets] = state::set_and_get(plan, pair, store, &["--connections", STEADY], seconds)?;
    Ok(requests(&sets.report)? + requests(&gets.report)?)
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
