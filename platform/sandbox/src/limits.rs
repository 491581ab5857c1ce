//! How much of the machine the program may use.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::policy::Policy;

/// Sets the limits and the priority of this process. The program cannot raise them: the filter denies it.
///
/// # Errors
/// What the kernel says.
pub(crate) fn apply(policy: &Policy) -> io::Result<()> {
    let limits = policy.limits;
    let file_size = if policy.scratch.is_some() {
        limits.file_size
    } else {
        0
    };
    // The end of the processor time is final: a soft limit's signal could be ignored.
    for (resource, value) in [
        (Resource::Core, 0),
        (Resource::Msgqueue, 0),
        (Resource::Memlock, 0),
        (Resource::Fsize, file_size),
        (Resource::Nofile, limits.open_files),
        (Resource::Nproc, limits.processes),
        (Resource::Cpu, limits.cpu.as_secs().max(1)),
        (Resource::As, limits.memory),
    ] {
        // A host may be confined itself; what it may not raise for itself stays.
        let value = Some(value.min(getrlimit(resource).maximum.unwrap_or(u64::MAX)));
        setrlimit(
            resource,
            Rlimit {
                current: value,
                maximum: value,
            },
        )?;
    }
    rustix::process::nice(limits.nice)?;
    Ok(())
}
