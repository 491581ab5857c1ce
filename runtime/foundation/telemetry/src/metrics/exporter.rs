//! What exporters did with spans, log records and metric points (ours; row O1).

use super::{Counter, Families, Family, Metrics, MetricsError};
use crate::export::{ExportCounts, Signal};

pub(super) struct ExporterFamilies {
    items: Family<Counter>,
}

impl ExporterFamilies {
    pub(super) fn new(families: &Families) -> Result<Self, MetricsError> {
        Ok(Self {
            items: families.counter(
                "exporter/items_total",
                "Spans, log records and metric points by what became of them",
                &["app_id", "signal", "result"],
            )?,
        })
    }
}

impl Metrics {
    /// The counters of one signal's exporter; their series are there from the start, so that a rate of zero can be
    /// told from an exporter that is off. Counted but not exposed when metrics are off.
    #[must_use]
    pub fn export_counts(&self, signal: Signal) -> ExportCounts {
        let Some(inner) = self.0.as_deref() else {
            return ExportCounts::default();
        };
        let series = |result| {
            inner
                .exporter
                .items
                .series(&[&inner.app_id, signal.as_str(), result])
        };
        ExportCounts {
            sent: series("sent"),
            failed: series("failed"),
            dropped: series("dropped"),
        }
    }
}
