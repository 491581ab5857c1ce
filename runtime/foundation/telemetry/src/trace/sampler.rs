//! Parent-based sampling by trace id ratio (`pkg/diagnostics/tracing_sampler.go`).

use std::fmt;

use super::{SpanContext, TraceId};

/// The rate of a sampling rate that does not parse.
const DEFAULT_RATE: f64 = 1e-4;

/// Follows the parent's decision; a root is sampled by its trace id, so that all sidecars agree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    rate: f64,
    /// Compared with the upper 63 bits of the trace id's second half, as Go's SDK does.
    bound: u64,
}

impl Sampler {
    /// From `spec.tracing.samplingRate`; a text that is no number means 1 in 10,000.
    #[must_use]
    pub fn parse(rate: &str) -> Self {
        Self::from_rate(parse_rate(rate))
    }

    /// From a fraction; below 0 is never, from 1 on always.
    #[must_use]
    pub fn from_rate(rate: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "the float is between 0 and 2^63, or saturates"
        )]
        let bound = if rate >= 1.0 {
            u64::MAX
        } else {
            (rate * (1u64 << 63) as f64) as u64
        };
        Self { rate, bound }
    }

    /// Whether spans for calls to the app are made at all: any rate but zero.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.rate != 0.0
    }

    /// Whether a span of `trace_id` with this parent is recorded.
    #[must_use]
    pub fn is_sampled(&self, parent: &SpanContext, trace_id: TraceId) -> bool {
        if parent.is_valid() {
            return parent.is_sampled();
        }
        let bytes = trace_id.to_bytes();
        let mut low = [0; 8];
        low.copy_from_slice(&bytes[8..]);
        u64::from_be_bytes(low) >> 1 < self.bound
    }
}

/// As Go's SDK describes it; the peer logs this text.
impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParentBased{root:TraceIDRatioBased{")?;
        let rate = self.rate;
        if rate >= 1.0 {
            f.write_str("1")?;
        } else if rate <= 0.0 {
            f.write_str("0")?;
        } else if rate >= 1e-4 {
            write!(f, "{rate}")?;
        } else {
            // Go writes at least two digits of exponent.
            let text = format!("{rate:e}");
            match text.split_once("e-") {
                Some((digits, exponent)) => write!(f, "{digits}e-{exponent:0>2}")?,
                None => f.write_str(&text)?,
            }
        }
        f.write_str(
            "},remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,\
             localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}",
        )
    }
}

fn parse_rate(text: &str) -> f64 {
    let is_word = text.bytes().any(|byte| matches!(byte, b'n' | b'N'));
    match text.parse::<f64>() {
        // Go reports a number too large for a double as an error.
        Ok(rate) if rate.is_infinite() && !is_word => DEFAULT_RATE,
        Ok(rate) => rate,
        Err(_) => DEFAULT_RATE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{IdSource, RandomIds, SpanId};

    #[test]
    fn rates_read_as_the_peer_reads_them() {
        for (text, root) in [
            ("0", "TraceIDRatioBased{0}"),
            ("-1", "TraceIDRatioBased{0}"),
            ("1", "TraceIDRatioBased{1}"),
            ("7.5", "TraceIDRatioBased{1}"),
            ("0.25", "TraceIDRatioBased{0.25}"),
            ("0.00001", "TraceIDRatioBased{1e-05}"),
            ("", "TraceIDRatioBased{0.0001}"),
            ("often", "TraceIDRatioBased{0.0001}"),
            ("1e999", "TraceIDRatioBased{0.0001}"),
        ] {
            let expected = format!(
                "ParentBased{{root:{root},remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:\
                 AlwaysOffSampler,localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}}"
            );
            assert_eq!(Sampler::parse(text).to_string(), expected, "{text:?}");
        }
    }

    /// Row C4: within three standard deviations over 10,000 roots.
    #[test]
    fn the_ratio_holds() {
        let ids = RandomIds::seeded(7);
        for rate in [0.0, 0.01, 0.25, 0.5, 0.9, 1.0] {
            let sampler = Sampler::from_rate(rate);
            let none = SpanContext::default();
            let sampled = (0..10_000)
                .filter(|_| sampler.is_sampled(&none, ids.trace_id()))
                .count();
            let deviation = (10_000.0 * rate * (1.0 - rate)).sqrt();
            let sampled = f64::from(u32::try_from(sampled).unwrap());
            assert!(
                (sampled - 10_000.0 * rate).abs() <= 3.0 * deviation,
                "{rate}: {sampled}"
            );
        }
    }

    #[test]
    fn a_parent_decides() {
        let parent =
            |flags| SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), flags);
        let id = TraceId::from_bytes([1; 16]);
        assert!(Sampler::parse("0").is_sampled(&parent(1), id));
        assert!(!Sampler::parse("1").is_sampled(&parent(0), id));
    }
}
