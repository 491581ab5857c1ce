//! Process groups: each process of a run leads one, so that what it starts ends with it.

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

/// A process group, named by its leader's process id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group(i32);

impl Group {
    /// The group led by a process.
    pub(crate) fn led_by(pid: u32) -> Option<Self> {
        i32::try_from(pid).ok().filter(|pid| *pid > 1).map(Self)
    }

    /// The leader's process id.
    pub(crate) fn leader(self) -> i32 {
        self.0
    }

    /// Sends a signal to every member; a group without members needs none.
    pub(crate) fn signal(self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.0) {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Whether any process is in it.
    pub(crate) fn has_members(self) -> bool {
        Pid::from_raw(self.0).is_some_and(|pid| test_kill_process_group(pid).is_ok())
    }
}

/// Whether a process runs; one that only waits to be reaped does not.
pub(crate) fn runs(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(") ")?.1.chars().next())
        .is_some_and(|state| !matches!(state, 'Z' | 'X'))
}
