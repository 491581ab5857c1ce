//! The scenarios. Each starts what it needs, loads it, and gives values by key; `report` says what a key means.

use std::{
    fs,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::Value;

use super::{
    Plan, http,
    metrics::{Values, median},
    rig::{App, Pair, Side, Sidecar, component, drive, folder, run_load},
};
use crate::process::Service;

/// A scenario by name.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Plan, &Side) -> anyhow::Result<Values>,
    /// Too long to be repeated in every round.
    pub(crate) once: bool,
    /// The reference has nothing like it.
    pub(crate) only_ours: bool,
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "start",
        run: start,
        once: false,
        only_ours: false,
    },
    Scenario {
        name: "calls",
        run: calls,
        once: false,
        only_ours: false,
    },
    Scenario {
        name: "state",
        run: state,
        once: false,
        only_ours: false,
    },
    Scenario {
        name: "events",
        run: events,
        once: false,
        only_ours: false,
    },
    Scenario {
        name: "bulk",
        run: bulk,
        once: false,
        only_ours: false,
    },
    Scenario {
        name: "queue",
        run: queue,
        once: false,
        only_ours: true,
    },
    Scenario {
        name: "upload",
        run: upload,
        once: true,
        only_ours: false,
    },
];

/// Connections for throughput: enough to keep two cores busy, few enough to stay out of queues.
const BUSY: &str = "16";

/// Connections at a steady rate.
const STEADY: &str = "8";

/// The rate at which the requirements ask for latencies (A10.1–A10.3).
const RATE: &str = "1000";

/// Starts per round; five rounds make the twenty that the budget names.
const STARTS: u32 = 4;

/// Until the last event must have arrived.
const ARRIVAL: Duration = Duration::from_secs(60);

/// Executes a sidecar and polls its outbound health every millisecond until the first 204.
fn start(plan: &Plan, side: &Side) -> anyhow::Result<Values> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let folder = folder(plan, side, "start")?;
        component(&folder, "statestore", "state.in-memory", &[])?;
        component(&folder, "pubsub", "pubsub.in-memory", &[])?;
        let begun = Instant::now();
        let sidecar = Sidecar::spawn(side, &folder, "start", None, &[])?;
        while !http::request(sidecar.port, "GET", "/v1.0/healthz/outbound", "")
            .is_ok_and(|(status, _)| status == 204)
        {
            anyhow::ensure!(begun.elapsed() < Duration::from_secs(30), "no 204 within 30 s");
            sleep(Duration::from_millis(1));
        }
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(vec![(
        "start_ms",
        median(&mut times).context("no start was measured")?,
    )])
}

