//! `outrigger version` and `build-info`.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::output::{self, TextFormat};

/// Print the versions of this program and of the runtime it serves
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:\n  outrigger version\n  outrigger version --output json")]
pub(super) struct VersionFlags {
    /// How to print: text or json
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    output: TextFormat,
}

/// Print what this program was built from
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  outrigger build-info\n  outrigger build-info --output json")]
pub(super) struct BuildInfoFlags {
    /// How to print: text or json
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    output: TextFormat,
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
    let text = match flags.output {
        TextFormat::Text => format!("CLI version: {cli} \nRuntime version: {runtime}\n"),
        TextFormat::Json => {
            let answer = serde_json::json!({ "Cli version": cli, "Runtime version": runtime });
            format!("{answer}\n")
        }
    };
    output::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the build.
pub(super) fn build_info(flags: &BuildInfoFlags) -> Result<ExitCode> {
    let commit = option_env!("OUTRIGGER_COMMIT").unwrap_or("unknown");
    let (version, runtime) = (env!("CARGO_PKG_VERSION"), outrigger_sidecar::RUNTIME_VERSION);
    let system = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    let text = match flags.output {
        TextFormat::Text => format!(
            "Version: {version}\nRuntime version: {runtime}\nGit Commit: {commit}\nGit Version: outrigger-{version}\nPlatform: {system}\n"
        ),
        TextFormat::Json => output::json(&serde_json::json!({
            "version": version,
            "runtimeVersion": runtime,
            "gitCommit": commit,
            "platform": system,
        }))?,
    };
    output::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
