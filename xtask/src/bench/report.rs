//! The page: the asked-for numbers first, then our budgets, then everything beside the reference.

use std::{fmt::Write, fs, process::Command};

use super::{
    Plan,
    metrics::Measured,
    rig::Side,
    rows::{ROWS, SCALE},
    targets::{ASKED, BUDGETS, Limit, Part, Target},
};
use crate::repo;

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Progress {
    /// Under way, after so many measurements of so many; stays on the page when the run is ended from outside.
    After(usize, usize),
    Done,
}

/// What is known before anything is measured: the page itself changes the tree that is named here.
#[derive(Debug)]
pub(crate) struct Head {
    /// Where and when, in a line.
    place: String,
    /// The sides and the rounds, as a table's lines.
    sides: String,
}

/// Asks the machine and the programs.
pub(crate) fn head(plan: &Plan, ours: &Side, reference: Option<&Side>, nginx: Option<&Side>) -> Head {
    let rows = [
        ("Ours", format!("{}, {}", plan.build, describe(ours))),
        (
            "Reference",
            reference.map_or_else(|| "none: REFERENCE_DAPRD_DIR is not set".to_owned(), describe),
        ),
        (
            "For scale",
            nginx.map_or_else(
                || "no nginx here (apt-get install nginx-light)".to_owned(),
                |nginx| nginx_version(&nginx.command()),
            ),
        ),
        (
            "Rounds",
            format!(
                "{} of each side, {} s a measurement, {} s of rest before figures at rest; large body {} MiB",
                plan.rounds,
                plan.seconds,
                plan.rest,
                plan.upload >> 20
            ),
        ),
        ("Load average before", load_average()),
    ];
    Head {
        place: format!("{}, on {}, commit {}", repo::today(), machine(), repo::commit()),
        sides: rows
            .iter()
            .map(|(name, value)| format!("| {name} | {value} |\n"))
            .collect(),
    }
}

/// Renders the page.
pub(crate) fn page(head: &Head, plan: &Plan, measured: &Measured, progress: Progress) -> String {
    let mut text = String::from("# Performance record\n\n");
    if let Progress::After(done, all) = progress {
        let _ = writeln!(
            text,
            "**Unfinished: this run ended, or still is, after {done} of {all} measurements. What follows is what there is.**\n"
        );
    }
    if !measured.failures().is_empty() {
        let _ = writeln!(
            text,
            "**{} measurements failed; see [the end](#failed).**\n",
            measured.failures().len()
        );
    }
    let _ = writeln!(
        text,
        "{}. Written by `cargo xtask bench`, never by hand.\n\n## The nine numbers asked for\n\n\
         Medians of {} rounds. Latencies are p99 at 1,000 requests/s, over loopback.\n",
        head.place, plan.rounds
    );
    text.push_str("| | row | number | measured | verdict |\n| ---: | --- | --- | --- | --- |\n");
    for (index, target) in ASKED.iter().enumerate() {
        let (values, verdict) = judge(plan, measured, progress, target);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {values} | {verdict} |",
            index + 1,
            target.row,
            target.label
        );
    }
    if let [Some(p50), Some(p90), Some(p99)] = [
        "call_rate_added_p50_ms",
        "call_rate_added_p90_ms",
        "call_rate_added_p99_ms",
    ]
    .map(|key| measured.median("ours", key))
    {
        let _ = writeln!(
            text,
            "\nTwo sidecars add {} ms at p50, {} ms at p90 and {} ms at p99 to an invocation, in plaintext. With mutual TLS\n\
             nothing is measured: no sidecar here can get a certificate before sentry is there.",
            figure(p50),
            figure(p90),
            figure(p99)
        );
    }
    let _ = write!(
        text,
        "\n## How\n\n\
         Medians of all rounds; the sides take turns, scenario by scenario, on the same machine, with the same flags,\n\
         components, app and generator, over loopback. CPU is user + system time of the sidecars alone, from\n\
         `/proc/<pid>/stat`; the generator's and the app's stand in a table of their own.\n\n\
         | | |\n| --- | --- |\n{}",
        head.sides
    );
    text.push_str(
        "\n## Our budgets\n\n\
         `x of y` is ours beside daprd's. Default components are those of `outrigger run`: state and pub/sub on SQLite and two\n\
         local secret stores; daprd gets the same, with pub/sub in memory, as it has none on SQLite. Sets and gets go over\n\
         1,000 keys in turn; sets of one key by all connections have rows of their own below.\n\n\
         | budget | measured | verdict |\n| --- | --- | --- |\n",
    );
    for target in BUDGETS {
        let (values, verdict) = judge(plan, measured, progress, target);
        let _ = writeln!(text, "| {} | {values} | {verdict} |", target.label);
    }
    two_hops(&mut text, measured);
    text.push_str(
        "\n## Beside the reference\n\n\
         Ratio is ours over daprd's. Daprd's in-memory broker hands over one event at a time, so its batches never fill: the\n\
         rows of single delivery are the fair ones to compare.\n\n\
         | what | ours | (min–max) | daprd | (min–max) | ratio |\n| --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (key, label) in ROWS {
        text.push_str(&beside(measured, key, label));
    }
    text.push_str("\n### Generator and app\n\nCPU in µs, where no other unit is named.\n\n| what | beside ours | beside daprd |\n| --- | ---: | ---: |\n");
    for (key, label) in SCALE {
        let cell = |side| measured.median(side, key).map_or_else(|| "–".to_owned(), figure);
        let _ = writeln!(text, "| {label} | {} | {} |", cell("ours"), cell("daprd"));
    }
    if !measured.failures().is_empty() {
        text.push_str("\n## Failed\n\nWhat a scenario gave before it failed is counted above.\n\n");
        for failure in measured.failures() {
            let _ = writeln!(
                text,
                "- {} {} (round {}): {}",
                failure.side,
                failure.scenario,
                failure.round,
                line(&failure.error)
            );
        }
    }
    text.push_str(
        "\n## Again\n\n\
         ```\nREFERENCE_DAPRD_DIR=<folder of a real daprd> cargo xtask bench\n```\n\n\
         Flags: `--rounds N`, `--seconds S`, `--rest S` (before figures at rest), `--upload-mib N`, `--profile NAME` (default\n\
         `release`), `--ours PATH` (another program in our place), `--no-page`, `--only start,memory,calls,nginx,grpc,state,events,bulk,queue,redis,postgres,soak,upload`;
         `soak` runs only when it is named, for `--soak-minutes N` (20).\n\
         With `--only`, `--ours` or `--no-page` the page goes to `target/bench/performance.md` alone. Everything once, to see\n\
         that it works: `--rounds 1 --seconds 1 --rest 4 --upload-mib 64 --profile fast --no-page`.\n",
    );
    text
}