/// Invocation through two sidecars: at rest, at one connection, at a steady rate, at full speed.
fn calls(plan: &Plan, side: &Side) -> anyhow::Result<Values> {
    const PATH: &str = "/v1.0/invoke/callee/method/echo";
    let pair = Pair::start(plan, side, "calls", &[])?;
    let seconds = plan.seconds.to_string();
    let post = |arguments: &[&'static str]| {
        [
            &[
                "--method",
                "POST",
                "--header",
                "Content-Type: application/json",
                "--event-bytes",
                "100",
            ],
            arguments,
        ]
        .concat()
    };
    let mut values = Vec::new();

    let before = pair.callee.cpu()?;
    sleep(Duration::from_secs_f64(plan.rest));
    let idle = pair.callee.cpu()?.saturating_sub(before).as_secs_f64() / plan.rest;
    values.push(("idle_cpu_share", idle * 100.0));
    values.push(("idle_mb", megabytes(pair.callee.memory()?)));

    let one = post(&["--connections", "1"]);
    let direct = drive(plan, pair.app.port, "/echo", &timed(&one, &seconds))?;
    let through = drive(plan, pair.caller.port, PATH, &timed(&one, &seconds))?;
    values.push((
        "call_added_p50_us",
        number(&through, "p50_us")? - number(&direct, "p50_us")?,
    ));
    values.push((
        "call_added_p99_us",
        number(&through, "p99_us")? - number(&direct, "p99_us")?,
    ));

    let steady = post(&["--connections", STEADY, "--rate", RATE]);
    let direct = drive(plan, pair.app.port, "/echo", &timed(&steady, &seconds))?;
    let before = (pair.caller.cpu()?, pair.callee.cpu()?);
    let through = drive(plan, pair.caller.port, PATH, &timed(&steady, &seconds))?;
    let took = number(&through, "seconds")?;
    let shares = [
        pair.caller.cpu()?.saturating_sub(before.0),
        pair.callee.cpu()?.saturating_sub(before.1),
    ];
    values.push((
        "call_rate_added_p99_ms",
        (number(&through, "p99_us")? - number(&direct, "p99_us")?) / 1000.0,
    ));
    values.push((
        "rate_cpu_share",
        shares
            .iter()
            .max()
            .map_or(0.0, |share| share.as_secs_f64() / took * 100.0),
    ));

    let busy = post(&["--connections", BUSY]);
    let before = (pair.cpu()?, pair.app.cpu()?);
    let report = drive(plan, pair.caller.port, PATH, &timed(&busy, &seconds))?;
    let requests = number(&report, "requests")? + number(&report, "warm_up")?;
    values.push((
        "call_cpu_us",
        micros(pair.cpu()?.saturating_sub(before.0)) / requests,
    ));
    values.push((
        "call_app_cpu_us",
        micros(pair.app.cpu()?.saturating_sub(before.1)) / requests,
    ));
    values.push((
        "call_generator_cpu_us",
        number(&report, "cpu_ms")? * 1000.0 / requests,
    ));
    values.push(("call_per_second", number(&report, "per_second")?));
    values.push(("call_busy_p99_us", number(&report, "p99_us")?));
    values.push((
        "load_mb",
        megabytes(pair.callee.memory()?.max(pair.caller.memory()?)),
    ));
    Ok(values)
}

/// Set and get, in memory and on SQLite.
fn state(plan: &Plan, side: &Side) -> anyhow::Result<Values> {
    let pair = Pair::start(plan, side, "state", &[])?;
    let seconds = (plan.seconds / 2.0).to_string();
    let mut values = Vec::new();
    for (store, cpu_key, second_key, p99_key) in [
        (
            "statestore",
            "memory_cpu_us",
            "memory_per_second",
            "memory_rate_p99_ms",
        ),
        (
            "durable",
            "sqlite_cpu_us",
            "sqlite_per_second",
            "sqlite_rate_p99_ms",
        ),
    ] {
        let path = format!("/v1.0/state/{store}");
        let set = [
            "--method",
            "POST",
            "--header",
            "Content-Type: application/json",
            "--body",
            r#"[{"key":"k1","value":{"name":"a value of usual length","count":12,"done":false}}]"#,
            "--seconds",
            &seconds,
        ];
        let get = ["--seconds", &seconds];
        let get_path = format!("{path}/k1");
        let before = pair.callee.cpu()?;
        let sets = drive(
            plan,
            pair.callee.port,
            &path,
            &[&set[..], &["--connections", STEADY]].concat(),
        )?;
        let gets = drive(
            plan,
            pair.callee.port,
            &get_path,
            &[&get[..], &["--connections", STEADY]].concat(),
        )?;
        let used = pair.callee.cpu()?.saturating_sub(before);
        let count =
            |report: &Value| Ok::<_, anyhow::Error>(number(report, "requests")? + number(report, "warm_up")?);
        values.push((cpu_key, micros(used) / (count(&sets)? + count(&gets)?)));
        // Half sets, half gets, by time spent in each.
        let (set_rate, get_rate) = (number(&sets, "per_second")?, number(&gets, "per_second")?);
        values.push((second_key, 2.0 / (1.0 / set_rate + 1.0 / get_rate)));
        let rate = ["--connections", STEADY, "--rate", RATE];
        let sets = drive(plan, pair.callee.port, &path, &[&set[..], &rate[..]].concat())?;
        let gets = drive(plan, pair.callee.port, &get_path, &[&get[..], &rate[..]].concat())?;
        values.push((
            p99_key,
            number(&sets, "p99_us")?.max(number(&gets, "p99_us")?) / 1000.0,
        ));
    }
    Ok(values)
}

const SINGLE: &[&str] = &[
    "--method",
    "POST",
    "--header",
    "Content-Type: application/json",
    "--event-bytes",
    "100",
];

