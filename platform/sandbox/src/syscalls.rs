//! The wall around the kernel: seccomp filters.
//!
//! A list of the system calls there are; what is not on it fails with `EPERM`. So a call that a later kernel brings
//! is denied until somebody has looked at it.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::policy::{Network, Policy};

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Calls whatever their arguments: own memory, own descriptors, own signals, clocks, waiting. Reading files is here
/// too, as the wall around files decides on it.
const ALWAYS: &[c_long] = &[
    // Descriptors it has.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_lseek,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    // Files by name.
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_umask,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_membarrier,
    // Threads and locks.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals to itself.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_setitimer,
    libc::SYS_getitimer,
    libc::SYS_restart_syscall,
    // Clocks.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_times,
    // Who and where it is.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getrusage,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrandom,
    // Judged by filters of their own, below.
    libc::SYS_execve,
    libc::SYS_clone3,
];

/// The older forms of some of the calls above, which one architecture still has.
#[cfg(target_arch = "x86_64")]
const ALWAYS_HERE: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_getpgrp,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_time,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const ALWAYS_HERE: &[c_long] = &[];

/// Changes below the scratch folder. Modes, owners and times stay out: the wall around files does not judge those.
const WITH_SCRATCH: &[c_long] = &[
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
];
#[cfg(target_arch = "x86_64")]
const WITH_SCRATCH_HERE: &[c_long] = &[
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
];
#[cfg(not(target_arch = "x86_64"))]
const WITH_SCRATCH_HERE: &[c_long] = &[];

/// Calling out; `socket` itself is judged by its arguments.
const WITH_NETWORK: &[c_long] = &[
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
];

/// A new thread of this process: it shares memory, files and signals.
const THREAD: u64 = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u64;

/// Flags no thread needs: other namespaces, other parents, tracing.
const NOT_OF_THREADS: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_PTRACE
    | libc::CLONE_PARENT
    | libc::CLONE_VFORK) as u64;

/// Questions about a descriptor that is, or is not, a terminal, and blocking or closing it.
const IOCTLS: &[u64] = &[
    0x5401, // TCGETS
    0x5421, // FIONBIO
    0x541b, // FIONREAD
    0x5450, // FIONCLEX
    0x5451, // FIOCLEX
];

/// Copies, flags; no owner and no signal of a descriptor, no lease.
const FCNTLS: &[i32] = &[
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
];

/// A name for a thread, and for a piece of memory.
const PRCTLS: &[u64] = &[libc::PR_SET_NAME as u64, libc::PR_GET_NAME as u64, 0x5356_4d41];

const EXECUTABLE: u64 = libc::PROT_EXEC as u64;
const WRITABLE: u64 = libc::PROT_WRITE as u64;

/// The filters for a policy, to be applied in this order.
///
/// `program` is the address of the text that the launcher gives to `execve`. The filter for it can tell that one call
/// apart from all that follow: the new program has memory of its own, where nothing is known to stand at this address
/// (it is chosen at random for each launcher), and one wrong guess ends the process. Were a guess right, there would
/// still be nothing to start but the program itself, as the wall around files sees to.
///
/// # Errors
/// If this machine's architecture is not known.
pub(crate) fn filters(policy: &Policy, program: usize) -> Result<Vec<BpfProgram>, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut compiled = Vec::new();
    for (rules, mismatch, matched) in [
        (
            other_programs(program)?,
            SeccompAction::Allow,
            SeccompAction::KillProcess,
        ),
        // Its arguments stand in memory, where no filter can look. Told that the kernel lacks it, libraries use `clone`.
        (
            Rules::from([(libc::SYS_clone3, Vec::new())]),
            SeccompAction::Allow,
            errno(libc::ENOSYS),
        ),
        // The last, as no filter can be added behind it.
        (allowed(policy)?, errno(libc::EPERM), SeccompAction::Allow),
    ] {
        compiled.push(SeccompFilter::new(rules, mismatch, matched, arch)?.try_into()?);
    }
    Ok(compiled)
}

fn errno(number: i32) -> SeccompAction {
    SeccompAction::Errno(number.unsigned_abs())
}

