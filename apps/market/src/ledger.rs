//! What arrived of what was sent, and how late.

use std::collections::BTreeMap;

use crate::shapes::{Exchange, Tick};

/// Latencies are counted in buckets, each wider than the one before by an eighth.
const FIRST_BUCKET_NS: f64 = 1_000.0;
const GROWTH: f64 = 1.125;
const BUCKETS: usize = 200;

/// Ticks as they arrive, in any order. A simulated exchange counts trades by one per symbol, so a number that is not
/// there between the first and the last one is a lost tick.
#[derive(Debug, Clone)]
pub struct Ledger {
    seen: BTreeMap<(Exchange, String), Seen>,
    ticks: u64,
    repeats: u64,
    buckets: [u64; BUCKETS],
    slowest_ns: i64,
    /// The first trade of each symbol that is out of the count.
    ends: BTreeMap<(Exchange, String), u64>,
}

/// The trade numbers of one symbol as ranges, both ends included; one range unless something is missing.
#[derive(Debug, Clone, Default)]
struct Seen(BTreeMap<u64, u64>);

impl Seen {
    /// False if it was there already.
    fn insert(&mut self, id: u64) -> bool {
        let before = self.0.range(..=id).next_back().map(|(start, end)| (*start, *end));
        if before.is_some_and(|(_, end)| end >= id) {
            return false;
        }
        let start = match before {
            Some((start, end)) if end.checked_add(1) == Some(id) => start,
            _ => id,
        };
        let after = id.checked_add(1).and_then(|next| self.0.remove(&next));
        self.0.insert(start, after.unwrap_or(id));
        true
    }

    /// Numbers that are not there, up to the last one or, if there is an end, up to that.
    fn missing(&self, end: Option<u64>) -> u64 {
        let last = self.0.values().next_back().copied().unwrap_or(u64::MAX);
        let tail = end.map_or(0, |end| end.saturating_sub(last.saturating_add(1)));
        let starts = self.0.keys().skip(1);
        let gaps: u64 = starts
            .zip(self.0.values())
            .map(|(start, end)| start - end - 1)
            .sum();
        gaps + tail
    }
}

/// The ledger's sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Different ticks that arrived.
    pub ticks: u64,
    /// Ticks that arrived again.
    pub repeats: u64,
    /// Ticks that did not arrive although later ones of the symbol did.
    pub missing: u64,
    /// Half of the ticks were younger than this when they arrived; within an eighth.
    pub median_ns: i64,
    /// 99 of 100 were younger; within an eighth.
    pub p99_ns: i64,
    /// The oldest.
    pub slowest_ns: i64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            seen: BTreeMap::new(),
            ticks: 0,
            repeats: 0,
            buckets: [0; BUCKETS],
            slowest_ns: 0,
            ends: BTreeMap::new(),
        }
    }
}

impl Ledger {
    /// Writes down one tick that arrived at `now_ns`, nanoseconds since 1970. Repeats are not asked for their age.
    pub fn record(&mut self, tick: &Tick, now_ns: i64) {
        let seen = self.seen.entry((tick.exchange, tick.symbol.clone())).or_default();
        if !seen.insert(tick.trade_id) {
            self.repeats += 1;
            return;
        }
        self.ticks += 1;
        // Clocks of two machines may differ; nothing arrives before it was sent.
        let age = now_ns.saturating_sub(tick.event_time_ns).max(0);
        self.slowest_ns = self.slowest_ns.max(age);
        let bucket = ((age as f64 / FIRST_BUCKET_NS).max(1.0).ln() / GROWTH.ln()).ceil() as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
    }

    /// Takes note of a tick of after the span that is counted: all up to it should be there.
    pub fn end(&mut self, tick: &Tick) {
        let end = self
            .ends
            .entry((tick.exchange, tick.symbol.clone()))
            .or_insert(tick.trade_id);
        *end = tick.trade_id.min(*end);
    }

