//! The page: the asked-for numbers first, then everything beside the reference.

use std::{fmt::Write, fs};

use super::{Plan, metrics::Measured, rig::Side};
use crate::repo;

/// A row beside the reference.
struct Row {
    key: &'static str,
    label: &'static str,
    /// Ours over the reference's that the budget allows; none for rows that only inform.
    budget: Option<f64>,
}

/// Less is better, up to a share of the reference's.
const fn less(key: &'static str, label: &'static str, budget: Option<f64>) -> Row {
    Row { key, label, budget }
}

/// More is better; the latencies' and costs' rows carry the budgets.
const fn more(key: &'static str, label: &'static str) -> Row {
    Row {
        key,
        label,
        budget: None,
    }
}

/// CPU per request comes first: it is what a sidecar costs everywhere, all day.
const ROWS: &[Row] = &[
    less(
        "call_cpu_us",
        "invocation, both sidecars: CPU per request, µs",
        Some(1.0 / 3.0),
    ),
    less(
        "memory_cpu_us",
        "state in memory: CPU per operation, µs",
        Some(1.0 / 3.0),
    ),
    less("sqlite_cpu_us", "state on SQLite: CPU per operation, µs", None),
    less(
        "event_cpu_us",
        "publish → deliver in memory: CPU per event, µs",
        Some(0.25),
    ),
    less(
        "bulk_cpu_us",
        "bulk publish → bulk deliver: CPU per event, µs",
        None,
    ),
    less(
        "bulk_single_cpu_us",
        "bulk publish → single deliver: CPU per event, µs",
        None,
    ),
    less(
        "call_added_p50_us",
        "invocation, one connection: added p50, µs",
        Some(0.5),
    ),
    less(
        "call_added_p99_us",
        "invocation, one connection: added p99, µs",
        Some(1.0 / 3.0),
    ),
    less("call_busy_p99_us", "invocation, 16 connections: p99, µs", None),
    more(
        "call_per_second",
        "invocation, 16 connections: requests per second",
    ),
    more(
        "memory_per_second",
        "state in memory, 8 connections: operations per second",
    ),
    more(
        "sqlite_per_second",
        "state on SQLite, 8 connections: operations per second",
    ),
    more(
        "event_per_second",
        "publish → deliver in memory: events per second",
    ),
    more(
        "bulk_per_second",
        "bulk publish → deliver, delivered and acknowledged: events per second",
    ),
    less("idle_mb", "memory at rest, MB", None),
    less("load_mb", "memory after invocation load, MB", None),
    less("event_load_mb", "memory after single events, MB", None),
    less("bulk_load_mb", "memory after bulk events, MB", None),
    less(
        "bulk_single_load_mb",
        "memory after bulk events delivered singly, MB",
        None,
    ),
    less("start_ms", "exec to first 204 of outbound health, ms", None),
    less(
        "upload_chunked_growth_mb",
        "large body in chunks: memory growth, MB",
        None,
    ),
    less(
        "upload_length_growth_mb",
        "large body with its length: memory growth, MB",
        None,
    ),
    more(
        "upload_chunked_mb_per_second",
        "large body in chunks: MB per second",
    ),
    more(
        "upload_length_mb_per_second",
        "large body with its length: MB per second",
    ),
    less("idle_cpu_share", "CPU at rest, % of a core", None),
    less(
        "rate_cpu_share",
        "CPU at 1,000 calls/s, busier sidecar, % of a core",
        None,
    ),
    less(
        "call_app_cpu_us",
        "for scale: the app's CPU per request, µs",
        None,
    ),
    less(
        "call_generator_cpu_us",
        "for scale: the generator's CPU per request, µs",
        None,
    ),
];

/// A bound that stands by itself.
struct Bound {
    requirement: &'static str,
    label: &'static str,
    /// All must hold: key, bound, whether the bound is a floor.
    parts: &'static [(&'static str, f64, bool)],
}

