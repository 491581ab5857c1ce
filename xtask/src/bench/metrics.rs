//! What was measured: per side and key the values of all rounds.

use std::collections::BTreeMap;

/// Key and value pairs of one scenario.
pub(crate) type Values = Vec<(&'static str, f64)>;

/// All values of a run.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    values: BTreeMap<(String, &'static str), Vec<f64>>,
    notes: Vec<String>,
}

impl Measured {
    /// Adds what one scenario gave.
    pub(crate) fn add(&mut self, side: &str, values: Values) {
        for (key, value) in values {
            self.values.entry((side.to_owned(), key)).or_default().push(value);
        }
    }

    /// Records that something could not be measured.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// What could not be measured.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The median of a key.
    pub(crate) fn median(&self, side: &str, key: &'static str) -> Option<f64> {
        let mut values = self.values.get(&(side.to_owned(), key))?.clone();
        median(&mut values)
    }

    /// Smallest and largest value of a key.
    pub(crate) fn range(&self, side: &str, key: &'static str) -> Option<(f64, f64)> {
        let values = self.values.get(&(side.to_owned(), key))?;
        Some(values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(*value), high.max(*value))
        }))
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
