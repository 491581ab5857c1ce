//! `state export`: a store's items as lines of JSON.

use std::{
    fs::File,
    io::BufWriter,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::Args;
use outrigger_state::ReadOptions;

use super::{
    super::{Surroundings, wait_for},
    record::{End, Head, Record},
    store::{Store, StoreFlags},
};
use crate::{console::Status, output::Progress};

/// Write items into a file, one line of JSON each
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger state export --app-id orders --output orders.ndjson\n  outrigger state export -a orders --prefix order- | jq .key\n\n  # All apps' items, keys as the store has them\n  outrigger state export --all -s statestore --resources-path ./resources -o all.ndjson\n\nWhat other programs write meanwhile may or may not be in it; outrigger backup copies a moment."
)]
pub(super) struct ExportFlags {
    #[command(flatten)]
    store: StoreFlags,
    /// Only keys that begin so
    #[arg(short = 'p', long, default_value = "")]
    prefix: String,
    /// The file; standard output if not given
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file that exists
    #[arg(long)]
    force: bool,
}

pub(super) fn main(flags: &ExportFlags, around: &Surroundings) -> Result<ExitCode> {
    wait_for(async {
        let store = flags.store.open(around).await?;
        store.must_list()?;
        let items = match &flags.output {
            None => {
                let mut output = BufWriter::new(std::io::stdout());
                write(&store, flags, &mut output, around).await?
            }
            Some(path) => {
                let file = create(path, flags.force)?;
                let mut output = BufWriter::new(file);
                let items = write(&store, flags, &mut output, around).await?;
                output
                    .into_inner()
                    .map_err(std::io::IntoInnerError::into_error)
                    .and_then(|file| file.sync_all())
                    .with_context(|| format!("cannot write {}", path.display()))?;
                items
            }
        };
        let _ = store.instance.close().await;
        if let Some(path) = &flags.output {
            let text = format!("{items} items of {} are in {}", store.name, path.display());
            around.console.say(Status::Success, &text);
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// State may hold secrets, so the file is its owner's alone.
fn create(path: &Path, force: bool) -> Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).mode(0o600);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options.open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("{} exists; replace it with --force", path.display())
        }
        _ => anyhow::anyhow!("cannot write {}: {error}", path.display()),
    })
}

async fn write(
    store: &Store,
    flags: &ExportFlags,
    output: &mut impl std::io::Write,
    around: &Surroundings,
) -> Result<u64> {
    let mut progress = Progress::new(around.console, "exporting", None);
    let head = Head::new(
        &store.name,
        &store.type_name,
        store.prefix.as_deref(),
        store.encrypted,
    );
    line(output, &head)?;
    let (mut token, mut items) = (None, 0);
    loop {
        let page = store.keys(&flags.prefix, token).await?;
        let answers = store.instance.get_many(&page.keys, &ReadOptions::default()).await;
        for (key, answer) in page.keys.iter().zip(answers) {
            let item = answer.map_err(|error| anyhow::anyhow!("cannot read {key}: {}", error.chain()))?;
            // Gone since it was listed.
            let Some(item) = item else { continue };
            line(output, &Record::of(store.apps_key(key), &item))?;
            items += 1;
        }
        progress.at(items);
        token = page.token;
        if token.is_none() {
            break;
        }
    }
    line(output, &End { end: true, items })?;
    output.flush().context("cannot write the export")?;
    Ok(items)
}

fn line(output: &mut impl std::io::Write, value: &impl serde::Serialize) -> Result<()> {
    serde_json::to_writer(&mut *output, value).context("cannot write the export")?;
    output.write_all(b"\n").context("cannot write the export")
}
