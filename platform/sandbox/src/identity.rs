//! Who the program is: another user, no capabilities, bound to the life of its host.

use std::io;

use rustix::process::{Pid, Signal};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use crate::policy::Identity;

/// The user and the capabilities.
///
/// # Errors
/// If another user is asked for by one who may not switch.
pub(crate) fn assume(identity: Identity) -> io::Result<()> {
    // First, as it takes rights that the steps below give up. Those who have none of them get an error, and need none
    // of it: without new privileges an exec gives nobody more than he has.
    for bit in CapabilitySet::all().iter() {
        let _ = rustix::thread::remove_capability_from_bounding_set(bit);
    }
    let no_root = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    let _ = rustix::thread::set_capabilities_secure_bits(no_root);
    if let Identity::Switch { uid, gid } = identity {
        let (uid, gid) = (
            rustix::process::Uid::from_raw(uid),
            rustix::process::Gid::from_raw(gid),
        );
        // Of the calling thread only, which is the one that becomes the program.
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    }
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    Ok(())
}

/// Has the kernel kill this process when the thread that started it ends. After [`assume`], which would undo it.
///
/// # Errors
/// If that thread has ended already.
pub(crate) fn die_with(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = rustix::process::getppid().map_or(0, Pid::as_raw_pid);
    if u32::try_from(now) != Ok(parent) {
        return Err(io::Error::other("the process that asked for a sandbox is gone"));
    }
    Ok(())
}
