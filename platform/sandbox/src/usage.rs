//! What a confined program uses, for hosts that watch it.

use std::io;
use std::time::Duration;

/// What one process uses at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Threads, the first one counted.
    pub threads: u64,
    /// Processor time since its start.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
}

impl Usage {
    /// Reads it from `/proc`: a few microseconds.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&stat).ok_or_else(|| io::Error::other("/proc/<pid>/stat has an unknown form"))
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name stands in brackets and may hold any character, even a bracket.
        let fields: Vec<u64> = stat
            .rsplit_once(')')?
            .1
            .split_ascii_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let ticks = fields.get(11)?.checked_add(*fields.get(12)?)?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Some(Self {
            threads: *fields.get(17)?,
            cpu: Duration::from_millis(ticks.saturating_mul(1000) / per_second),
            resident: fields
                .get(21)?
                .saturating_mul(u64::try_from(rustix::param::page_size()).ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) 9 (b) R 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 3 0 1000 10000 25 18446744073709551615";
        let usage = Usage::parse(stat).unwrap();
        assert_eq!(usage.threads, 3);
        assert_eq!(usage.cpu, Duration::from_secs(2));
        assert_eq!(usage.resident, 25 * 4096);
        assert_eq!(Usage::parse("7 (a) R 1"), None);
    }

    #[test]
    fn this_process_is_seen() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.threads >= 1 && usage.resident > 0);
    }
}
