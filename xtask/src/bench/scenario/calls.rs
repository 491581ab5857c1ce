//! Invocation over HTTP through two sidecars.

use super::{BUSY, HUNDRED_BYTES, RATE, STEADY, generator, megabytes, micros, number, requests, timed};
use crate::bench::{
    Plan,
    metrics::Values,
    rig::{Pair, Setup, Side, drive},
};

const PATH: &str = "/v1.0/invoke/callee/method/echo";

/// At one connection, at a steady rate, at full speed; the app is asked directly too, for what the sidecars add.
pub(super) fn calls(plan: &Plan, side: &Side, values: &mut Values) -> anyhow::Result<()> {
    let pair = Pair::start(plan, side, "calls", Setup::default())?;
    let seconds = plan.seconds.to_string();

    let one = timed(&[HUNDRED_BYTES, &["--connections", "1"]], &seconds);
    let direct = drive(plan, pair.app.port, "/echo", &one)?;
    let through = drive(plan, pair.caller.port, PATH, &one)?;
    let added =
        |percentile| Ok::<_, anyhow::Error>(number(&through, percentile)? - number(&direct, percentile)?);
    values.push(("call_p50_us", number(&through, "p50_us")?));
    values.push(("call_direct_p50_us", number(&direct, "p50_us")?));
    values.push(("call_added_p50_us", added("p50_us")?));
    values.push(("call_added_p99_us", added("p99_us")?));

    let steady = timed(
        &[HUNDRED_BYTES, &["--connections", STEADY, "--rate", RATE]],
        &seconds,
    );
    let direct = drive(plan, pair.app.port, "/echo", &steady)?;
    let before = (pair.caller.cpu()?, pair.callee.cpu()?);
    let through = drive(plan, pair.caller.port, PATH, &steady)?;
    let used = pair
        .caller
        .cpu()?
        .saturating_sub(before.0)
        .max(pair.callee.cpu()?.saturating_sub(before.1));
    for (key, percentile) in [
        ("call_rate_added_p50_ms", "p50_us"),
        ("call_rate_added_p90_ms", "p90_us"),
        ("call_rate_added_p99_ms", "p99_us"),
    ] {
        values.push((
            key,
            (number(&through, percentile)? - number(&direct, percentile)?) / 1000.0,
        ));
    }
    values.push((
        "rate_cpu_share",
        used.as_secs_f64() / number(&through, "seconds")? * 100.0,
    ));

    let busy = timed(&[HUNDRED_BYTES, &["--connections", BUSY]], &seconds);
    let before = (pair.cpu()?, pair.app.cpu()?);
    let report = drive(plan, pair.caller.port, PATH, &busy)?;
    let count = requests(&report)?;
    values.push((
        "call_cpu_us",
        micros(pair.cpu()?.saturating_sub(before.0)) / count,
    ));
    values.push((
        "call_app_cpu_us",
        micros(pair.app.cpu()?.saturating_sub(before.1)) / count,
    ));
    values.push(("call_generator_cpu_us", generator(&report)?));
    values.push(("call_per_second", number(&report, "per_second")?));
    values.push(("call_busy_p99_us", number(&report, "p99_us")?));
    values.push(("call_peers", pair.callee.peers()? as f64));
    values.push((
        "call_load_mb",
        megabytes(pair.callee.memory()?.max(pair.caller.memory()?)),
    ));
    Ok(())
}
