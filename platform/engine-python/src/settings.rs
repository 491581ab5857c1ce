//! How workers in Python are run.

use std::path::PathBuf;
use std::time::Duration;

use outrigger_platform_sandbox::{Identity, Limits, Network, WhenMissing};

use crate::imports::Imports;

/// Settings of a [`PythonEngine`](crate::PythonEngine).
#[derive(Debug, Clone)]
pub struct PythonSettings {
    /// The interpreter: a path, or a name that is looked for in `search`.
    pub python: PathBuf,
    /// Where to look for it, in this order.
    pub search: Vec<PathBuf>,
    /// A binary that calls `outrigger_platform_sandbox::enter_if_asked` first thing; `/proc/self/exe` is this one.
    pub launcher: PathBuf,
    /// How long one event may take, from being given to the code to its answer.
    pub timeout: Duration,
    /// How long a process may take from its start to having loaded the code.
    pub start_timeout: Duration,
    /// How often an idle process is asked whether it lives.
    pub ping_every: Duration,
    /// How long it may take to answer that.
    pub ping_timeout: Duration,
    /// Events at a time in one process, each in a thread.
    pub concurrency: usize,
    /// Events that wait beside those; more wait in their callers.
    pub queue: usize,
    /// Bytes of one frame, either way: of an event, an answer, the code.
    pub frame_limit: usize,
    /// Threads of one process; one with more is killed.
    pub max_threads: u64,
    /// Processor time that a process may use while it has no event, beyond a tenth of a processor; one that uses more,
    /// with a thread that it left behind, is killed.
    pub idle_cpu: Duration,
    /// What one process may use of the machine.
    pub limits: Limits,
    /// Which modules may be imported.
    pub imports: Imports,
    /// Folders of packages to read and import from; if empty and packages are allowed, the interpreter's own.
    pub site_packages: Vec<PathBuf>,
    /// The network.
    pub network: Network,
    /// Whom processes run as. `None`: as `nobody` if this process may become that and `nobody` can read the
    /// interpreter, else as this process.
    pub identity: Option<Identity>,
    /// What to do if the kernel lacks a wall.
    pub when_missing: WhenMissing,
    /// The pause before the second process in a row that ended badly is replaced; it doubles up to `longest_pause`.
    pub first_pause: Duration,
    /// See `first_pause`.
    pub longest_pause: Duration,
}

impl Default for PythonSettings {
    fn default() -> Self {
        Self {
            python: PathBuf::from("python3"),
            search: ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from).to_vec(),
            launcher: PathBuf::from("/proc/self/exe"),
            timeout: Duration::from_secs(30),
            start_timeout: Duration::from_secs(15),
            ping_every: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
            concurrency: 4,
            queue: 64,
            frame_limit: 8 << 20,
            max_threads: 64,
            idle_cpu: Duration::from_secs(2),
            limits: Limits::default(),
            imports: Imports::default(),
            site_packages: Vec::new(),
            network: Network::Denied,
            identity: None,
            when_missing: WhenMissing::Refuse,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
        }
    }
}