/// The same request through two hops of each kind.
fn two_hops(text: &mut String, measured: &Measured) {
    if measured.count("nginx", "call_cpu_us") == 0 {
        return;
    }
    text.push_str(
        "\n## Two hops, for scale\n\n\
         A POST of 100 bytes to the same app through two processes: two sidecars, or two nginx that only pass it on (one\n\
         worker each, kept connections). No target: it is what two plain proxies cost here.\n\n\
         | hops | CPU per request, µs | requests/s, 16 connections | p50, one connection, µs |\n| --- | ---: | ---: | ---: |\n",
    );
    for (side, name) in [
        ("nginx", "nginx"),
        ("ours", "our sidecars"),
        ("daprd", "daprd's sidecars"),
    ] {
        let cell = |key| measured.median(side, key).map_or_else(|| "–".to_owned(), figure);
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} |",
            cell("call_cpu_us"),
            cell("call_per_second"),
            cell("call_p50_us")
        );
    }
}

/// A part that has a value: its text, and whether it holds.
fn hold(plan: &Plan, measured: &Measured, progress: Progress, part: &Part) -> Result<(String, bool), String> {
    let value = |side, scenario, key| {
        measured
            .median(side, key)
            .ok_or_else(|| why(plan, measured, progress, side, scenario))
    };
    let ours = value("ours", part.scenario, part.key)?;
    let unit = |value: f64| format!("{} {}", figure(value), part.unit).trim_end().to_owned();
    let beside = |other: f64, limit: f64, sign: &str| {
        format!(
            "{} of {}: {:.3} ({sign} {limit:.3})",
            figure(ours),
            unit(other),
            ours / other
        )
    };
    Ok(match part.limit {
        Limit::Below(limit) => (format!("{} (< {})", unit(ours), plain(limit)), ours < limit),
        Limit::AtMost(limit) => (format!("{} (≤ {})", unit(ours), plain(limit)), ours <= limit),
        Limit::AtLeast(limit) => (format!("{} (≥ {})", unit(ours), plain(limit)), ours >= limit),
        Limit::Share(limit) => {
            let other = value("daprd", part.scenario, part.key)?;
            (beside(other, limit, "≤"), ours <= limit * other)
        }
        Limit::Within(limit, scenario, key) => {
            let other = value("ours", scenario, key)?;
            (beside(other, limit, "<"), ours < limit * other)
        }
    })
}

/// Why a side has no value of a scenario.
fn why(plan: &Plan, measured: &Measured, progress: Progress, side: &str, scenario: &str) -> String {
    if let Some(failure) = measured.failure(side, scenario) {
        let error: String = line(&failure.error).chars().take(120).collect();
        return format!("{side} failed: {error}");
    }
    if plan
        .only
        .as_ref()
        .is_some_and(|only| !only.iter().any(|name| name == scenario))
    {
        return "left out by --only".to_owned();
    }
    if side == "daprd" && !plan.reference {
        return "no reference was given".to_owned();
    }
    match progress {
        Progress::After(..) => "the run has not come to it".to_owned(),
        Progress::Done => format!("{side} gave no value"),
    }
}

