//! Metric families: name, help, label names, and their series with a hard cap.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

use prometheus::{
    core::{Collector, Desc},
    proto,
};

use super::{
    MAX_LABEL_VALUE_BYTES, MAX_SERIES_PER_FAMILY, MetricsError, OVERFLOW_LABEL_VALUE,
    rules::{LabelRewriter, Rules},
    series::SeriesMap,
};

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The last value seen.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Adds to the value; negative numbers subtract.
    pub fn add(&self, delta: i64) {
        self.0.fetch_add(delta, Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// A distribution over fixed upper bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: Arc<[f64]>,
    /// One more than there are bounds: the last is +Inf. Not cumulative, so that one observation is one add.
    buckets: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: Arc<[f64]>) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self {
            bounds,
            buckets,
            sum: AtomicU64::new(0f64.to_bits()),
        }
    }

    /// Counts one value.
    pub fn observe(&self, value: f64) {
        let index = self.bounds.partition_point(|bound| value > *bound);
        self.buckets[index].fetch_add(1, Relaxed);
        let mut current = self.sum.load(Relaxed);
        loop {
            let next = (f64::from_bits(current) + value).to_bits();
            match self.sum.compare_exchange_weak(current, next, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(seen) => current = seen,
            }
        }
    }
}

/// What a family needs to know about its kind of series.
pub trait Instrument: Send + Sync + Sized + 'static {
    /// The type named in the `# TYPE` line.
    const TYPE: proto::MetricType;

    /// A fresh series; `bounds` are used by histograms only.
    fn create(bounds: &Arc<[f64]>) -> Self;

    /// Writes the current value.
    fn read(&self, metric: &mut proto::Metric);
}

impl Instrument for Counter {
    const TYPE: proto::MetricType = proto::MetricType::COUNTER;

    fn create(_: &Arc<[f64]>) -> Self {
        Self::default()
    }

    fn read(&self, metric: &mut proto::Metric) {
        let mut counter = proto::Counter::default();
        #[expect(
            clippy::cast_precision_loss,
            reason = "the exposition format has only doubles"
        )]
        counter.set_value(self.value() as f64);
        metric.set_counter(counter);
    }
}

impl Instrument for Gauge {
    const TYPE: proto::MetricType = proto::MetricType::GAUGE;

    fn create(_: &Arc<[f64]>) -> Self {
        Self::default()
    }

    fn read(&self, metric: &mut proto::Metric) {
        let mut gauge = proto::Gauge::default();
        #[expect(
            clippy::cast_precision_loss,
            reason = "the exposition format has only doubles"
        )]
        gauge.set_value(self.value() as f64);
        metric.set_gauge(gauge);
    }
}

impl Instrument for Histogram {
    const TYPE: proto::MetricType = proto::MetricType::HISTOGRAM;

    fn create(bounds: &Arc<[f64]>) -> Self {
        Self::new(Arc::clone(bounds))
    }

    fn read(&self, metric: &mut proto::Metric) {
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (bound, count) in self.bounds.iter().zip(self.buckets.iter()) {
            cumulative += count.load(Relaxed);
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        cumulative += self.buckets[self.bounds.len()].load(Relaxed);
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(cumulative);
        histogram.set_sample_sum(f64::from_bits(self.sum.load(Relaxed)));
        metric.set_histogram(histogram);
    }
}

struct FamilyInner<M> {
    desc: Desc,
    name: String,
    help: String,
    labels: Vec<&'static str>,
    /// Positions of `labels` in the order of their names, as Go's client prints them.
    order: Vec<usize>,
    /// Per label; empty when no rule names this family.
    rewriters: Vec<LabelRewriter>,
    bounds: Arc<[f64]>,
    series: SeriesMap<Arc<M>>,
}

/// One metric family. Clones share the series.
///
/// At most [`MAX_SERIES_PER_FAMILY`] series exist; label values beyond that are counted in one further series
/// whose labels (all but `app_id`) read [`OVERFLOW_LABEL_VALUE`] (design D9).
pub struct Family<M>(Arc<FamilyInner<M>>);

impl<M> Clone for Family<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> std::fmt::Debug for Family<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Family")
            .field("name", &self.0.name)
            .field("labels", &self.0.labels)
            .finish_non_exhaustive()
    }
}

