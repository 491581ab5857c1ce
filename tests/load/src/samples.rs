//! Latencies and their percentiles.

use serde_json::{Value, json};

/// At most this many are kept, 160 MB: beyond it a run is too long to be one measurement.
const LIMIT: usize = 40_000_000;

/// Latencies in nanoseconds, cut at four seconds.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    nanos: Vec<u32>,
}

impl Samples {
    /// Adds one.
    pub(crate) fn add(&mut self, nanos: u64) {
        if self.nanos.len() < LIMIT {
            self.nanos.push(u32::try_from(nanos).unwrap_or(u32::MAX));
        }
    }

    /// Adds another's.
    pub(crate) fn merge(&mut self, other: Self) {
        self.nanos.extend(other.nanos);
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.nanos.clear();
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.nanos.len()
    }

    /// Percentiles in microseconds.
    pub(crate) fn percentiles(&mut self) -> Value {
        self.nanos.sort_unstable();
        json!({
            "p50_us": self.at(0.50),
            "p90_us": self.at(0.90),
            "p99_us": self.at(0.99),
            "max_us": self.at(1.0),
        })
    }

    /// The smallest latency that this share of all does not exceed.
    fn at(&self, share: f64) -> f64 {
        let rank = (self.nanos.len() as f64 * share).ceil() as usize;
        let nanos = self
            .nanos
            .get(rank.saturating_sub(1).min(self.nanos.len().saturating_sub(1)));
        nanos.map_or(0.0, |nanos| f64::from(*nanos) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn percentiles_are_ranks() {
        let mut samples = Samples::default();
        (1..=100).rev().for_each(|micros| samples.add(micros * 1000));
        let percentiles = samples.percentiles();
        assert_eq!(percentiles["p50_us"], 50.0);
        assert_eq!(percentiles["p99_us"], 99.0);
        assert_eq!(percentiles["max_us"], 100.0);
    }

    #[test]
    fn nothing_measured_is_zero() {
        assert_eq!(Samples::default().percentiles()["p99_us"], 0.0);
    }
}