/// The nine numbers that the product was asked for (A10.1–A10.7), at p99 and 1,000 requests/s where they are latencies.
const ASKED: &[Bound] = &[
    Bound {
        requirement: "A10.1",
        label: "invocation adds < 10 ms (plaintext: mTLS comes with sentry)",
        parts: &[("call_rate_added_p99_ms", 10.0, false)],
    },
    Bound {
        requirement: "A10.2",
        label: "state in memory < 5 ms",
        parts: &[("memory_rate_p99_ms", 5.0, false)],
    },
    Bound {
        requirement: "A10.2",
        label: "state persistent (SQLite) < 20 ms",
        parts: &[("sqlite_rate_p99_ms", 20.0, false)],
    },
    Bound {
        requirement: "A10.3",
        label: "publish < 5 ms",
        parts: &[("publish_rate_p99_ms", 5.0, false)],
    },
    Bound {
        requirement: "A10.3",
        label: "deliver < 10 ms",
        parts: &[("deliver_rate_p99_ms", 10.0, false)],
    },
    Bound {
        requirement: "A10.4",
        label: "invocation ≥ 10,000 requests/s (HTTP)",
        parts: &[("call_per_second", 10_000.0, true)],
    },
    Bound {
        requirement: "A10.5",
        label: "state ≥ 5,000 operations/s (memory; SQLite)",
        parts: &[
            ("memory_per_second", 5_000.0, true),
            ("sqlite_per_second", 5_000.0, true),
        ],
    },
    Bound {
        requirement: "A10.6",
        label: "pub/sub ≥ 100,000 messages/s (bulk)",
        parts: &[("bulk_per_second", 100_000.0, true)],
    },
    Bound {
        requirement: "A10.7",
        label: "at rest < 10 % of a core and < 128 MB; at 1,000 calls/s ≤ 50 %; at load ≤ 512 MB",
        parts: &[
            ("idle_cpu_share", 10.0, false),
            ("idle_mb", 128.0, false),
            ("rate_cpu_share", 50.0, false),
            ("load_mb", 512.0, false),
        ],
    },
];

/// Our own budgets that need no reference (docs/adr and the design's table).
const OURS: &[Bound] = &[
    Bound {
        requirement: "",
        label: "memory at rest ≤ 15 MB",
        parts: &[("idle_mb", 15.0, false)],
    },
    Bound {
        requirement: "",
        label: "memory after load ≤ 30 MB",
        parts: &[("load_mb", 30.0, false)],
    },
    Bound {
        requirement: "",
        label: "start to healthy ≤ 25 ms",
        parts: &[("start_ms", 25.0, false)],
    },
    Bound {
        requirement: "",
        label: "large body: memory growth ≤ 32 MB (chunks; length)",
        parts: &[
            ("upload_chunked_growth_mb", 32.0, false),
            ("upload_length_growth_mb", 32.0, false),
        ],
    },
    Bound {
        requirement: "",
        label: "pubsub.sqlite across two processes: p50 ≤ 5 ms",
        parts: &[("queue_p50_ms", 5.0, false)],
    },
    Bound {
        requirement: "",
        label: "pubsub.sqlite: ≥ 3,000 durable messages/s (single; bulk)",
        parts: &[
            ("queue_per_second", 3_000.0, true),
            ("queue_bulk_per_second", 3_000.0, true),
        ],
    },
    Bound {
        requirement: "",
        label: "pubsub.sqlite at rest ≤ 0.1 % of a core",
        parts: &[("queue_idle_cpu_share", 0.1, false)],
    },
];