impl<M: Instrument> Family<M> {
    /// The series of these label values, in the order the family was declared with; made on first use.
    /// An empty value is an unset tag and is exported as such.
    #[must_use]
    pub fn series(&self, values: &[&str]) -> Arc<M> {
        debug_assert_eq!(
            values.len(),
            self.0.labels.len(),
            "label values of {}",
            self.0.name
        );
        if self.is_plain(values) {
            return self.admit(values);
        }
        let rewritten: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(index, value)| {
                let value = match self.0.rewriters.get(index) {
                    // An unset tag is never matched against rules.
                    Some(rewriter) if !value.is_empty() => rewriter.rewrite(value),
                    _ => (*value).to_owned(),
                };
                clip(&value).to_owned()
            })
            .collect();
        let rewritten: Vec<&str> = rewritten.iter().map(String::as_str).collect();
        self.admit(&rewritten)
    }

    /// Runs `record` on the series of these label values; the usual case takes one read lock and no allocation.
    pub fn with(&self, values: &[&str], record: impl Fn(&M)) {
        if self.is_plain(values) && self.0.series.with(values, |series| record(series)).is_some() {
            return;
        }
        record(&self.series(values));
    }

    /// The number of series, the overflow one included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.series.len()
    }

    /// Whether no series exists.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No rule applies and no value is too long: the values are the key as they stand.
    fn is_plain(&self, values: &[&str]) -> bool {
        self.0.rewriters.is_empty() && values.iter().all(|value| value.len() <= MAX_LABEL_VALUE_BYTES)
    }

    fn admit(&self, values: &[&str]) -> Arc<M> {
        let inner = &*self.0;
        if let Some(found) = inner.series.get(values) {
            return found;
        }
        let create = || Arc::new(M::create(&inner.bounds));
        // The map has room for one more than the cap: the overflow series.
        if inner.series.len() < MAX_SERIES_PER_FAMILY
            && let Some(made) = inner.series.get_or_insert(values, create)
        {
            return made;
        }
        let overflow: Vec<&str> = inner
            .labels
            .iter()
            .zip(values)
            .map(|(label, value)| {
                if *label == "app_id" {
                    value
                } else {
                    OVERFLOW_LABEL_VALUE
                }
            })
            .collect();
        inner
            .series
            .get(&overflow)
            .or_else(|| inner.series.get_or_insert(&overflow, create))
            // Only a family with several app ids (access control) can get here; it loses the sample, not memory.
            .unwrap_or_else(create)
    }
}

/// The longest prefix that fits a label value.
fn clip(value: &str) -> &str {
    if value.len() <= MAX_LABEL_VALUE_BYTES {
        return value;
    }
    let mut end = MAX_LABEL_VALUE_BYTES;
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

impl<M: Instrument> Collector for Family<M> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let inner = &*self.0;
        let mut metrics = Vec::with_capacity(inner.series.len());
        inner.series.for_each(|values, series| {
            let mut metric = proto::Metric::default();
            let labels = inner
                .order
                .iter()
                .map(|index| {
                    let mut pair = proto::LabelPair::default();
                    pair.set_name(inner.labels[*index].to_owned());
                    pair.set_value(values[*index].to_string());
                    pair
                })
                .collect();
            metric.set_label(labels);
            series.read(&mut metric);
            metrics.push(metric);
        });
        let mut family = proto::MetricFamily::default();
        family.set_name(inner.name.clone());
        family.set_help(inner.help.clone());
        family.set_field_type(M::TYPE);
        family.set_metric(metrics);
        vec![family]
    }
}

/// Makes families and registers them; one per [`Metrics`](super::Metrics).
#[derive(Debug)]
pub struct Families {
    registry: prometheus::Registry,
    rules: Rules,
    latency: Arc<[f64]>,
    size: Arc<[f64]>,
    ratio: Arc<[f64]>,
}

impl Families {
    pub(super) fn new(rules: Rules, latency: Arc<[f64]>) -> Self {
        Self {
            registry: prometheus::Registry::new(),
            rules,
            latency,
            size: super::SIZE_BUCKETS.into(),
            ratio: super::RATIO_BUCKETS.into(),
        }
    }

    /// The registry everything is in.
    #[must_use]
    pub fn registry(&self) -> &prometheus::Registry {
        &self.registry
    }