    /// Whether the end of every symbol is known and everything up to it is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.seen.iter().all(|(symbol, seen)| {
            self.ends
                .get(symbol)
                .is_some_and(|end| seen.missing(Some(*end)) == 0)
        })
    }

    /// The sums so far.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            ticks: self.ticks,
            repeats: self.repeats,
            missing: self
                .seen
                .iter()
                .map(|(symbol, seen)| seen.missing(self.ends.get(symbol).copied()))
                .sum(),
            median_ns: self.percentile(50),
            p99_ns: self.percentile(99),
            slowest_ns: self.slowest_ns,
        }
    }

    fn percentile(&self, percent: u64) -> i64 {
        let wanted = (self.ticks * percent).div_ceil(100);
        let mut counted = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            counted += count;
            if counted >= wanted && counted > 0 {
                let upper = FIRST_BUCKET_NS * GROWTH.powi(i32::try_from(bucket).unwrap_or(i32::MAX));
                return (upper as i64).min(self.slowest_ns);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tick(symbol: &str, trade_id: u64) -> Tick {
        Tick {
            exchange: Exchange::Binance,
            symbol: symbol.to_owned(),
            price: "1".parse().unwrap(),
            size: "1".parse().unwrap(),
            trade_id,
            event_time_ns: 0,
        }
    }

    #[test]
    fn losses_and_repeats_are_counted_per_symbol() {
        let mut ledger = Ledger::default();
        for (symbol, id) in [
            ("A", 5),
            ("B", 1),
            ("A", 6),
            ("A", 9),
            ("A", 6),
            ("B", 2),
            ("A", 7),
        ] {
            ledger.record(&tick(symbol, id), 1);
        }
        let report = ledger.report();
        assert_eq!((report.ticks, report.repeats, report.missing), (6, 1, 1));
    }

    #[test]
    fn what_comes_late_is_not_missing() {
        let mut ledger = Ledger::default();
        ledger.record(&tick("A", 5), 1);
        ledger.record(&tick("B", 1), 1);
        assert!(!ledger.is_complete(), "nobody knows the ends");
        ledger.end(&tick("A", 9));
        ledger.end(&tick("B", 2));
        assert_eq!(ledger.report().missing, 3);
        // Out of the count as well, and overtaken by one of later.
        ledger.end(&tick("A", 8));
        ledger.record(&tick("A", 7), 1);
        assert_eq!(ledger.report().missing, 1);
        assert!(!ledger.is_complete());
        ledger.record(&tick("A", 6), 1);
        assert!(ledger.is_complete());
        assert_eq!((ledger.report().ticks, ledger.report().missing), (4, 0));
    }

    #[test]
    fn percentiles_are_within_an_eighth() {
        let mut ledger = Ledger::default();
        for id in 1..=1000 {
            ledger.record(&tick("A", id), i64::try_from(id).unwrap() * 1_000_000);
        }
        let report = ledger.report();
        assert!(
            (500_000_000..=570_000_000).contains(&report.median_ns),
            "{report:?}"
        );
        assert!(
            (990_000_000..=1_000_000_000).contains(&report.p99_ns),
            "{report:?}"
        );
        assert_eq!(report.slowest_ns, 1_000_000_000);
        assert_eq!(Ledger::default().report().p99_ns, 0);
    }

    proptest! {
        #[test]
        fn the_count_is_that_of_a_set(ids in proptest::collection::vec(0_u64..40, 1..80)) {
            let mut ledger = Ledger::default();
            for id in &ids {
                ledger.record(&tick("A", *id), 0);
            }
            let set: std::collections::BTreeSet<_> = ids.iter().copied().collect();
            let span = set.last().unwrap() - set.first().unwrap() + 1;
            let report = ledger.report();
            prop_assert_eq!(report.ticks, set.len() as u64);
            prop_assert_eq!(report.repeats, (ids.len() - set.len()) as u64);
            prop_assert_eq!(report.missing, span - set.len() as u64);
        }
    }
}
