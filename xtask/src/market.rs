//! The market data pipeline on embedded defaults.

use std::{os::unix::process::CommandExt, process::Command};

use crate::{args::Args, repo};

/// What the pipeline is made of.
pub(crate) const PACKAGES: [&str; 5] = [
    "outrigger",
    "outrigger-market",
    "outrigger-platform-gateway",
    "outrigger-platform-websockets",
    "outrigger-platform-workers",
];

/// Builds the programs and becomes `outrigger run -f`, so that Ctrl-C and exit codes are its own.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let profile = args.value("--profile")?.unwrap_or_else(|| "fast".to_owned());
    let rest = args.trailing();
    args.finish()?;
    let programs = repo::build(&profile, &PACKAGES)?;
    println!("==> outrigger run -f apps/market/dapr.yaml");
    let error = Command::new(programs.join("outrigger"))
        .args(["run", "-f", "apps/market/dapr.yaml"])
        .args(rest)
        .current_dir(repo::root())
        // Else the run file starts the newest builds, which may be another profile's.
        .env("MARKET_BIN", &programs)
        .exec();
    Err(error.into())
}