    /// A counter named by its measure (`http/server/request_count`).
    ///
    /// # Errors
    /// When the name is taken or not a metric name.
    pub fn counter(
        &self,
        measure: &str,
        help: &str,
        labels: &[&'static str],
    ) -> Result<Family<Counter>, MetricsError> {
        self.family(measure, help, labels, &Arc::from([]))
    }

    /// A gauge named by its measure.
    ///
    /// # Errors
    /// When the name is taken or not a metric name.
    pub fn gauge(
        &self,
        measure: &str,
        help: &str,
        labels: &[&'static str],
    ) -> Result<Family<Gauge>, MetricsError> {
        self.family(measure, help, labels, &Arc::from([]))
    }

    /// A histogram over the latency buckets (milliseconds).
    ///
    /// # Errors
    /// When the name is taken or not a metric name.
    pub fn latency(
        &self,
        measure: &str,
        help: &str,
        labels: &[&'static str],
    ) -> Result<Family<Histogram>, MetricsError> {
        self.family(measure, help, labels, &self.latency)
    }

    /// A histogram over the size buckets (bytes).
    ///
    /// # Errors
    /// When the name is taken or not a metric name.
    pub fn size(
        &self,
        measure: &str,
        help: &str,
        labels: &[&'static str],
    ) -> Result<Family<Histogram>, MetricsError> {
        self.family(measure, help, labels, &self.size)
    }

    /// A histogram over the payload ratio buckets (0 to 2).
    ///
    /// # Errors
    /// When the name is taken or not a metric name.
    pub fn ratio(
        &self,
        measure: &str,
        help: &str,
        labels: &[&'static str],
    ) -> Result<Family<Histogram>, MetricsError> {
        self.family(measure, help, labels, &self.ratio)
    }

    fn family<M: Instrument>(
        &self,
        measure: &str,
        help: &str,
        labels: &[&'static str],
        bounds: &Arc<[f64]>,
    ) -> Result<Family<M>, MetricsError> {
        let name = exposed_name(measure);
        let register = |source| MetricsError::Register {
            name: name.clone(),
            source,
        };
        let desc = Desc::new(
            name.clone(),
            help.to_owned(),
            labels.iter().map(|label| (*label).to_owned()).collect(),
            std::collections::HashMap::new(),
        )
        .map_err(register)?;
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by_key(|index| labels[*index]);
        let family = Family(Arc::new(FamilyInner {
            desc,
            name: name.clone(),
            help: help.to_owned(),
            labels: labels.to_vec(),
            order,
            rewriters: self.rules.rewriters(&name, labels),
            bounds: Arc::clone(bounds),
            series: SeriesMap::new(MAX_SERIES_PER_FAMILY + 1),
        }));
        self.registry
            .register(Box::new(family.clone()))
            .map_err(register)?;
        Ok(family)
    }
}

/// `dapr_` and the measure's name with everything but letters and digits as `_` (OpenCensus exporter).
fn exposed_name(measure: &str) -> String {
    let mut name = String::with_capacity(measure.len() + 5);
    name.push_str("dapr_");
    name.extend(
        measure
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }),
    );
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Families {
        Families::new(Rules::default(), [1.0, 5.0].as_slice().into())
    }

    #[test]
    fn a_family_never_holds_more_than_its_cap_and_one_overflow_series() {
        let family = families().counter("x/count", "x", &["app_id", "path"]).unwrap();
        for index in 0..10_000 {
            family.with(&["app", &format!("/{index}")], Counter::inc);
        }
        assert_eq!(family.len(), MAX_SERIES_PER_FAMILY + 1);
        assert_eq!(
            family.series(&["app", OVERFLOW_LABEL_VALUE]).value(),
            10_000 - MAX_SERIES_PER_FAMILY as u64
        );
        // A series made before the flood goes on counting.
        family.with(&["app", "/0"], Counter::inc);
        assert_eq!(family.series(&["app", "/0"]).value(), 2);
    }

    #[test]
    fn a_value_on_a_bound_belongs_to_that_bound() {
        let histogram = Histogram::new([1.0, 5.0].as_slice().into());
        for value in [0.0, 1.0, 1.5, 5.0, 6.0] {
            histogram.observe(value);
        }
        let mut metric = proto::Metric::default();
        histogram.read(&mut metric);
        let counts: Vec<u64> = metric
            .get_histogram()
            .get_bucket()
            .iter()
            .map(|b| b.cumulative_count())
            .collect();
        assert_eq!(counts, [2, 4]);
        assert_eq!(metric.get_histogram().get_sample_count(), 5);
        assert!((metric.get_histogram().get_sample_sum() - 13.5).abs() < 1e-9);
    }

    #[test]
    fn label_values_are_clipped_at_a_character() {
        let family = families().counter("x/count", "x", &["path"]).unwrap();
        let long = "é".repeat(200);
        family.with(&[&long], Counter::inc);
        family.with(&["é".repeat(127).as_str()], Counter::inc);
        assert_eq!(family.len(), 1, "both are the same 254 bytes");
    }
}
