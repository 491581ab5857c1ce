//! Families in OTLP: names and labels as they are scraped, so that one dashboard reads both.

use prometheus::proto::{Metric as Series, MetricFamily, MetricType};

use crate::export::proto::{
    KeyValue, attribute,
    metrics::{CUMULATIVE, Data, Gauge, Histogram, HistogramPoint, Metric, NumberPoint, Sum},
};

/// The most points in one message. A histogram of the default bounds is some 700 bytes; collectors take 4 MiB.
pub(super) const MAX_POINTS: usize = 2_000;

/// When counting began and when it was read, in nanoseconds since 1970.
#[derive(Clone, Copy)]
pub(super) struct Period {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// The points of one message.
pub(super) struct Chunk {
    pub(super) metrics: Vec<Metric>,
    pub(super) points: usize,
}

/// Everything gathered, cut into messages of at most [`MAX_POINTS`].
pub(super) fn chunks(families: &[MetricFamily], period: Period) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut metrics = Vec::new();
    let mut points = 0;
    for family in families {
        let mut series = family.get_metric();
        while !series.is_empty() {
            let (now, later) = series.split_at(series.len().min(MAX_POINTS - points));
            series = later;
            if let Some(data) = data(family.get_field_type(), now, period) {
                points += now.len();
                metrics.push(Metric {
                    name: family.name().to_owned(),
                    description: family.help().to_owned(),
                    data: Some(data),
                });
            }
            if points == MAX_POINTS {
                let metrics = std::mem::take(&mut metrics);
                chunks.push(Chunk { metrics, points });
                points = 0;
            }
        }
    }
    if points > 0 {
        chunks.push(Chunk { metrics, points });
    }
    chunks
}

fn data(kind: MetricType, series: &[Series], period: Period) -> Option<Data> {
    let numbers = |value: fn(&Series) -> f64, start: u64| {
        series
            .iter()
            .map(|series| NumberPoint {
                start_time_unix_nano: start,
                time_unix_nano: period.end,
                value: Some(value(series)),
                attributes: labels(series),
            })
            .collect()
    };
    Some(match kind {
        MetricType::COUNTER => Data::Sum(Sum {
            data_points: numbers(|series| series.get_counter().get_value(), period.start),
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
        }),
        // A gauge has no beginning.
        MetricType::GAUGE => Data::Gauge(Gauge {
            data_points: numbers(|series| series.get_gauge().get_value(), 0),
        }),
        MetricType::HISTOGRAM => Data::Histogram(Histogram {
            data_points: series.iter().map(|series| histogram(series, period)).collect(),
            aggregation_temporality: CUMULATIVE,
        }),
        _ => return None,
    })
}

/// Prometheus counts up to each bound; OTLP counts between them, with one count more than there are bounds.
fn histogram(series: &Series, period: Period) -> HistogramPoint {
    let histogram = series.get_histogram();
    let count = histogram.get_sample_count();
    let mut bounds = Vec::new();
    let mut counts = Vec::new();
    let mut below = 0;
    for bucket in histogram.get_bucket() {
        if bucket.upper_bound().is_finite() {
            bounds.push(bucket.upper_bound());
            counts.push(bucket.cumulative_count().saturating_sub(below));
            below = bucket.cumulative_count();
        }
    }
    counts.push(count.saturating_sub(below));
    HistogramPoint {
        start_time_unix_nano: period.start,
        time_unix_nano: period.end,
        count,
        sum: Some(histogram.get_sample_sum()),
        bucket_counts: counts,
        explicit_bounds: bounds,
        attributes: labels(series),
    }
}

/// An empty label is an unset tag: in OTLP it is left out.
fn labels(series: &Series) -> Vec<KeyValue> {
    series
        .get_label()
        .iter()
        .filter(|pair| !pair.value().is_empty())
        .map(|pair| attribute(pair.name(), pair.value()))
        .collect()
}
