//! A host's binary cut down to the one thing the engine needs of it: becoming a confined program.

use std::process::ExitCode;

fn main() -> ExitCode {
    outrigger_platform_sandbox::enter_if_asked(std::env::args_os().skip(1)).unwrap_or(ExitCode::from(2))
}
