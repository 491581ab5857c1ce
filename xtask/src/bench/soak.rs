//! Full load for a long while: whether memory stays where it is. `cargo xtask bench --only soak --soak-minutes 20`.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::bench::{
    Plan,
    metrics::Values,
    rig::{Pair, Setup, Side, drive},
    scenario::{BUSY, HUNDRED_BYTES, timed},
};

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_secs(5);
/// One kind of load at a time, in turns.
const TURN: &str = "10";
/// The share of the time after which growth counts: caches and allocator have settled.
const SETTLED: f64 = 0.25;

/// Calls, state and events in turns at full load; the slope of a sidecar's resident memory is that of a line through
/// all looks after the first quarter.
pub(crate) fn soak(plan: &Plan, side: &Side, values: &mut Values) -> anyhow::Result<()> {
    let setup = Setup::default();
    let pair = Pair::start(plan, side, "soak", setup)?;
    let begun = Instant::now();
    let length = Duration::from_secs_f64(plan.soak * 60.0);
    let mut looks = vec![Vec::new(), Vec::new()];
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut operations = 0.0;
            while begun.elapsed() < length {
                operations += turn(plan, &pair)?;
            }
            Ok::<f64, anyhow::Error>(operations)
        });
        while !load.is_finished() {
            thread::sleep(LOOK);
            let at = begun.elapsed().as_secs_f64();
            for (sidecar, looks) in [&pair.caller, &pair.callee].into_iter().zip(&mut looks) {
                looks.push((at, sidecar.memory()? as f64 / 1e6));
            }
        }
        let operations = load
            .join()
            .map_err(|_| anyhow::anyhow!("the load's thread panicked"))??;
        values.push(("soak_operations", operations));
        Ok::<(), anyhow::Error>(())
    })?;
    for (looks, [slope_key, first_key, last_key]) in looks.iter().zip([
        [
            "soak_caller_slope_mb_h",
            "soak_caller_settled_mb",
            "soak_caller_end_mb",
        ],
        [
            "soak_callee_slope_mb_h",
            "soak_callee_settled_mb",
            "soak_callee_end_mb",
        ],
    ]) {
        let settled: Vec<_> = looks
            .iter()
            .copied()
            .filter(|(at, _)| *at > length.as_secs_f64() * SETTLED)
            .collect();
        if let (Some(first), Some(last)) = (settled.first(), settled.last()) {
            values.push((first_key, first.1));
            values.push((last_key, last.1));
        }
        values.push((slope_key, slope(&settled) * 3600.0));
    }
    Ok(())
}

/// Each kind of load once; gives the operations done.
fn turn(plan: &Plan, pair: &Pair) -> anyhow::Result<f64> {
    let mut operations = 0.0;
    let call = timed(&[HUNDRED_BYTES, &["--connections", BUSY]], TURN);
    let paths = [
        (pair.caller.port, "/v1.0/invoke/callee/method/echo"),
        (pair.callee.port, "/v1.0/publish/pubsub/single"),
    ];
    for (port, path) in paths {
        let report = drive(plan, port, path, &call)?;
        operations += super::scenario::requests(&report)?;
    }
    for store in ["statestore", "durable"] {
        operations += super::scenario::state_turn(plan, pair, store, TURN)?;
    }
    Ok(operations)
}

/// Least squares: the change of the second number by the first.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        let ahead = point.0 - x;
        (above + ahead * (point.1 - y), below + ahead * ahead)
    });
    if below > 0.0 { above / below } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn the_slope_is_that_of_the_line_through_the_points() {
        assert!((slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) - 2.0).abs() < 1e-9);
        assert!(slope(&[(0.0, 7.0), (1.0, 7.0)]).abs() < 1e-9);
        assert!(slope(&[]).abs() < 1e-9);
    }
}
