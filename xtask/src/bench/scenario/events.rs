//! Publishing and delivery: single events, batches, and the durable queue between two processes.

use std::{thread::sleep, time::Duration};

use anyhow::Context;
use serde_json::Value;

use super::{HUNDRED_BYTES, RATE, STEADY, generator, megabytes, micros, number, requests, timed};
use crate::bench::{
    Plan,
    metrics::Values,
    rig::{App, Pair, Setup, Side, Sidecar, component, drive, folder},
};

/// Until the last event must have arrived.
pub(super) const ARRIVAL: Duration = Duration::from_secs(60);

/// Events in a batch.
const BATCH: f64 = 100.0;

/// Events per second from the generator's first to the app's last: whatever waited in between counts.
pub(super) fn throughput(sent: &Value, arrived: &Value, events: f64) -> anyhow::Result<f64> {
    let at = |report: &Value, key: &str| {
        report[key]
            .as_u64()
            .with_context(|| format!("the report has no {key}: {report}"))
    };
    let took = Duration::from_nanos(at(arrived, "last_ns")?.saturating_sub(at(sent, "begun_ns")?));
    anyhow::ensure!(!took.is_zero(), "nothing arrived");
    Ok(events / took.as_secs_f64())
}

/// Single events through the in-memory broker, to the same sidecar's app.
pub(super) fn events(plan: &Plan, side: &Side, values: &mut Values) -> anyhow::Result<()> {
    const PATH: &str = "/v1.0/publish/pubsub/single";
    let pair = Pair::start(plan, side, "events", Setup::default())?;
    let seconds = plan.seconds.to_string();

    let steady = timed(
        &[HUNDRED_BYTES, &["--connections", STEADY, "--rate", RATE]],
        &seconds,
    );
    pair.app.measured(true)?;
    let report = drive(plan, pair.callee.port, PATH, &steady)?;
    let arrived = pair.app.delivered(requests(&report)? as u64, ARRIVAL)?;
    values.push(("publish_rate_p99_ms", number(&report, "p99_us")? / 1000.0));
    values.push(("deliver_rate_p99_ms", number(&arrived, "p99_us")? / 1000.0));

    pair.app.measured(true)?;
    let before = pair.callee.cpu()?;
    let busy = timed(&[HUNDRED_BYTES, &["--connections", STEADY]], &seconds);
    let report = drive(plan, pair.callee.port, PATH, &busy)?;
    let sent = requests(&report)?;
    let arrived = pair.app.delivered(sent as u64, ARRIVAL)?;
    values.push((
        "event_cpu_us",
        micros(pair.callee.cpu()?.saturating_sub(before)) / sent,
    ));
    values.push(("event_generator_cpu_us", generator(&report)?));
    values.push((
        "event_per_second",
        throughput(&report, &arrived, number(&report, "requests")?)?,
    ));
    values.push(("event_load_mb", megabytes(pair.callee.memory()?)));
    Ok(())
}

/// Batches of a hundred events of a hundred bytes, acknowledged: to a subscriber that takes batches, and to one that
/// does not. A broker that falls far behind is measured by what it delivered within the limit, and by what it did not.
pub(super) fn bulk(plan: &Plan, side: &Side, values: &mut Values) -> anyhow::Result<()> {
    let seconds = (plan.seconds / 2.0).to_string();
    for (topic, [second_key, lost_key, cpu_key, generator_key, memory_key]) in [
        (
            "bulk",
            [
                "bulk_per_second",
                "bulk_undelivered",
                "bulk_cpu_us",
                "bulk_generator_cpu_us",
                "bulk_load_mb",
            ],
        ),
        (
            "single",
            [
                "bulk_single_per_second",
                "bulk_single_undelivered",
                "bulk_single_cpu_us",
                "bulk_single_generator_cpu_us",
                "bulk_single_load_mb",
            ],
        ),
    ] {
        let pair = Pair::start(plan, side, "bulk", Setup::default())?;
        pair.app.measured(true)?;
        let before = pair.callee.cpu()?;
        let path = format!("/v1.0-alpha1/publish/bulk/pubsub/{topic}");
        let arguments = timed(
            &[HUNDRED_BYTES, &["--batch", "100", "--connections", "4"]],
            &seconds,
        );
        let report = drive(plan, pair.callee.port, &path, &arguments)?;
        let sent = requests(&report)? * BATCH;
        let all = pair.app.delivered(sent as u64, ARRIVAL / 2).is_ok();
        let arrived = pair.app.measured(false)?;
        let delivered = number(&arrived, "delivered")?;
        let warm_up = number(&report, "warm_up")? * BATCH;
        values.push((
            second_key,
            throughput(&report, &arrived, (delivered - warm_up).max(0.0))?,
        ));
        values.push((lost_key, (sent - delivered).max(0.0)));
        if all {
            values.push((cpu_key, micros(pair.callee.cpu()?.saturating_sub(before)) / sent));
            values.push((generator_key, generator(&report)? / BATCH));
        }
        values.push((memory_key, megabytes(pair.callee.memory()?)));
    }
    Ok(())
}