/// Single events through the in-memory broker, to the same sidecar's app.
fn events(plan: &Plan, side: &Side) -> anyhow::Result<Values> {
    const PATH: &str = "/v1.0/publish/pubsub/single";
    let pair = Pair::start(plan, side, "events", &[])?;
    let seconds = plan.seconds.to_string();
    let mut values = Vec::new();

    let steady = [
        SINGLE,
        &["--connections", STEADY, "--rate", RATE, "--seconds", &seconds],
    ]
    .concat();
    pair.app.measured(true)?;
    let report = drive(plan, pair.callee.port, PATH, &steady)?;
    let sent = number(&report, "requests")? + number(&report, "warm_up")?;
    let arrived = pair.app.delivered(sent as u64, ARRIVAL)?;
    values.push(("publish_rate_p99_ms", number(&report, "p99_us")? / 1000.0));
    values.push(("deliver_rate_p99_ms", number(&arrived, "p99_us")? / 1000.0));

    pair.app.measured(true)?;
    let before = pair.callee.cpu()?;
    let busy = [SINGLE, &["--connections", STEADY, "--seconds", &seconds]].concat();
    let report = drive(plan, pair.callee.port, PATH, &busy)?;
    let sent = number(&report, "requests")? + number(&report, "warm_up")?;
    let arrived = pair.app.delivered(sent as u64, ARRIVAL)?;
    values.push((
        "event_cpu_us",
        micros(pair.callee.cpu()?.saturating_sub(before)) / sent,
    ));
    values.push(("event_per_second", sent / number(&arrived, "seconds")?));
    values.push(("event_load_mb", megabytes(pair.callee.memory()?)));
    Ok(values)
}

/// Batches of a hundred events of a hundred bytes, acknowledged: to a subscriber that takes batches, and to one that
/// does not. A broker that falls far behind is measured by what it delivered within the limit.
fn bulk(plan: &Plan, side: &Side) -> anyhow::Result<Values> {
    const BATCH: f64 = 100.0;
    let seconds = (plan.seconds / 2.0).to_string();
    let mut values = Vec::new();
    for (topic, second_key, cpu_key, memory_key) in [
        ("bulk", "bulk_per_second", "bulk_cpu_us", "bulk_load_mb"),
        (
            "single",
            "bulk_single_per_second",
            "bulk_single_cpu_us",
            "bulk_single_load_mb",
        ),
    ] {
        let pair = Pair::start(plan, side, "bulk", &[])?;
        pair.app.measured(true)?;
        let before = pair.callee.cpu()?;
        let path = format!("/v1.0-alpha1/publish/bulk/pubsub/{topic}");
        let arguments = [
            SINGLE,
            &["--batch", "100", "--connections", "4", "--seconds", &seconds],
        ]
        .concat();
        let report = drive(plan, pair.callee.port, &path, &arguments)?;
        let sent = (number(&report, "requests")? + number(&report, "warm_up")?) * BATCH;
        let all = pair.app.delivered(sent as u64, ARRIVAL / 2).is_ok();
        let arrived = pair.app.measured(false)?;
        values.push((
            second_key,
            number(&arrived, "delivered")? / number(&arrived, "seconds")?,
        ));
        if all {
            values.push((cpu_key, micros(pair.callee.cpu()?.saturating_sub(before)) / sent));
        }
        values.push((memory_key, megabytes(pair.callee.memory()?)));
    }
    Ok(values)
}

