//! The page: what was seen, and whether it holds.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use super::{
    CALLS, EVENTS, Ramp, STATE,
    faults::Outcome,
    fleet::{Names, Shares},
    load::Record,
};
use crate::{chaos::millis, repo};

/// Calls that must succeed, in every phase: the client does not retry, its sidecar does (D4).
const CALLS_HOLD: f64 = 0.999;
/// State operations that must succeed (N6).
const STATE_HOLDS: f64 = 0.995;
/// Events that must be there within a second (N6).
const EVENTS_HOLD: f64 = 0.999;

/// What the page says of the run itself.
pub(super) struct Head<'a> {
    pub(super) build: &'a str,
    pub(super) names: Names,
    pub(super) seconds: u64,
    pub(super) took: Duration,
}

/// Operations of one kind in one phase.
struct Figures {
    count: usize,
    failed: usize,
    p50: Duration,
    p99: Duration,
    worst: Duration,
}

impl Figures {
    fn of(records: &[Record], from: Instant, to: Instant) -> Self {
        let inside = records
            .iter()
            .filter(|record| from <= record.due && record.due < to);
        let failed = inside.clone().filter(|record| !record.succeeded).count();
        let mut took: Vec<_> = inside.map(|record| record.took).collect();
        took.sort_unstable();
        Self {
            count: took.len(),
            failed,
            p50: rank(&took, 0.5),
            p99: rank(&took, 0.99),
            worst: rank(&took, 1.0),
        }
    }

    fn holds(&self, share: f64) -> bool {
        self.failed as f64 <= self.count as f64 * (1.0 - share)
    }
}

/// Events acknowledged in one phase.
struct Delivered {
    count: usize,
    lost: usize,
    late: usize,
    p99: Duration,
}

impl Delivered {
    fn of(ramp: &Ramp, from: Instant, to: Instant) -> Self {
        let mut delays = Vec::new();
        let mut count = 0;
        ramp.app.look(|deliveries| {
            for (number, sent) in &ramp.events.by_number {
                if from <= sent.at && sent.at < to {
                    count += 1;
                    if let Some(delivery) = deliveries.by_number.get(number) {
                        delays.push(delivery.first.saturating_duration_since(sent.at));
                    }
                }
            }
        });
        delays.sort_unstable();
        let quick = delays.partition_point(|delay| *delay < Duration::from_secs(1));
        Self {
            count,
            lost: count - delays.len(),
            late: delays.len() - quick,
            p99: rank(&delays, 0.99),
        }
    }
}