/// `pubsub.sqlite` from one process to another.
pub(super) fn queue(plan: &Plan, side: &Side, values: &mut Values) -> anyhow::Result<()> {
    const PATH: &str = "/v1.0/publish/queue/single";
    let folder = folder(plan, side, "queue")?;
    let database = folder.join("queue.db");
    component(
        &folder,
        "queue",
        "pubsub.sqlite",
        &[("connectionString", &database.to_string_lossy())],
    )?;
    let app = App::start(plan, &folder, &["--subscribe", "queue"])?;
    let port = app.port.to_string();
    let behind = ["--app-port", &port, "--app-protocol", "http"];
    let subscriber = Sidecar::start(&plan.guard, side, &folder, "subscriber", &behind)?;
    let publisher = Sidecar::start(&plan.guard, side, &folder, "publisher", &[])?;
    let seconds = plan.seconds.to_string();

    let before = (publisher.fine_cpu()?, subscriber.fine_cpu()?);
    sleep(Duration::from_secs_f64(plan.rest));
    let used = publisher
        .fine_cpu()?
        .saturating_sub(before.0)
        .max(subscriber.fine_cpu()?.saturating_sub(before.1));
    values.push(("queue_idle_cpu_share", used.as_secs_f64() / plan.rest * 100.0));

    app.measured(true)?;
    let calm = timed(
        &[HUNDRED_BYTES, &["--connections", "1", "--rate", "100"]],
        &seconds,
    );
    let report = drive(plan, publisher.port, PATH, &calm)?;
    let arrived = app.delivered(requests(&report)? as u64, ARRIVAL)?;
    values.push(("queue_p50_ms", number(&arrived, "p50_us")? / 1000.0));
    values.push(("queue_p99_ms", number(&arrived, "p99_us")? / 1000.0));

    app.measured(true)?;
    let busy = timed(&[HUNDRED_BYTES, &["--connections", "32"]], &seconds);
    let cpu = (publisher.cpu()?, subscriber.cpu()?);
    let report = drive(plan, publisher.port, PATH, &busy)?;
    let sent = requests(&report)?;
    let arrived = app.delivered(sent as u64, ARRIVAL)?;
    let used = publisher.cpu()?.saturating_sub(cpu.0) + subscriber.cpu()?.saturating_sub(cpu.1);
    values.push((
        "queue_per_second",
        throughput(&report, &arrived, number(&report, "requests")?)?,
    ));
    values.push(("queue_cpu_us", micros(used) / sent));
    values.push(("queue_generator_cpu_us", generator(&report)?));

    app.measured(true)?;
    let batches = timed(
        &[HUNDRED_BYTES, &["--batch", "100", "--connections", "4"]],
        &seconds,
    );
    let bulk = "/v1.0-alpha1/publish/bulk/queue/bulk";
    let report = drive(plan, publisher.port, bulk, &batches)?;
    let arrived = app.delivered((requests(&report)? * BATCH) as u64, ARRIVAL)?;
    values.push((
        "queue_bulk_per_second",
        throughput(&report, &arrived, number(&report, "requests")? * BATCH)?,
    ));
    Ok(())
}
