//! What was measured: per side and key the values of all rounds, and what went wrong.

use std::collections::BTreeMap;

/// Key and value pairs of one scenario.
pub(crate) type Values = Vec<(&'static str, f64)>;

/// A scenario that did not come to its end.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) side: &'static str,
    pub(crate) scenario: &'static str,
    pub(crate) round: u32,
    pub(crate) error: String,
}

/// All values of a run.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    values: BTreeMap<(&'static str, &'static str), Vec<f64>>,
    failures: Vec<Failure>,
}

impl Measured {
    /// Adds what one scenario gave.
    pub(crate) fn add(&mut self, side: &'static str, values: Values) {
        for (key, value) in values {
            self.values.entry((side, key)).or_default().push(value);
        }
    }

    /// Records that a scenario failed; the values it gave before stay.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failures.push(failure);
    }

    /// What failed.
    pub(crate) fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Why a side has no value of a scenario, or not one of every round.
    pub(crate) fn failure(&self, side: &str, scenario: &str) -> Option<&Failure> {
        self.failures
            .iter()
            .find(|failure| failure.side == side && failure.scenario == scenario)
    }

    fn of(&self, side: &'static str, key: &'static str) -> &[f64] {
        self.values.get(&(side, key)).map_or(&[], Vec::as_slice)
    }

    /// How often a key was measured.
    pub(crate) fn count(&self, side: &'static str, key: &'static str) -> usize {
        self.of(side, key).len()
    }

    /// The median of a key.
    pub(crate) fn median(&self, side: &'static str, key: &'static str) -> Option<f64> {
        median(&mut self.of(side, key).to_vec())
    }

    /// Smallest and largest value of a key.
    pub(crate) fn range(&self, side: &'static str, key: &'static str) -> Option<(f64, f64)> {
        let values = self.of(side, key);
        (!values.is_empty()).then(|| {
            values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| {
                (low.min(*value), high.max(*value))
            })
        })
    }
}

/// The middle value, or the mean of the two middle ones.
pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
    }
}
