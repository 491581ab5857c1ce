//! `outrigger audit`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand};
use outrigger_telemetry::audit;

use super::Surroundings;

/// Check audit logs
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  outrigger audit verify ./audit.log")]
pub(super) struct AuditFlags {
    #[command(subcommand)]
    verb: AuditVerb,
}

#[derive(Debug, Subcommand)]
enum AuditVerb {
    /// Follow a log's chain of hashes through the files put aside beside it; fails at the first line that was changed,
    /// added or taken out
    #[command(after_help = "Examples:\n  outrigger audit verify ./audit.log")]
    Verify {
        /// The current file of the log
        path: PathBuf,
    },
}

pub(super) fn main(flags: &AuditFlags, around: &Surroundings) -> Result<ExitCode> {
    let AuditVerb::Verify { path } = &flags.verb;
    let verified = audit::verify_files(&around.working_dir.join(path))?;
    println!(
        "{} records, number {} to {}, last hash {}",
        verified.lines, verified.first, verified.last, verified.hash
    );
    if verified.first > 1 {
        println!(
            "The records before number {} were put aside and removed.",
            verified.first
        );
    }
    Ok(ExitCode::SUCCESS)
}
