//! State while its sidecar or its store is killed and comes back, round after round.

use std::{path::Path, thread, time::Duration};

use super::{
    fleet::{Ground, Names},
    load::{Load, Seen, Work},
};
use crate::{
    bench::{guard::Guard, rig::Side},
    chaos::brokers::Broker,
};

/// Operations a second.
const RATE: u32 = 200;
/// Between what a fault hit is back and the next one.
const CALM: Duration = Duration::from_millis(1000);

/// Store and what is killed.
pub(super) const TRIALS: &[(&str, &str)] = &[("redis", "sidecar"), ("redis", "store"), ("sqlite", "sidecar")];

/// What came of a trial.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) store: &'static str,
    pub(super) killed: &'static str,
    pub(super) rounds: u32,
    pub(super) seen: Seen,
}

impl Outcome {
    /// Share of operations that succeeded, with retries and at the first try.
    pub(super) fn success(&self) -> (f64, f64) {
        let share = |holds: &dyn Fn(&super::load::Record) -> bool| {
            let held = self.seen.records.iter().filter(|record| holds(record)).count();
            held as f64 / self.seen.records.len().max(1) as f64
        };
        (
            share(&|record| record.succeeded),
            share(&|record| record.succeeded && record.retries == 0),
        )
    }
}

/// Runs one trial: operations flow, and every second or so a SIGKILL.
pub(super) fn run(
    guard: &Guard,
    side: &Side,
    folder: &Path,
    (store, killed): (&'static str, &'static str),
    rounds: u32,
) -> anyhow::Result<Outcome> {
    let mut broker = Broker::start(store, guard, &folder.join("store"))?;
    let start = |broker: &Broker| {
        let ground = Ground {
            guard,
            side,
            folder,
            broker,
            names: Names::Registry,
        };
        ground.prepare()?;
        ground.sidecar("client", "client", &[])
    };
    let mut sidecar = start(&broker)?;
    let load = Load::start(Work::State, sidecar.port, RATE, true);
    for _ in 0..rounds {
        thread::sleep(CALM);
        if killed == "store" {
            broker.restart()?;
        } else {
            sidecar.kill();
            sidecar = start(&broker)?;
            load.move_to(sidecar.port);
        }
    }
    thread::sleep(CALM);
    let seen = load.finish();
    drop(sidecar);
    Ok(Outcome {
        store,
        killed,
        rounds,
        seen,
    })
}
