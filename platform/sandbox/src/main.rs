//! The launcher as a small program of its own, for hosts that do not want to start themselves again, and for tests:
//! `--lacks landlock` or `--lacks seccomp` before the request makes the kernel seem to lack it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == "--lacks").is_some() {
        let calls: &[libc::c_long] = match args.next().as_ref().and_then(|name| name.to_str()) {
            Some("landlock") => &[libc::SYS_landlock_create_ruleset],
            Some("seccomp") => &[libc::SYS_seccomp],
            _ => return ExitCode::from(2),
        };
        if hide(calls).is_err() {
            return ExitCode::from(2);
        }
    }
    outrigger_platform_sandbox::enter_if_asked(args).unwrap_or(ExitCode::from(2))
}

/// Has the kernel answer these calls as if it did not know them.
fn hide(calls: &[libc::c_long]) -> Result<(), seccompiler::Error> {
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, unknown, arch)?.try_into()?;
    seccompiler::apply_filter(&filter)
}
