//! State and events on servers people run: Redis and PostgreSQL. CPU is the sidecar's alone; the servers are the same
//! for both sides, and emptied before each measurement.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::Context;

use super::{BUSY, HUNDRED_BYTES, events, generator, micros, number, requests, state, timed};
use crate::bench::{
    Plan,
    metrics::Values,
    rig::{App, Side, Sidecar, component, drive, folder},
};

/// A store of one scenario: the component's type and metadata, and the keys of its values.
struct Store<'a> {
    kind: &'a str,
    metadata: Vec<(&'a str, &'a str)>,
    keys: [&'static str; 5],
}

/// `state.redis`, then `pubsub.redis` from one sidecar to itself.
pub(super) fn redis(plan: &Plan, side: &Side, values: &mut Values) -> anyhow::Result<()> {
    let server = plan.engines.redis()?;
    clear_redis(server)?;
    let store = Store {
        kind: "state.redis",
        metadata: vec![("redisHost", server)],
        keys: [
            "redis_set_cpu_us",
            "redis_one_key_cpu_us",
            "redis_get_cpu_us",
            "redis_per_second",
            "redis_generator_cpu_us",
        ],
    };
    operations(plan, side, "redis", &store, values)?;
    clear_redis(server)?;
    redis_events(plan, side, server, values)
}

/// `state.postgresql` in both versions.
pub(super) fn postgres(plan: &Plan, side: &Side, values: &mut Values) -> anyhow::Result<()> {
    let server = plan.engines.postgres()?;
    // A table for each side, so that neither finds what the other left.
    for (kind, name, keys) in [
        (
            "state.postgresql",
            "postgres1",
            [
                "postgres1_set_cpu_us",
                "postgres1_one_key_cpu_us",
                "postgres1_get_cpu_us",
                "postgres1_per_second",
                "postgres1_generator_cpu_us",
            ],
        ),
        (
            "state.postgresql/v2",
            "postgres2",
            [
                "postgres2_set_cpu_us",
                "postgres2_one_key_cpu_us",
                "postgres2_get_cpu_us",
                "postgres2_per_second",
                "postgres2_generator_cpu_us",
            ],
        ),
    ] {
        let table = format!("{}_{name}", side.name);
        let table_field = if kind.ends_with("/v2") {
            "tablePrefix"
        } else {
            "tableName"
        };
        let metadata_table = format!("{table}_metadata");
        let store = Store {
            kind,
            metadata: vec![
                ("connectionString", server),
                (table_field, &table),
                ("metadataTableName", &metadata_table),
            ],
            keys,
        };
        operations(plan, side, name, &store, values)?;
    }
    Ok(())
}

/// Sets, then gets, as fast as they go.
fn operations(
    plan: &Plan,
    side: &Side,
    name: &str,
    store: &Store<'_>,
    values: &mut Values,
) -> anyhow::Result<()> {
    let folder = folder(plan, side, name)?;
    component(&folder, "statestore", store.kind, &store.metadata)?;
    let sidecar = Sidecar::start(&plan.guard, side, &folder, "callee", &[])?;
    let seconds = (plan.seconds / 2.0).to_string();
    let [set_key, one_key, get_key, second_key, generator_key] = store.keys;
    let [sets, gets] =
        state::set_and_get_on(plan, &sidecar, "statestore", &["--connections", BUSY], &seconds)?;
    let one = state::set_one_key(plan, &sidecar, "statestore", &["--connections", BUSY], &seconds)?;
    values.push((one_key, one.cpu));
    values.push((set_key, sets.cpu));
    values.push((get_key, gets.cpu));
    let rates = (
        number(&sets.report, "per_second")?,
        number(&gets.report, "per_second")?,
    );
    values.push((second_key, 2.0 / (1.0 / rates.0 + 1.0 / rates.1)));
    values.push((
        generator_key,
        f64::midpoint(generator(&sets.report)?, generator(&gets.report)?),
    ));
    Ok(())
}

fn redis_events(plan: &Plan, side: &Side, server: &str, values: &mut Values) -> anyhow::Result<()> {
    const PATH: &str = "/v1.0/publish/bus/single";
    let folder = folder(plan, side, "redis-events")?;
    component(
        &folder,
        "bus",
        "pubsub.redis",
        &[
            ("redisHost", server),
            ("concurrency", "32"),
            ("queueDepth", "256"),
        ],
    )?;
    let app = App::start(plan, &folder, &["--subscribe", "bus"])?;
    let port = app.port.to_string();
    let behind = ["--app-port", &port, "--app-protocol", "http"];
    let sidecar = Sidecar::start(&plan.guard, side, &folder, "callee", &behind)?;
    app.measured(true)?;
    let before = sidecar.cpu()?;
    let seconds = plan.seconds.to_string();
    let report = drive(
        plan,
        sidecar.port,
        PATH,
        &timed(&[HUNDRED_BYTES, &["--connections", BUSY]], &seconds),
    )?;
    let sent = requests(&report)?;
    let arrived = app.delivered(sent as u64, events::ARRIVAL)?;
    values.push((
        "redis_event_cpu_us",
        micros(sidecar.cpu()?.saturating_sub(before)) / sent,
    ));
    values.push((
        "redis_event_per_second",
        events::throughput(&report, &arrived, number(&report, "requests")?)?,
    ));
    values.push(("redis_event_generator_cpu_us", generator(&report)?));
    Ok(())
}

/// Forgets everything on a server that this run started itself.
fn clear_redis(server: &str) -> anyhow::Result<()> {
    let mut connection = TcpStream::connect(server).with_context(|| format!("reach redis at {server}"))?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    connection.write_all(b"FLUSHALL\r\n")?;
    let mut answer = [0; 5];
    connection.read_exact(&mut answer)?;
    anyhow::ensure!(&answer == b"+OK\r\n", "redis did not forget: {answer:?}");
    Ok(())
}
