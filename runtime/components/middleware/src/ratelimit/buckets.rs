//! Token buckets, one per client and path, of bounded number.

use std::{collections::HashMap, time::Instant};

/// Most clients and paths known at a time: some ten megabytes. Upstream's map has no bound, so that whoever invents
/// paths or `X-Forwarded-For` values fills the memory.
pub(super) const MAX_BUCKETS: usize = 65_536;

/// A bucket: how full it was, and when.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// The buckets of one limiter.
#[derive(Debug)]
pub(super) struct Buckets {
    /// Tokens per second.
    rate: f64,
    /// What a bucket holds: `max(1, ⌊rate⌋)`.
    burst: f64,
    max: usize,
    buckets: HashMap<Box<str>, Bucket>,
}

impl Buckets {
    pub(super) fn new(rate: f64, max: usize) -> Self {
        Self {
            rate,
            burst: rate.floor().max(1.0),
            max,
            buckets: HashMap::new(),
        }
    }

    /// Takes a token of this key's bucket: how many whole ones are left, or `None` where there is none to take.
    pub(super) fn take(&mut self, key: &str, now: Instant) -> Option<u64> {
        let (rate, burst) = (self.rate, self.burst);
        if let Some(bucket) = self.buckets.get_mut(key) {
            let elapsed = now.saturating_duration_since(bucket.at).as_secs_f64();
            let tokens = rate.mul_add(elapsed, bucket.tokens).min(burst);
            if tokens < 1.0 {
                return None;
            }
            *bucket = Bucket {
                tokens: tokens - 1.0,
                at: now,
            };
            return Some(whole(tokens - 1.0));
        }
        self.make_room(now);
        let tokens = burst - 1.0;
        self.buckets.insert(key.into(), Bucket { tokens, at: now });
        Some(whole(tokens))
    }

    /// Forgets buckets that are full again: nobody can tell them from new ones. If that is not enough, the half that
    /// was used longest ago goes.
    fn make_room(&mut self, now: Instant) {
        if self.buckets.len() < self.max {
            return;
        }
        let (rate, burst) = (self.rate, self.burst);
        self.buckets.retain(|_, bucket| {
            let elapsed = now.saturating_duration_since(bucket.at).as_secs_f64();
            rate.mul_add(elapsed, bucket.tokens) < burst
        });
        if self.buckets.len() < self.max {
            return;
        }
        let mut times: Vec<Instant> = self.buckets.values().map(|bucket| bucket.at).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.buckets.retain(|_, bucket| bucket.at > median);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }
}

/// Go's conversion to int. Never negative; a burst beyond 2^64 means no limit.
fn whole(tokens: f64) -> u64 {
    tokens as u64
}
