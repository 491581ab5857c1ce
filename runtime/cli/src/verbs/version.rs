//! `outrigger version`.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use super::JsonOutput;

/// Print the versions of this program and of the runtime it serves
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:\n  outrigger version\n  outrigger version --output json")]
pub(super) struct VersionFlags {
    /// How to print: json
    #[arg(short = 'o', long, value_enum)]
    output: Option<JsonOutput>,
}

/// Prints the versions; `daprd` is the sidecar program that runs instead of ours.
pub(super) fn main(flags: &VersionFlags, daprd: Option<&Path>) -> Result<ExitCode> {
    let runtime = match daprd {
        None => outrigger_sidecar::RUNTIME_VERSION.to_owned(),
        Some(path) => {
            let output = std::process::Command::new(path).arg("--version").output();
            let output = output.with_context(|| format!("cannot run {}", path.display()))?;
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
    };
    let cli = env!("CARGO_PKG_VERSION");
    match flags.output {
        None => println!("CLI version: {cli} \nRuntime version: {runtime}"),
        Some(JsonOutput::Json) => {
            println!(
                "{}",
                serde_json::json!({ "Cli version": cli, "Runtime version": runtime })
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}
