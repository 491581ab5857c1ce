//! `outrigger restore`.
//!
//! The whole archive is unpacked and checked before the first file is placed. Files go in aside and are renamed; a
//! database that is replaced stays beside the new one under another name.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use jiff::Zoned;

use super::{
    super::{Surroundings, checksum},
    archive::{self, Kind, Listed},
    roots::{Root, Roots},
};
use crate::{
    console::Status,
    output::{self, TextFormat},
};

/// Put the files of a backup back
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger restore shop.tar.gz --dry-run\n  outrigger stop orders && outrigger restore shop.tar.gz --force\n\n  # Somewhere else, to look at it\n  outrigger restore shop.tar.gz --to ./looked-at\n\nNothing is replaced without --force, and nothing that a running program has open."
)]
pub(in super::super) struct RestoreFlags {
    /// The archive
    archive: PathBuf,
    /// Into this folder, not where the files came from
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
    /// Replace files that exist; databases that are replaced stay beside the new ones
    #[arg(long)]
    force: bool,
    /// Also files from outside the data folder, Dapr's folder and the working folder, at their old absolute paths
    #[arg(long, conflicts_with = "to")]
    elsewhere: bool,
    /// Check the archive and say what would happen
    #[arg(long)]
    dry_run: bool,
    /// How to print the result: text or json
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    format: TextFormat,
}

/// Puts a backup back.
pub(in super::super) fn main(flags: &RestoreFlags, around: &Surroundings) -> Result<ExitCode> {
    let path = around.working_dir.join(&flags.archive);
    let to = flags.to.as_ref().map(|to| around.working_dir.join(to));
    let roots = Roots::of(around);
    let unpacked = tempfile::Builder::new()
        .prefix("outrigger-restore-")
        .tempdir()
        .context("cannot unpack")?;
    let manifest = archive::read(&path, unpacked.path())?;
    let mut placed: Vec<(&Listed, PathBuf)> = Vec::new();
    let (mut same, mut outside, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    for listed in &manifest.files {
        if listed.root == Root::Elsewhere && to.is_none() && !flags.elsewhere {
            outside.push(format!("/{}", listed.path.display()));
            continue;
        }
        let target = roots
            .join(listed.root, &listed.path, to.as_deref())
            .context("there is no home folder here for Dapr's files; use --to")?;
        if target.is_file() && !has_journal(&target) && checksum::of_file(&target)? == listed.sha256 {
            same.push(target);
            continue;
        }
        if fs::symlink_metadata(&target).is_ok() {
            taken.push(target.clone());
        }
        placed.push((listed, target));
    }
    if !outside.is_empty() {
        bail!(
            "the backup holds files from other places: {}; put all into one folder with --to, or these back with --elsewhere",
            outside.join(", ")
        );
    }
    if flags.dry_run {
        for (listed, target) in &placed {
            let verb = if taken.contains(target) {
                "replace"
            } else {
                "write"
            };
            let text = format!("would {verb} {} ({} bytes)", target.display(), listed.bytes);
            around.console.say(Status::Info, &text);
        }
        let text = format!(
            "the backup of {} is whole; {} files are as in it",
            manifest.created,
            same.len()
        );
        around.console.say(Status::Success, &text);
        return Ok(ExitCode::SUCCESS);
    }
    if !taken.is_empty() && !flags.force {
        bail!("these exist: {}; replace them with --force", paths(&taken));
    }
    let databases = placed.iter().filter(|(listed, _)| listed.kind == Kind::Database);
    let open = held(&databases.map(|(_, target)| target.clone()).collect());
    if !open.is_empty() {
        bail!(
            "running programs have these open: {}; stop them first (outrigger list, outrigger stop)",
            open.join(", ")
        );
    }
    let moment = Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    for (listed, target) in &placed {
        place(&unpacked.path().join(&listed.name), target, listed.kind, &moment)?;
    }
    match flags.format {
        TextFormat::Text => {
            let text = format!(
                "{} files restored from the backup of {}, {} were as in it",
                placed.len(),
                manifest.created,
                same.len()
            );
            around.console.say(Status::Success, &text);
        }
        TextFormat::Json => {
            let restored: Vec<&PathBuf> = placed.iter().map(|(_, target)| target).collect();
            let answer =
                serde_json::json!({ "created": manifest.created, "restored": restored, "same": same });
            output::print(output::json(&answer)?.as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn paths(paths: &[PathBuf]) -> String {
    let texts: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    texts.join(", ")
}

/// The file beside a database that holds what is not in it yet.
fn beside(database: &Path, end: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn has_journal(database: &Path) -> bool {
    ["-wal", "-journal"]
        .iter()
        .any(|end| beside(database, end).exists())
}

/// Those of the files that some process has open, with its name.
fn held(files: &BTreeSet<PathBuf>) -> Vec<String> {
    let wanted: BTreeSet<PathBuf> = files.iter().filter_map(|file| file.canonicalize().ok()).collect();
    let mut found = Vec::new();
    if wanted.is_empty() {
        return found;
    }
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(links) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let open: BTreeSet<PathBuf> = links
            .flatten()
            .filter_map(|link| fs::read_link(link.path()).ok())
            .filter(|target| wanted.contains(target))
            .collect();
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        let pid = process.file_name().to_string_lossy().into_owned();
        found.extend(
            open.iter()
                .map(|file| format!("{} ({}, process {pid})", file.display(), name.trim_end())),
        );
    }
    found
}

fn place(from: &Path, target: &Path, kind: Kind, moment: &str) -> Result<()> {
    let context = || format!("cannot write {}", target.display());
    let folder = target.parent().with_context(context)?;
    fs::create_dir_all(folder).with_context(context)?;
    let aside = beside(target, &format!(".restore-{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut source = fs::File::open(from)?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)?;
        std::io::copy(&mut source, &mut file)?;
        file.flush()?;
        file.sync_all()
    };
    write().with_context(context)?;
    if kind == Kind::Database && target.exists() {
        let kept = beside(target, &format!(".before-restore-{moment}"));
        // The journal goes with its database: beside another one it would damage it.
        for end in ["-wal", "-journal"] {
            if beside(target, end).exists() {
                fs::rename(beside(target, end), beside(&kept, end)).with_context(context)?;
            }
        }
        fs::rename(target, &kept).with_context(context)?;
    }
    if kind == Kind::Database {
        for end in ["-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(beside(target, end));
        }
    }
    fs::rename(&aside, target).with_context(context)?;
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(context)
}
