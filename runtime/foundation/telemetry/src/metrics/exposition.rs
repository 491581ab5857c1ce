//! Prometheus text format 0.0.4, byte for byte as Go's encoder writes it: the `le` text of a bucket is part of
//! its series' identity in older Prometheus servers, so `1.048576e+06` must not become `1048576`.

use prometheus::proto::{LabelPair, MetricFamily, MetricType};

use crate::float::push_float as float;

/// The content type of [`text`].
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Families in the order given; empty ones are left out.
pub(super) fn text(families: &[MetricFamily]) -> Vec<u8> {
    let mut out = String::with_capacity(16 * 1024);
    for family in families {
        if family.get_metric().is_empty() {
            continue;
        }
        let name = family.name();
        out.push_str("# HELP ");
        out.push_str(name);
        out.push(' ');
        escape(&mut out, family.help(), false);
        out.push_str("\n# TYPE ");
        out.push_str(name);
        let kind = family.get_field_type();
        out.push_str(match kind {
            MetricType::COUNTER => " counter\n",
            MetricType::GAUGE => " gauge\n",
            MetricType::HISTOGRAM => " histogram\n",
            _ => " untyped\n",
        });
        for metric in family.get_metric() {
            let labels = metric.get_label();
            match kind {
                MetricType::COUNTER => {
                    sample(&mut out, name, "", labels, None, metric.get_counter().get_value())
                }
                MetricType::GAUGE => sample(&mut out, name, "", labels, None, metric.get_gauge().get_value()),
                MetricType::HISTOGRAM => {
                    let histogram = metric.get_histogram();
                    let count = whole(histogram.get_sample_count());
                    for bucket in histogram.get_bucket() {
                        let bound = bucket.upper_bound();
                        if bound.is_finite() {
                            sample(
                                &mut out,
                                name,
                                "_bucket",
                                labels,
                                Some(bound),
                                whole(bucket.cumulative_count()),
                            );
                        }
                    }
                    sample(&mut out, name, "_bucket", labels, Some(f64::INFINITY), count);
                    sample(&mut out, name, "_sum", labels, None, histogram.get_sample_sum());
                    sample(&mut out, name, "_count", labels, None, count);
                }
                _ => {}
            }
        }
    }
    out.into_bytes()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the exposition format has only doubles"
)]
fn whole(count: u64) -> f64 {
    count as f64
}

fn sample(out: &mut String, name: &str, suffix: &str, labels: &[LabelPair], le: Option<f64>, value: f64) {
    out.push_str(name);
    out.push_str(suffix);
    let mut separator = '{';
    for label in labels {
        out.push(separator);
        separator = ',';
        out.push_str(label.name());
        out.push_str("=\"");
        escape(out, label.value(), true);
        out.push('"');
    }
    if let Some(bound) = le {
        out.push(separator);
        separator = ',';
        out.push_str("le=\"");
        float(out, bound);
        out.push('"');
    }
    if separator == ',' {
        out.push('}');
    }
    out.push(' ');
    float(out, value);
    out.push('\n');
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}