/// Renders the page.
pub(crate) fn page(plan: &Plan, measured: &Measured, ours: &Side, reference: Option<&Side>) -> String {
    let mut text = String::from(
        "# Performance record\n\n\
         Written by `cargo xtask bench`, never by hand. Medians of all rounds; the rounds alternate between both sides, on the\n\
         same machine, with the same flags, components, app and generator, over loopback. CPU is user + system time of the\n\
         sidecars alone, from `/proc/<pid>/stat`; the generator's and the app's stand in rows of their own.\n\n",
    );
    let _ = writeln!(text, "| | |\n| --- | --- |");
    let _ = writeln!(
        text,
        "| Measured | {}, commit {} |",
        repo::today(),
        repo::commit()
    );
    let _ = writeln!(text, "| Machine | {} |", machine());
    let _ = writeln!(text, "| Ours | {} |", describe(ours));
    let _ = writeln!(
        text,
        "| Reference | {} |",
        reference.map_or_else(|| "none".to_owned(), describe)
    );
    let _ = writeln!(
        text,
        "| Rounds | {} of each side, {} s a measurement; large body {} MiB |\n",
        plan.rounds,
        plan.seconds,
        plan.upload >> 20
    );
    text.push_str("## The nine numbers asked for\n\n");
    text.push_str("Latencies are p99 at 1,000 requests/s.\n\n| row | number | measured | holds |\n| --- | --- | ---: | --- |\n");
    for bound in ASKED {
        let (value, holds) = judge(measured, bound);
        let _ = writeln!(
            text,
            "| {} | {} | {value} | {holds} |",
            bound.requirement, bound.label
        );
    }
    text.push_str("\n## Beside the reference\n\n");
    text.push_str("Ratio is ours over the reference's; the budget is the ratio we allow ourselves. Daprd's in-memory broker hands over one\n\
         event at a time, so its batches never fill: the rows of single delivery are the fair ones to compare.\n\n");
    text.push_str("| what | ours | (min–max) | daprd | (min–max) | ratio | budget | holds |\n");
    text.push_str("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n");
    for row in ROWS {
        text.push_str(&render(measured, row));
    }
    if let Some(cpu) = measured.median("nginx", "call_cpu_us") {
        let rate = measured.median("nginx", "call_per_second").unwrap_or_default();
        let _ = writeln!(
            text,
            "\nGuide: two nginx hops cost {cpu:.1} µs of CPU per request here and do {rate:.0} requests/s."
        );
    }
    text.push_str("\n## Our own budgets\n\n| budget | measured | holds |\n| --- | ---: | --- |\n");
    for bound in OURS {
        let (value, holds) = judge(measured, bound);
        let _ = writeln!(text, "| {} | {value} | {holds} |", bound.label);
    }
    if !measured.notes().is_empty() {
        text.push_str("\n## Not measured\n\n");
        for note in measured.notes() {
            let _ = writeln!(text, "- {note}");
        }
    }
    text.push_str(
        "\n## Again\n\n\
         ```\nREFERENCE_DAPRD_DIR=<folder of a real daprd> cargo xtask bench\n```\n\n\
         Flags: `--rounds N`, `--seconds S`, `--rest S` (before idle figures), `--upload-mib N`, `--only start,calls,state,events,bulk,queue,upload`,\n\
         `--profile NAME` (default `release`), `--ours PATH` (another program in our place), `--no-page`.\n",
    );
    text
}

/// The values of a bound, and whether all hold.
fn judge(measured: &Measured, bound: &Bound) -> (String, &'static str) {
    let mut values = Vec::new();
    let mut holds = true;
    for (key, limit, floor) in bound.parts {
        match measured.median("ours", key) {
            Some(value) => {
                values.push(figure(value));
                holds &= if *floor { value >= *limit } else { value <= *limit };
            }
            None => return ("not measured".to_owned(), "no"),
        }
    }
    (values.join("; "), if holds { "yes" } else { "**no**" })
}

fn render(measured: &Measured, row: &Row) -> String {
    let cell = |side| {
        let value = measured
            .median(side, row.key)
            .map_or_else(|| "–".to_owned(), figure);
        let range = measured
            .range(side, row.key)
            .map_or_else(String::new, |(low, high)| {
                format!("{}–{}", figure(low), figure(high))
            });
        format!("{value} | {range}")
    };
    let ratio = measured
        .median("ours", row.key)
        .zip(measured.median("daprd", row.key))
        .and_then(|(ours, reference)| (reference.abs() > f64::EPSILON).then(|| ours / reference));
    let (budget, holds) = match (row.budget, ratio) {
        (Some(budget), Some(ratio)) => (
            format!("≤ {budget:.2}"),
            if ratio <= budget { "yes" } else { "**no**" },
        ),
        (Some(budget), None) => (format!("≤ {budget:.2}"), ""),
        (None, _) => (String::new(), ""),
    };
    let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
    format!(
        "| {} | {} | {} | {ratio} | {budget} | {holds} |\n",
        row.label,
        cell("ours"),
        cell("daprd")
    )
}

/// As many digits as tell something.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn describe(side: &Side) -> String {
    let size = side.size().map_or_else(String::new, |bytes| {
        format!(", program {:.1} MB", bytes as f64 / 1e6)
    });
    format!("{}{size}", side.version())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Measured {
        let mut measured = Measured::default();
        measured.add(
            "ours",
            vec![
                ("call_cpu_us", 60.0),
                ("memory_per_second", 9000.0),
                ("sqlite_per_second", 4000.0),
            ],
        );
        measured.add("daprd", vec![("call_cpu_us", 300.0)]);
        measured
    }

    #[test]
    fn a_ratio_is_held_against_its_budget() {
        let row = render(&measured(), &ROWS[0]);
        assert!(row.contains("| 0.20 | ≤ 0.33 | yes |"), "{row}");
    }

    #[test]
    fn every_part_of_a_bound_must_hold() {
        let bound = ASKED.iter().find(|bound| bound.requirement == "A10.5").unwrap();
        assert_eq!(judge(&measured(), bound), ("9000; 4000".to_owned(), "**no**"));
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        assert_eq!(judge(&Measured::default(), &ASKED[0]).1, "no");
    }
}
