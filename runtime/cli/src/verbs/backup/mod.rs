//! `outrigger backup` and `restore`: embedded data, resources and configuration in one archive.

mod archive;
mod collect;
mod restore;
mod roots;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;
use jiff::Zoned;

use super::{Surroundings, wait_for};
use crate::{
    console::Status,
    output::{self, Progress, TextFormat},
};

pub(super) use restore::{RestoreFlags, main as restore};

/// Copy embedded data, resources and configuration into one archive, while sidecars run
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger backup\n  outrigger backup --output /backups/shop.tar.gz --resources-path ./resources\n  outrigger backup -f dapr.yaml --with-secrets\n\nEach database is copied as it is at one moment, by SQLite's online backup; sidecars go on writing. Data on servers\nis theirs to back up. The archive is readable by you alone."
)]
pub(super) struct BackupFlags {
    /// The archive; outrigger-backup-<time>.tar.gz if not given
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Folder of resource files; may be repeated. What `run` would use if not given
    #[arg(long, value_delimiter = ',')]
    resources_path: Vec<PathBuf>,
    /// Configuration file. What `run` would use if not given
    #[arg(short = 'c', long)]
    config: Option<PathBuf>,
    /// Run file, or a folder with a dapr.yaml: its apps' resources, and the file itself
    #[arg(short = 'f', long)]
    run_file: Option<PathBuf>,
    /// Files of local secret stores too
    #[arg(long)]
    with_secrets: bool,
    /// Replace an archive that exists
    #[arg(long)]
    force: bool,
    /// How to print the result: text or json
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    format: TextFormat,
}

/// Makes an archive.
pub(super) fn backup(flags: &BackupFlags, around: &Surroundings) -> Result<ExitCode> {
    let path = around.working_dir.join(match &flags.output {
        Some(path) => path.clone(),
        None => format!(
            "outrigger-backup-{}.tar.gz",
            Zoned::now().strftime("%Y%m%d-%H%M%S")
        )
        .into(),
    });
    if path.exists() && !flags.force {
        anyhow::bail!("{} exists; replace it with --force", path.display());
    }
    let sources = wait_for(collect::sources(
        &collect::Wish {
            resources: &flags.resources_path,
            config: flags.config.as_deref(),
            run_file: flags.run_file.as_deref(),
            secrets: flags.with_secrets,
        },
        around,
    ))?;
    if flags.format == TextFormat::Text {
        for note in &sources.notes {
            around.console.say(Status::Info, note);
        }
    }
    if sources.files.is_empty() {
        anyhow::bail!(
            "nothing to back up here: no embedded data, no resources (name some with --resources-path)"
        );
    }
    let folder = path.parent().context("the archive has no folder")?;
    // Beside the archive: the same disk, and private to this user.
    let staging = tempfile::Builder::new()
        .prefix(".outrigger-backup-")
        .tempdir_in(folder)
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    let mut progress = Progress::new(around.console, "backing up", None);
    let manifest = archive::stage(&sources.files, staging.path(), &mut |pages| progress.at(pages))?;
    archive::write(&manifest, staging.path(), &path)?;
    drop(progress);
    let databases = manifest
        .files
        .iter()
        .filter(|file| file.kind == archive::Kind::Database)
        .count();
    match flags.format {
        TextFormat::Text => {
            let others = manifest.files.len() - databases;
            let size = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            let text = format!(
                "{databases} databases and {others} files are in {} ({} KiB); outrigger restore brings them back",
                path.display(),
                size.div_ceil(1024)
            );
            around.console.say(Status::Success, &text);
        }
        TextFormat::Json => {
            let answer = serde_json::json!({ "archive": path, "manifest": manifest, "notes": sources.notes });
            output::print(output::json(&answer)?.as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
