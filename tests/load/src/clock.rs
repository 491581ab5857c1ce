//! The clock that two processes of one machine share, and what this process has used of the CPU.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970. Nineteen digits until the year 2286.
pub(crate) fn nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// CPU time of this process so far, user and system, in milliseconds; Linux counts it in steps of ten.
pub(crate) fn cpu_millis() -> u64 {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return 0;
    };
    let fields = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .skip(11)
        .take(2);
    fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10
}