fn other_programs(program: usize) -> Result<Rules, BackendError> {
    let another = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, program as u64)?;
    Ok(Rules::from([
        (libc::SYS_execve, vec![SeccompRule::new(vec![another])?]),
        (libc::SYS_execveat, Vec::new()),
    ]))
}

fn allowed(policy: &Policy) -> Result<Rules, BackendError> {
    let mut rules = Rules::new();
    let mut all = |numbers: &[c_long]| rules.extend(numbers.iter().map(|number| (*number, Vec::new())));
    all(ALWAYS);
    all(ALWAYS_HERE);
    if policy.scratch.is_some() {
        all(WITH_SCRATCH);
        all(WITH_SCRATCH_HERE);
    }
    if policy.network == Network::Outgoing {
        all(WITH_NETWORK);
        let mut sockets = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
                // The kind's upper bits are flags.
                sockets.push(SeccompRule::new(vec![
                    equal(0, word(family))?,
                    masked(1, 0xf, word(kind))?,
                ])?);
            }
        }
        rules.insert(libc::SYS_socket, sockets);
    }
    if policy.threads {
        let thread = SeccompRule::new(vec![masked(0, THREAD, THREAD)?, masked(0, NOT_OF_THREADS, 0)?])?;
        rules.insert(libc::SYS_clone, vec![thread]);
    }
    rules.insert(
        libc::SYS_fcntl,
        any_of(1, FCNTLS.iter().map(|command| word(*command)))?,
    );
    rules.insert(libc::SYS_ioctl, any_of(1, IOCTLS.iter().copied())?);
    rules.insert(libc::SYS_prctl, any_of(0, PRCTLS.iter().copied())?);
    // Signals to itself: its process id does not change when it becomes the program.
    let itself = u64::from(std::process::id());
    rules.insert(libc::SYS_kill, any_of(0, [itself])?);
    rules.insert(libc::SYS_tgkill, any_of(0, [itself])?);
    // Asking for limits, its own, setting none.
    let ask = SeccompRule::new(vec![
        equal(0, 0)?,
        SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?,
    ])?;
    rules.insert(libc::SYS_prlimit64, vec![ask]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_getrlimit, Vec::new());
    // Memory that is written is never run, so that code comes from files it may read.
    let one_of_both = vec![
        SeccompRule::new(vec![masked(2, EXECUTABLE, 0)?])?,
        SeccompRule::new(vec![masked(2, WRITABLE, 0)?])?,
    ];
    rules.insert(libc::SYS_mmap, one_of_both);
    rules.insert(
        libc::SYS_mprotect,
        vec![SeccompRule::new(vec![masked(2, EXECUTABLE, 0)?])?],
    );
    Ok(rules)
}

fn word(number: i32) -> u64 {
    u64::from(number.unsigned_abs())
}

fn equal(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::MaskedEq(mask),
        value,
    )
}

fn any_of(argument: u8, values: impl IntoIterator<Item = u64>) -> Result<Vec<SeccompRule>, BackendError> {
    values
        .into_iter()
        .map(|value| SeccompRule::new(vec![equal(argument, value)?]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_is_on_no_list() {
        let mut policy = Policy::new("/bin/true");
        policy.scratch = Some("/tmp".into());
        policy.network = Network::Outgoing;
        let rules = allowed(&policy).unwrap();
        for number in [
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_memfd_create,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_getfd,
            libc::SYS_open_by_handle_at,
            libc::SYS_linkat,
            libc::SYS_symlinkat,
            libc::SYS_mknodat,
            libc::SYS_fchmodat,
            libc::SYS_fchownat,
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_setuid,
            libc::SYS_capset,
            libc::SYS_setpriority,
            libc::SYS_reboot,
            libc::SYS_init_module,
        ] {
            assert!(!rules.contains_key(&number), "{number}");
        }
    }

    #[test]
    fn every_policy_compiles() {
        let mut policy = Policy::new("/bin/true");
        for network in [Network::Denied, Network::Outgoing] {
            for threads in [false, true] {
                policy.network = network;
                policy.threads = threads;
                assert_eq!(filters(&policy, 4096).unwrap().len(), 3);
            }
        }
    }
}
