//! The launcher as a small program of its own, for hosts that do not want to start themselves again, and for tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    outrigger_platform_sandbox::enter_if_asked(std::env::args_os().skip(1)).unwrap_or(ExitCode::from(2))
}
