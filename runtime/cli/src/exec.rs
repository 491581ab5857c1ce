//! `outrigger __exec`: ties a process to the command line that started it, then becomes the command.
//!
//! Every process of a run starts through here. The kernel sends it SIGTERM when the command line dies, however that
//! happens; the [guard](crate::guard) cares for what the process started itself.

use std::{os::unix::process::CommandExt as _, process::Command, process::ExitCode};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Arguments: the starter's process id, the program, its name (`argv[0]`), its arguments.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let [starter, program, name, args @ ..] = args else {
        eprintln!("__exec is internal: it starts the processes of `outrigger run`");
        return ExitCode::from(2);
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        eprintln!("cannot tie {program} to the command line: {error}");
        return ExitCode::FAILURE;
    }
    // The starter may have died before the line above took hold; then nobody would ever tell us.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if parent.as_deref() != Some(starter.as_str()) {
        return ExitCode::FAILURE;
    }
    let error = Command::new(program).arg0(name).args(args).exec();
    eprintln!("cannot start {program}: {error}");
    ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound {
        127
    } else {
        126
    })
}
