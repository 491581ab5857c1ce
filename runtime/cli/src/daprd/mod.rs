//! `daprd`: flags to options, options to a running sidecar, signals to its end.

mod absent;
mod flags;
mod quantity;
mod run;
mod wait;

use std::process::ExitCode;

use clap::Parser as _;

use flags::{DaprdFlags, double_dashes};
use outrigger_sidecar::RUNTIME_VERSION;

pub(crate) use quantity::bytes as bytes_of;

/// Runs the sidecar until it ends. Unknown flags leave with 2, fatal errors with 1.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let args = double_dashes(args.iter().cloned());
    let flags = match DaprdFlags::try_parse_from(std::iter::once("daprd".to_owned()).chain(args)) {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if flags.version {
        println!("{RUNTIME_VERSION}");
        return ExitCode::SUCCESS;
    }
    if flags.build_info {
        println!("Version: {RUNTIME_VERSION}");
        println!(
            "Git Commit: {}",
            option_env!("OUTRIGGER_COMMIT").unwrap_or("unknown")
        );
        println!("Git Version: outrigger-{}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    if flags.wait {
        return wait::until_outbound_ready(&flags.dapr_http_port);
    }
    run::run(&flags)
}
