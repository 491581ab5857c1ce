//! Prometheus text format 0.0.4, byte for byte as Go's encoder writes it: the `le` text of a bucket is part of
//! its series' identity in older Prometheus servers, so `1.048576e+06` must not become `1048576`.

use std::fmt::Write as _;

use prometheus::proto::{LabelPair, MetricFamily, MetricType};

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
                MetricType::COUNTER => sample(&mut out, name, "", labels, None, metric.get_counter().get_value()),
                MetricType::GAUGE => sample(&mut out, name, "", labels, None, metric.get_gauge().get_value()),
                MetricType::HISTOGRAM => {
                    let histogram = metric.get_histogram();
                    let count = whole(histogram.get_sample_count());
                    for bucket in histogram.get_bucket() {
                        let bound = bucket.upper_bound();
                        if bound.is_finite() {
                            sample(&mut out, name, "_bucket", labels, Some(bound), whole(bucket.cumulative_count()));
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

#[expect(clippy::cast_precision_loss, reason = "the exposition format has only doubles")]
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

/// A double as Go's `strconv.FormatFloat(value, 'g', -1, 64)`: the shortest digits that read back the same, with
/// an exponent below 1e-4 and from 1e6 on.
fn float(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
        return;
    }
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        return;
    }
    let magnitude = value.abs();
    if value == 0.0 || (1e-4..1e6).contains(&magnitude) {
        let _ = write!(out, "{value}");
        return;
    }
    // Rust prints `1.5e7` where Go prints `1.5e+07`.
    let start = out.len();
    let _ = write!(out, "{value:e}");
    if let Some(at) = out[start..].rfind('e').map(|at| start + at) {
        let exponent: i32 = out[at + 1..].parse().unwrap_or(0);
        out.truncate(at);
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "e{sign}{:02}", exponent.abs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values printed by Go 1.26's strconv.
    #[test]
    fn doubles_read_as_go_prints_them() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (10.0, "10"),
            (123_456.0, "123456"),
            (1e6, "1e+06"),
            (1_048_576.0, "1.048576e+06"),
            (12_345_678.5, "1.23456785e+07"),
            (4_294_967_296.0, "4.294967296e+09"),
            (1e22, "1e+22"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.12345, "0.12345"),
            (1_763_720_000.12, "1.76372000012e+09"),
            (-2.5, "-2.5"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            let mut out = String::new();
            float(&mut out, value);
            assert_eq!(out, text);
        }
    }
}
