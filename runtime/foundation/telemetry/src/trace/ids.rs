//! Where trace and span ids come from.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{SpanId, TraceId};

/// A source of ids; injected so that a simulation can repeat itself.
pub trait IdSource: Send + Sync + std::fmt::Debug {
    /// A new trace id; never all zero.
    fn trace_id(&self) -> TraceId;

    /// A new span id; never all zero.
    fn span_id(&self) -> SpanId;
}

/// SplitMix64 over one shared counter: unique, evenly spread (the sampler relies on it), lock-free and a few
/// nanoseconds. Ids are names, not secrets, so it need not be unpredictable.
#[derive(Debug)]
pub struct RandomIds(AtomicU64);

impl RandomIds {
    /// Ids that follow from a seed.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Ids seeded by the operating system.
    #[must_use]
    pub fn from_os() -> Self {
        // The standard library's hasher keys are the operating system's randomness without a dependency.
        Self::seeded(RandomState::new().build_hasher().finish())
    }

    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut value = self.0.fetch_add(STEP, Relaxed).wrapping_add(STEP);
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn next_non_zero(&self) -> u64 {
        // At most one value of the whole period is zero.
        match self.next() {
            0 => self.next(),
            value => value,
        }
    }
}

impl IdSource for RandomIds {
    fn trace_id(&self) -> TraceId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next_non_zero().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes());
        TraceId::from_bytes(bytes)
    }

    fn span_id(&self) -> SpanId {
        SpanId::from_bytes(self.next_non_zero().to_be_bytes())
    }
}
