//! What a confined program may do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A program and its walls. It travels to the launcher as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The program, as an absolute path to an ELF file (a script with `#!` would need its interpreter's right too).
    pub program: PathBuf,
    /// Its arguments, without the program's name.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Files, and folders with all below them, that may be read; what does not exist is passed over.
    pub read: Vec<PathBuf>,
    /// A folder below which plain files may be made, written and removed. `None`: nothing is written anywhere.
    pub scratch: Option<PathBuf>,
    /// The network.
    pub network: Network,
    /// Whether threads may be started. Processes never may.
    pub threads: bool,
    /// How much of the machine it may use.
    pub limits: Limits,
    /// Whom it runs as.
    pub identity: Identity,
    /// What to do on a kernel without one of the walls.
    pub when_missing: WhenMissing,
}

impl Policy {
    /// A program with no arguments and no rights but to read itself.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            read: Vec::new(),
            scratch: None,
            network: Network::Denied,
            threads: true,
            limits: Limits::default(),
            identity: Identity::Keep,
            when_missing: WhenMissing::Refuse,
        }
    }
}

/// What of the network a program gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Network {
    /// No sockets of any family; the descriptors it was started with still work.
    #[default]
    Denied,
    /// May call out by TCP and UDP over IPv4 and IPv6, and read the files of name resolution. May not listen, and
    /// gets no sockets of other families: the machine's own services often listen on those.
    Outgoing,
}

/// How much of the machine a program may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Address space in bytes. More is refused, in Python by a `MemoryError`.
    pub memory: u64,
    /// Processor time over the program's whole life; at its end the program is killed. A host whose program lives
    /// long replaces it before.
    pub cpu: Duration,
    /// Bytes of one written file. Only a program with a scratch folder writes any.
    pub file_size: u64,
    /// Open descriptors.
    pub open_files: u64,
    /// Processes and threads of the *user*, whosoever they are, as the kernel counts them; it does not bind root.
    /// What one program may use is for its host to watch ([`Usage`](crate::Usage)).
    pub processes: u64,
    /// Added to the priority number: 10 leaves the host and others a much larger share of a busy processor.
    pub nice: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 512 << 20,
            cpu: Duration::from_secs(3600),
            file_size: 16 << 20,
            open_files: 64,
            processes: 1024,
            nice: 10,
        }
    }
}

/// Whom a program runs as. In every case it has no capabilities and can gain none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// The host's user.
    Keep,
    /// Another user without further groups; only root can ask for that.
    Switch {
        /// The user's number.
        uid: u32,
        /// The group's number.
        gid: u32,
    },
}

impl Identity {
    /// `nobody`, by the numbers that distributions agree on.
    pub const NOBODY: Self = Self::Switch {
        uid: 65534,
        gid: 65534,
    };
}

/// What to do when the kernel lacks Landlock or seccomp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum WhenMissing {
    /// Start nothing.
    #[default]
    Refuse,
    /// Start the program behind the walls there are.
    GoWithout,
}