/// The values of a target, and the verdict on all of them.
fn judge(plan: &Plan, measured: &Measured, progress: Progress, target: &Target) -> (String, String) {
    let mut values = Vec::new();
    let (mut passed, mut failed) = (Vec::new(), Vec::new());
    // Names by reason: most often one reason is behind all.
    let mut absent: Vec<(String, Vec<&str>)> = Vec::new();
    let mut miss = |name, reason: String| match absent.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, names)) => names.push(name),
        None => absent.push((reason, vec![name])),
    };
    for part in target.parts {
        match hold(plan, measured, progress, part) {
            Ok((value, holds)) => {
                values.push(format!("{} {value}", part.name).trim_start().to_owned());
                if holds { &mut passed } else { &mut failed }.push(part.name);
            }
            Err(reason) => {
                // Nothing to hold it against, but a number all the same.
                if let Some(ours) = measured.median("ours", part.key) {
                    let value = format!("{} {} {}", part.name, figure(ours), part.unit);
                    values.push(value.trim().to_owned());
                }
                miss(part.name, reason);
            }
        }
    }
    for (name, reason) in target.absent {
        miss(name, (*reason).to_owned());
    }
    let named = |word: &str, names: &[&str]| match names.join(", ") {
        names if names.is_empty() => word.to_owned(),
        names => format!("{word}: {names}"),
    };
    let mut verdict = Vec::new();
    if !failed.is_empty() {
        verdict.push(named("**fail**", &failed));
    } else if !passed.is_empty() {
        verdict.push(if absent.is_empty() {
            "pass".to_owned()
        } else {
            named("pass", &passed)
        });
    }
    for (reason, names) in &absent {
        verdict.push(format!("{} ({reason})", named("**not measured**", names)));
    }
    // A number of fewer rounds than the others must not look like them.
    if let Some(failure) = target
        .parts
        .iter()
        .filter(|part| measured.count("ours", part.key) > 0)
        .find_map(|part| measured.failure("ours", part.scenario))
    {
        verdict.push(format!(
            "a round of `{}` failed, see [the end](#failed)",
            failure.scenario
        ));
    }
    let values = if values.is_empty() {
        "–".to_owned()
    } else {
        values.join("; ")
    };
    (values, verdict.join("; "))
}

fn beside(measured: &Measured, key: &'static str, label: &str) -> String {
    let cell = |side| {
        let value = measured.median(side, key).map_or_else(|| "–".to_owned(), figure);
        let range = measured.range(side, key).map_or_else(String::new, |(low, high)| {
            format!("{}–{}", figure(low), figure(high))
        });
        format!("{value} | {range}")
    };
    let ratio = measured
        .median("ours", key)
        .zip(measured.median("daprd", key))
        .filter(|(_, reference)| reference.abs() > f64::EPSILON)
        .map_or_else(
            || "–".to_owned(),
            |(ours, reference)| format!("{:.2}", ours / reference),
        );
    format!("| {label} | {} | {} | {ratio} |\n", cell("ours"), cell("daprd"))
}

/// As many digits as tell something.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A limit as it was written down.
fn plain(limit: f64) -> String {
    let mut digits = format!("{limit}");
    if limit >= 1000.0 {
        digits.insert(digits.len() - 3, ',');
    }
    digits
}

/// An error as part of a table's line.
fn line(error: &str) -> String {
    error.replace(['\n', '\r'], " ").replace('|', "/")
}

fn describe(side: &Side) -> String {
    let size = side.size().map_or_else(String::new, |bytes| {
        format!(", program of {:.1} MB", bytes as f64 / 1e6)
    });
    let note = match side.version().as_str() {
        // Builds from a checkout carry no version.
        "edge" => "`edge` (built from a checkout; its tag is known to who built it)".to_owned(),
        version => version.to_owned(),
    };
    format!("says {note}{size}")
}

/// Nginx says its version on stderr.
fn nginx_version(command: &Command) -> String {
    Command::new(command.get_program())
        .arg("-v")
        .output()
        .ok()
        .and_then(|output| {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            text.trim()
                .rsplit_once("version: ")
                .map(|(_, version)| version.to_owned())
        })
        .unwrap_or_else(|| "nginx".to_owned())
}

/// Processor, cores, memory and kernel.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
    };
    let model = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.strip_suffix(" kB")?.parse::<f64>().ok())
        .map_or_else(String::new, |kibibytes| {
            format!(", {:.0} GB", kibibytes * 1024.0 / 1e9)
        });
    format!(
        "{model}, {cores} cores{memory}, Linux {}",
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// What else the machine did when the run began.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests;
