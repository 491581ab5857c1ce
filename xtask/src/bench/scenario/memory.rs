//! Memory and CPU of a sidecar at rest, then after every kind of load, on the default components.

use std::{thread::sleep, time::Duration};

use super::{BUSY, HUNDRED_BYTES, STEADY, events::ARRIVAL, megabytes, requests, state, timed};
use crate::bench::{
    Plan,
    metrics::Values,
    rig::{Components, Pair, Setup, Side, drive},
};

/// The larger of both sidecars, one of which has the app.
fn resident(pair: &Pair) -> anyhow::Result<f64> {
    Ok(megabytes(pair.callee.memory()?.max(pair.caller.memory()?)))
}

/// At rest, then after invocations, state and events, one on top of the other.
pub(super) fn memory(plan: &Plan, side: &Side, values: &mut Values) -> anyhow::Result<()> {
    let setup = Setup {
        components: Components::Defaults,
        ..Setup::default()
    };
    let pair = Pair::start(plan, side, "memory", setup)?;
    let before = (pair.callee.fine_cpu()?, pair.caller.fine_cpu()?);
    sleep(Duration::from_secs_f64(plan.rest));
    let idle = pair
        .callee
        .fine_cpu()?
        .saturating_sub(before.0)
        .max(pair.caller.fine_cpu()?.saturating_sub(before.1));
    values.push(("idle_cpu_share", idle.as_secs_f64() / plan.rest * 100.0));
    values.push(("idle_mb", resident(&pair)?));

    let seconds = plan.seconds.to_string();
    let busy = timed(&[HUNDRED_BYTES, &["--connections", BUSY]], &seconds);
    drive(plan, pair.caller.port, "/v1.0/invoke/callee/method/echo", &busy)?;
    values.push(("load_calls_mb", resident(&pair)?));

    let half = (plan.seconds / 2.0).to_string();
    state::set_and_get(plan, &pair, "statestore", &["--connections", STEADY], &half)?;
    values.push(("load_state_mb", resident(&pair)?));

    pair.app.measured(true)?;
    let steady = timed(&[HUNDRED_BYTES, &["--connections", STEADY]], &seconds);
    let report = drive(plan, pair.callee.port, "/v1.0/publish/pubsub/single", &steady)?;
    pair.app.delivered(requests(&report)? as u64, ARRIVAL)?;
    values.push(("load_events_mb", resident(&pair)?));
    values.push((
        "load_peak_mb",
        megabytes(pair.callee.peak()?.max(pair.caller.peak()?)),
    ));
    Ok(())
}
