//! `outrigger completion`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Command};
use clap_complete::Shell;

use crate::output;

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  # bash, for this shell and for all\n  source <(outrigger completion bash)\n  outrigger completion bash > ~/.local/share/bash-completion/completions/outrigger\n\n  # zsh: a folder of $fpath\n  outrigger completion zsh > ~/.zfunc/_outrigger\n\n  # fish\n  outrigger completion fish > ~/.config/fish/completions/outrigger.fish\n\n  # PowerShell\n  outrigger completion powershell | Out-String | Invoke-Expression"
)]
pub(super) struct CompletionFlags {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script for the command as it was called.
pub(super) fn main(flags: &CompletionFlags, mut command: Command, name: &str) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut command, name, &mut script);
    output::print(&script)?;
    Ok(ExitCode::SUCCESS)
}
