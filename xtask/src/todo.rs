//! The main job: the todo app on embedded defaults.

use std::{os::unix::process::CommandExt, process::Command};

use crate::{args::Args, repo};

/// Builds the programs and becomes `outrigger run -f`, so that Ctrl-C and exit codes are its own.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let profile = args.value("--profile")?.unwrap_or_else(|| "fast".to_owned());
    let rest = args.trailing();
    args.finish()?;
    let programs = repo::build(&profile, &["outrigger", "outrigger-todo"])?;
    println!("==> outrigger run -f apps/todo/dapr.yaml");
    let error = Command::new(programs.join("outrigger"))
        .args(["run", "-f", "apps/todo/dapr.yaml"])
        .args(rest)
        .current_dir(repo::root())
        // Else the run file starts the newest build, which may be another profile's.
        .env("TODO_BIN", programs.join("todo"))
        .exec();
    Err(error.into())
}