/// `pubsub.sqlite` from one process to another.
fn queue(plan: &Plan, side: &Side) -> anyhow::Result<Values> {
    const PATH: &str = "/v1.0/publish/queue/single";
    let folder = folder(plan, side, "queue")?;
    let database = folder.join("queue.db");
    component(
        &folder,
        "queue",
        "pubsub.sqlite",
        &[("connectionString", &database.to_string_lossy())],
    )?;
    let app = App::start(plan, &folder, "app", Some("queue"))?;
    let subscriber = Sidecar::start(side, &folder, "subscriber", Some(app.port), &[])?;
    let publisher = Sidecar::start(side, &folder, "publisher", None, &[])?;
    let seconds = plan.seconds.to_string();
    let mut values = Vec::new();

    let before = (publisher.cpu()?, subscriber.cpu()?);
    sleep(Duration::from_secs_f64(plan.rest));
    let used = publisher
        .cpu()?
        .saturating_sub(before.0)
        .max(subscriber.cpu()?.saturating_sub(before.1));
    values.push(("queue_idle_cpu_share", used.as_secs_f64() / plan.rest * 100.0));

    app.measured(true)?;
    let calm = [
        SINGLE,
        &["--connections", "1", "--rate", "100", "--seconds", &seconds],
    ]
    .concat();
    let report = drive(plan, publisher.port, PATH, &calm)?;
    let sent = number(&report, "requests")? + number(&report, "warm_up")?;
    let arrived = app.delivered(sent as u64, ARRIVAL)?;
    values.push(("queue_p50_ms", number(&arrived, "p50_us")? / 1000.0));
    values.push(("queue_p99_ms", number(&arrived, "p99_us")? / 1000.0));

    app.measured(true)?;
    let busy = [SINGLE, &["--connections", "32", "--seconds", &seconds]].concat();
    let report = drive(plan, publisher.port, PATH, &busy)?;
    let sent = number(&report, "requests")? + number(&report, "warm_up")?;
    let arrived = app.delivered(sent as u64, ARRIVAL)?;
    values.push(("queue_per_second", sent / number(&arrived, "seconds")?));

    app.measured(true)?;
    let batches = [
        SINGLE,
        &["--batch", "100", "--connections", "4", "--seconds", &seconds],
    ]
    .concat();
    let report = drive(
        plan,
        publisher.port,
        "/v1.0-alpha1/publish/bulk/queue/bulk",
        &batches,
    )?;
    let sent = (number(&report, "requests")? + number(&report, "warm_up")?) * 100.0;
    let arrived = app.delivered(sent as u64, ARRIVAL)?;
    values.push(("queue_bulk_per_second", sent / number(&arrived, "seconds")?));
    Ok(values)
}

/// One large body through two sidecars, in chunks and with its length: how much memory it costs them.
fn upload(plan: &Plan, side: &Side) -> anyhow::Result<Values> {
    let mut values = Vec::new();
    for (chunked, growth_key, speed_key) in [
        (true, "upload_chunked_growth_mb", "upload_chunked_mb_per_second"),
        (false, "upload_length_growth_mb", "upload_length_mb_per_second"),
    ] {
        let pair = Pair::start(plan, side, "upload", &["--max-body-size", "2Gi"])?;
        pair.caller.reset_peak()?;
        pair.callee.reset_peak()?;
        let before = (pair.caller.memory()?, pair.callee.memory()?);
        let bytes = plan.upload.to_string();
        let mut arguments = vec!["--bytes", bytes.as_str()];
        if chunked {
            arguments.push("--chunked");
        }
        let report = run_load(
            plan,
            "upload",
            pair.caller.port,
            "/v1.0/invoke/callee/method/sink",
            &arguments,
        )?;
        anyhow::ensure!(
            report["status"].as_u64() == Some(200) && report["bytes"].as_u64() == Some(plan.upload),
            "the body did not arrive whole: {report}"
        );
        let growth = pair
            .caller
            .peak()?
            .saturating_sub(before.0)
            .max(pair.callee.peak()?.saturating_sub(before.1));
        values.push((growth_key, megabytes(growth)));
        values.push((speed_key, megabytes(plan.upload) / number(&report, "seconds")?));
    }
    Ok(values)
}

/// Arguments of a run of so many seconds.
fn timed<'a>(arguments: &[&'a str], seconds: &'a str) -> Vec<&'a str> {
    [arguments, &["--seconds", seconds]].concat()
}

/// A number of a report.
pub(crate) fn number(report: &Value, key: &str) -> anyhow::Result<f64> {
    report[key]
        .as_f64()
        .with_context(|| format!("the report has no {key}: {report}"))
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Starts a program of the machine for a guide row.
pub(crate) fn guide(plan: &Plan, name: &str, command: &mut Command) -> anyhow::Result<Service> {
    fs::create_dir_all(&plan.work)?;
    Service::start(name, command, &plan.work.join(format!("{name}.log")))
}
