//! `error_code/total` (`pkg/diagnostics/errorcode_monitoring.go`).

use super::{Counter, Families, Family, Metrics, MetricsError};

pub(super) fn family(families: &Families) -> Result<Family<Counter>, MetricsError> {
    families.counter(
        "error_code/total",
        "Errors answered, by code",
        &["app_id", "error_code", "category"],
    )
}

impl Metrics {
    /// Counts an error answered; only when `spec.metrics.recordErrorCodes` is on. Empty codes and categories
    /// are ignored.
    pub fn error_code(&self, code: &str, category: &str) {
        if let Some(inner) = self.0.as_deref()
            && let Some(family) = &inner.error_code
            && !code.is_empty()
            && !category.is_empty()
        {
            family.with(&[&inner.app_id, code, category], Counter::inc);
        }
    }
}
