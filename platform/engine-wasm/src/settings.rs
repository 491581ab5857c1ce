//! How workers in WebAssembly are run.

use std::time::Duration;

/// Settings of a [`WasmEngine`](crate::WasmEngine).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WasmSettings {
    /// Bytes of a module.
    pub module_limit: usize,
    /// Bytes of one instance's memory; more is refused to it.
    pub memory: usize,
    /// How long one event may take.
    pub timeout: Duration,
    /// Instructions, roughly, that one event may take.
    pub fuel: u64,
    /// Bytes of an event, and of an answer.
    pub frame_limit: usize,
    /// Instances of one worker, each with its own globals.
    pub instances: usize,
    /// Threads on which code of all workers runs.
    pub threads: usize,
}

impl Default for WasmSettings {
    fn default() -> Self {
        Self {
            module_limit: 8 << 20,
            memory: 64 << 20,
            timeout: Duration::from_secs(30),
            fuel: 10_000_000_000,
            frame_limit: 8 << 20,
            instances: 1,
            threads: 4,
        }
    }
}