/// The smallest of sorted times that this share of all does not exceed.
fn rank(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// The page's text, and what does not hold.
pub(super) fn render(head: &Head<'_>, ramp: &Ramp, outcomes: &[Outcome]) -> (String, Vec<String>) {
    let mut failed = Vec::new();
    let mut text = format!(
        "# From 1 instance to 50 and back\n\n{}, commit {}, {}, {} cores; names by {}, {} s a plateau, {:.0} s in all.\n\
         Written by `cargo xtask scale`, never by hand.\n\n\
         A client's sidecar calls a service {CALLS} times a second, sets and gets {STATE} values a second and publishes\n\
         {EVENTS} events a second, which the service takes and which cost it 2 ms each. Every operation has its moment,\n\
         whatever became of those before; one that is late counts from that moment. Meanwhile instances of the service are\n\
         added and taken away five at a time, in order (SIGINT; SIGTERM does the same), the oldest first; one is killed by\n\
         SIGKILL. Instances are real sidecar processes; their apps, each on a port of its own, live in the tool's\n\
         process, as does the load: all of it shares the machine's cores. State and events are on one Redis that syncs every\n\
         write to the disk. The client repeats nothing, its sidecar what Dapr's built-in retries repeat.\n\n\
         | instances | calls | failed | p50, ms | p99, ms | worst, ms | state | failed | p99, ms | events | lost | later than 1 s | p99, ms |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        repo::today(),
        repo::commit(),
        head.build,
        std::thread::available_parallelism().map_or(0, usize::from),
        head.names.describe(),
        head.seconds,
        head.took.as_secs_f64(),
    );
    let mut check = |holds: bool, what: String| {
        if !holds {
            failed.push(what);
        }
    };
    for phase in &ramp.phases {
        let calls = Figures::of(&ramp.calls.records, phase.from, phase.to);
        let state = Figures::of(&ramp.state.records, phase.from, phase.to);
        let events = Delivered::of(ramp, phase.from, phase.to);
        check(
            calls.holds(CALLS_HOLD),
            format!("{}: {} calls failed", phase.name, calls.failed),
        );
        check(
            state.holds(STATE_HOLDS),
            format!("{}: {} state operations failed", phase.name, state.failed),
        );
        check(
            events.lost == 0,
            format!("{}: {} events lost", phase.name, events.lost),
        );
        let _ = writeln!(
            text,
            "| {} | {} | {} ({}) | {:.1} | {:.1} | {:.0} | {} | {} ({}) | {:.1} | {} | {} | {} | {:.1} |",
            phase.name,
            calls.count,
            calls.failed,
            percent(calls.failed, calls.count),
            millis(calls.p50),
            millis(calls.p99),
            millis(calls.worst),
            state.count,
            state.failed,
            percent(state.failed, state.count),
            millis(state.p99),
            events.count,
            events.lost,
            events.late,
            millis(events.p99),
        );
    }
    let (from, to) = match (ramp.phases.first(), ramp.phases.last()) {
        (Some(first), Some(last)) => (first.from, last.to),
        _ => (Instant::now(), Instant::now()),
    };
    let all = Delivered::of(ramp, from, to);
    let quick = (all.count - all.lost - all.late) as f64 / all.count.max(1) as f64;
    check(
        quick >= EVENTS_HOLD,
        format!("only {:.3} % of events within 1 s", quick * 100.0),
    );
    let _ = write!(
        text,
        "\nIn all {} events, {} lost, {:.3} % within 1 s; {} publishes refused and repeated.\n\n\
         | instances | that answered calls | calls each | that took events | events each | read elsewhere at once | CPU of all sidecars, % of a core | memory of all, MB | of one, MB |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        all.count,
        all.lost,
        quick * 100.0,
        ramp.events.refused,
    );
    for (name, shares) in ramp
        .phases
        .iter()
        .filter_map(|phase| Some((&phase.name, phase.shares.as_ref()?)))
    {
        let (count, busy) = (
            shares.calls.len(),
            shares.calls.iter().filter(|calls| **calls > 0).count(),
        );
        check(busy == count, format!("{name}: only {busy} answered calls"));
        check(
            shares.consistent == Shares::PROBES,
            format!("{name}: {} read elsewhere", shares.consistent),
        );
        let _ = writeln!(
            text,
            "| {name} | {busy} | {} | {} | {} | {} of {} | {:.0} | {:.0} | {:.1} |",
            range(&shares.calls),
            shares.events.iter().filter(|events| **events > 0).count(),
            range(&shares.events),
            shares.consistent,
            Shares::PROBES,
            shares.cpu * 100.0,
            shares.proportional as f64 / 1e6,
            shares.resident as f64 / 1e6 / count.max(1) as f64,
        );
    }
    text.push_str(
        "\nMemory of all is the sum of proportional set sizes, that of one the mean resident set, shared pages included.\n\
         \"Read elsewhere at once\": a value set at one instance's sidecar and got at another's in the next request.\n\n\
         Must hold, in every row: ≥ 99.9 % of calls succeed, ≥ 99.5 % of state operations, no event is lost, every instance\n\
         answers calls, every value is read elsewhere; and in all ≥ 99.9 % of events come within a second.\n\n\
         ## State while things are killed\n\n\
         Set and get by turns, 200 operations a second, and once in a while a SIGKILL: of the client's sidecar, which is\n\
         started again, or of the store. A get must give what was acknowledged last. `with retries` is an app on the kit: up to\n\
         3 of them, after 200, 400 and 800 ms. `at the first try` is what an app without them would see of the same run. SQLite\n\
         lives in the sidecar.\n\n\
         | store | killed | operations | with retries | at the first try | p99, ms | worst, ms | |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |\n",
    );
    for outcome in outcomes {
        let (success, first) = outcome.success();
        let holds = success >= STATE_HOLDS;
        check(
            holds,
            format!("state on {} under {} kills", outcome.store, outcome.killed),
        );
        let mut took: Vec<_> = outcome.seen.records.iter().map(|record| record.took).collect();
        took.sort_unstable();
        let _ = writeln!(
            text,
            "| {} | {} × {} | {} | {:.3} % | {:.3} % | {:.1} | {:.0} | {} |",
            outcome.store,
            outcome.killed,
            outcome.rounds,
            outcome.seen.records.len(),
            success * 100.0,
            first * 100.0,
            millis(rank(&took, 0.99)),
            millis(rank(&took, 1.0)),
            if holds { "holds" } else { "**fails**" }
        );
    }
    let _ = write!(
        text,
        "\nWith retries ≥ 99.5 % must succeed. What becomes of events under kills is on [its own page](zero-loss.md).\n"
    );
    if !failed.is_empty() {
        let _ = write!(text, "\nDoes not hold: {}.\n", failed.join("; "));
    }
    (text, failed)
}

fn percent(part: usize, all: usize) -> String {
    format!("{:.2} %", part as f64 * 100.0 / all.max(1) as f64)
}

/// Fewest and most.
fn range(counts: &[u64]) -> String {
    let (low, high) = (
        counts.iter().min().copied().unwrap_or(0),
        counts.iter().max().copied().unwrap_or(0),
    );
    if low == high {
        low.to_string()
    } else {
        format!("{low}–{high}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_due_in_a_phase_counts_there() {
        let from = Instant::now();
        let record = |after: u64, succeeded| Record {
            due: from + Duration::from_secs(after),
            took: Duration::from_millis(after),
            succeeded,
            retries: 0,
        };
        let records = [
            record(0, true),
            record(1, false),
            record(2, true),
            record(3, false),
        ];
        let figures = Figures::of(&records, from, from + Duration::from_secs(3));
        assert_eq!((figures.count, figures.failed), (3, 1));
        assert_eq!(figures.worst, Duration::from_millis(2));
        assert!(!figures.holds(0.99) && figures.holds(0.5));
    }

    #[test]
    fn counts_are_shown_by_their_ends() {
        assert_eq!(range(&[3, 1, 2]), "1–3");
        assert_eq!(range(&[2, 2]), "2");
        assert_eq!(range(&[]), "0");
    }
}
