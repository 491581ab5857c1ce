//! State over HTTP, one sidecar.

use serde_json::Value;

use super::{RATE, STEADY, generator, micros, number, requests, timed};
use crate::bench::{
    Plan,
    metrics::Values,
    rig::{Pair, Setup, Side, Sidecar, drive},
};

const SET: &[&str] = &[
    "--method",
    "POST",
    "--header",
    "Content-Type: application/json",
    "--body",
    r#"[{"key":"{key}","value":{"name":"a value of usual length","count":12,"done":false}}]"#,
];
/// Keys that sets and gets go over in turn: apps seldom write one key from all sides.
const KEYS: &[&str] = &["--keys", "1000"];
/// All of them write one key, which a server's lock of its row makes wait for one another.
const ONE_KEY: &[&str] = &["--keys", "1"];

/// What sets or gets gave, and what one of them cost the sidecar.
pub(super) struct Half {
    pub(super) report: Value,
    pub(super) cpu: f64,
}

/// Sets for so many seconds, then gets.
pub(super) fn set_and_get(
    plan: &Plan,
    pair: &Pair,
    store: &str,
    arguments: &[&str],
    seconds: &str,
) -> anyhow::Result<[Half; 2]> {
    set_and_get_on(plan, &pair.callee, store, arguments, seconds)
}

/// The same on any sidecar.
pub(super) fn set_and_get_on(
    plan: &Plan,
    sidecar: &Sidecar,
    store: &str,
    arguments: &[&str],
    seconds: &str,
) -> anyhow::Result<[Half; 2]> {
    let path = format!("/v1.0/state/{store}");
    Ok([
        half(plan, sidecar, &path, &[SET, KEYS, arguments].concat(), seconds)?,
        half(
            plan,
            sidecar,
            &format!("{path}/{{key}}"),
            &[KEYS, arguments].concat(),
            seconds,
        )?,
    ])
}

/// Sets of one and the same key.
pub(super) fn set_one_key(
    plan: &Plan,
    sidecar: &Sidecar,
    store: &str,
    arguments: &[&str],
    seconds: &str,
) -> anyhow::Result<Half> {
    let path = format!("/v1.0/state/{store}");
    half(plan, sidecar, &path, &[SET, ONE_KEY, arguments].concat(), seconds)
}

fn half(
    plan: &Plan,
    sidecar: &Sidecar,
    path: &str,
    arguments: &[&str],
    seconds: &str,
) -> anyhow::Result<Half> {
    let before = sidecar.cpu()?;
    let report = drive(plan, sidecar.port, path, &timed(&[arguments], seconds))?;
    let used = sidecar.cpu()?.saturating_sub(before);
    let cpu = micros(used) / requests(&report)?;
    Ok(Half { report, cpu })
}

/// In memory and on SQLite. An operation is half a set and half a get, however many of each the time sufficed for:
/// otherwise the side with the faster gets would look cheaper.
pub(super) fn state(plan: &Plan, side: &Side, values: &mut Values) -> anyhow::Result<()> {
    let pair = Pair::start(plan, side, "state", Setup::default())?;
    let seconds = (plan.seconds / 2.0).to_string();
    for (store, [cpu_key, generator_key, second_key, set_key, get_key]) in [
        (
            "statestore",
            [
                "memory_cpu_us",
                "memory_generator_cpu_us",
                "memory_per_second",
                "memory_set_rate_p99_ms",
                "memory_get_rate_p99_ms",
            ],
        ),
        (
            "durable",
            [
                "sqlite_cpu_us",
                "sqlite_generator_cpu_us",
                "sqlite_per_second",
                "sqlite_set_rate_p99_ms",
                "sqlite_get_rate_p99_ms",
            ],
        ),
    ] {
        let [sets, gets] = set_and_get(plan, &pair, store, &["--connections", STEADY], &seconds)?;
        values.push((cpu_key, f64::midpoint(sets.cpu, gets.cpu)));
        values.push((
            generator_key,
            f64::midpoint(generator(&sets.report)?, generator(&gets.report)?),
        ));
        let rates = (
            number(&sets.report, "per_second")?,
            number(&gets.report, "per_second")?,
        );
        values.push((second_key, 2.0 / (1.0 / rates.0 + 1.0 / rates.1)));
        let steady = ["--connections", STEADY, "--rate", RATE];
        let [sets, gets] = set_and_get(plan, &pair, store, &steady, &seconds)?;
        values.push((set_key, number(&sets.report, "p99_us")? / 1000.0));
        values.push((get_key, number(&gets.report, "p99_us")? / 1000.0));
    }
    Ok(())
}
