//! `state import`: an export into a store, resumable.
//!
//! After each batch the place in the file is noted beside it (`<file>.progress`); the same command goes on from there
//! and removes the note at the end. A batch that was written but not noted is written again: the same items with the
//! same values.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use jiff::Timestamp;
use outrigger_component::ErrorKind;
use outrigger_state::{Expect, Operation, Ttl, WriteOptions};
use serde::{Deserialize, Serialize};

use super::{
    super::{Surroundings, wait_for},
    record::{End, Head, Record},
    store::{Store, StoreFlags},
};
use crate::{console::Status, output::Progress, run::resources};

/// Items written at a time.
const BATCH: usize = 200;

/// Longest line: the largest value a store takes, in base64, and some.
const MAX_LINE: u64 = 1 << 30;

/// Read items from an export into a store
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger state import --app-id orders --file orders.ndjson\n\n  # Into another app's keys, replacing what is there\n  outrigger state import -a orders-2 -f orders.ndjson --on-conflict overwrite\n\n  # Look first\n  outrigger state import -a orders -f orders.ndjson --dry-run\n\nAn import that broke off goes on where it was when it is started again."
)]
pub(super) struct ImportFlags {
    #[command(flatten)]
    store: StoreFlags,
    /// The export; `-` for standard input
    #[arg(short = 'f', long)]
    file: PathBuf,
    /// What to do with a key that is there already
    #[arg(long, value_enum, default_value = "skip")]
    on_conflict: OnConflict,
    /// Begin at the first item, also after an import that broke off
    #[arg(long)]
    restart: bool,
    /// Read and check all of it, write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OnConflict {
    /// Keep what is there
    Skip,
    /// Replace it
    Overwrite,
    /// Stop
    Fail,
}

/// Where an import is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    /// The store, the prefix and the file's size: what it must be about to be of use.
    store: String,
    prefix: Option<String>,
    size: u64,
    /// Bytes and lines done.
    bytes: u64,
    lines: u64,
    written: u64,
    skipped: u64,
    expired: u64,
}

pub(super) fn main(flags: &ImportFlags, around: &Surroundings) -> Result<ExitCode> {
    wait_for(async {
        let store = flags.store.open(around).await?;
        let from_stdin = flags.file == Path::new("-");
        let noted = flags.file.with_file_name(format!(
            "{}.progress",
            flags.file.file_name().unwrap_or_default().to_string_lossy()
        ));
        let done = if from_stdin {
            let input = BufReader::new(std::io::stdin());
            Import::new(&store, flags, None, 0).run(input, around).await?
        } else {
            let context = || format!("cannot read {}", flags.file.display());
            let mut file = File::open(&flags.file).with_context(context)?;
            let size = file.metadata().with_context(context)?.len();
            let mut import = Import::new(&store, flags, Some(noted.as_path()), size);
            let mut input = BufReader::new(file.try_clone().with_context(context)?);
            if import.resume()? {
                // The head is checked again before the rest.
                import.head(&mut input)?;
                file.seek(SeekFrom::Start(import.note.bytes))
                    .with_context(context)?;
                input = BufReader::new(file);
                let text = format!(
                    "going on after line {} of {}",
                    import.note.lines,
                    flags.file.display()
                );
                around.console.say(Status::Info, &text);
            }
            import.run(input, around).await?
        };
        let _ = store.instance.close().await;
        if !from_stdin && !flags.dry_run {
            let _ = std::fs::remove_file(&noted);
        }
        let verb = if flags.dry_run {
            "would be written"
        } else {
            "written"
        };
        let mut text = format!("{} items {verb} to {}", done.written, store.name);
        if done.skipped > 0 {
            text.push_str(&format!(
                ", {} kept as they were (--on-conflict overwrite replaces them)",
                done.skipped
            ));
        }
        if done.expired > 0 {
            text.push_str(&format!(", {} had expired", done.expired));
        }
        around.console.say(Status::Success, &text);
        Ok(ExitCode::SUCCESS)
    })
}

struct Import<'a> {
    store: &'a Store,
    flags: &'a ImportFlags,
    noted: Option<&'a Path>,
    note: Note,
    batch: Vec<Operation>,
}

impl<'a> Import<'a> {
    fn new(store: &'a Store, flags: &'a ImportFlags, noted: Option<&'a Path>, size: u64) -> Self {
        Self {
            store,
            flags,
            noted: noted.filter(|_| !flags.dry_run),
            note: Note {
                store: store.name.clone(),
                prefix: store.prefix.clone(),
                size,
                bytes: 0,
                lines: 0,
                written: 0,
                skipped: 0,
                expired: 0,
            },
            batch: Vec::with_capacity(BATCH),
        }
    }

    /// Takes up the note of an earlier try, if it is about this import.
    fn resume(&mut self) -> Result<bool> {
        let Some(path) = self.noted.filter(|_| !self.flags.restart) else {
            return Ok(false);
        };
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let note: Note = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged; begin anew with --restart", path.display()))?;
        let same = Note {
            store: note.store.clone(),
            prefix: note.prefix.clone(),
            size: note.size,
            ..self.note.clone()
        } == self.note;
        if !same {
            bail!(
                "{} is about another import; begin anew with --restart",
                path.display()
            );
        }
        let resumed = note.lines > 0;
        self.note = note;
        Ok(resumed)
    }

    /// Reads and checks the first line; gives its length.
    fn head(&self, input: &mut impl std::io::BufRead) -> Result<u64> {
        let mut line = String::new();
        let read = input
            .take(MAX_LINE)
            .read_line(&mut line)
            .context("cannot read the export")?;
        let head = Head::parse(&line)?;
        if head.prefix.is_some() != self.store.prefix.is_some() {
            let (has, cure) = match head.prefix {
                Some(_) => ("of one app", "say whose they shall be with --app-id"),
                None => ("as a store has them", "give --all in place of --app-id"),
            };
            bail!("the keys of this export are those {has}; {cure}");
        }
        if head.encrypted && !self.store.encrypted {
            bail!(
                "the values are encrypted with the keys of {}, and {} has no encryption keys: nobody could read them",
                head.store,
                self.store.name
            );
        }
        Ok(read as u64)
    }

    async fn run(mut self, mut input: impl std::io::BufRead, around: &Surroundings) -> Result<Note> {
        let total = (self.note.size > 0).then_some(self.note.size);
        let mut progress = Progress::new(around.console, "importing", total);
        if self.note.lines == 0 {
            self.note.bytes = self.head(&mut input)?;
            self.note.lines = 1;
        }
        let (mut bytes, mut lines) = (self.note.bytes, self.note.lines);
        let mut line = String::new();
        loop {
            line.clear();
            let read = (&mut input)
                .take(MAX_LINE)
                .read_line(&mut line)
                .with_context(|| format!("line {}", lines + 1))?;
            if read == 0 {
                self.flush(bytes, lines).await?;
                bail!(
                    "the export ends without its last line: it broke off after {} items, which are imported",
                    lines.saturating_sub(1)
                );
            }
            if let Ok(End { end: true, items }) = serde_json::from_str(&line) {
                self.flush(bytes, lines).await?;
                if items != lines - 1 {
                    bail!("the export should hold {items} items, but has {}", lines - 1);
                }
                return Ok(self.note);
            }
            lines += 1;
            bytes += read as u64;
            self.take(&line).with_context(|| format!("line {lines}"))?;
            if self.batch.len() >= BATCH {
                self.flush(bytes, lines).await?;
                progress.at(if total.is_some() { bytes } else { lines });
            }
        }
    }

    fn take(&mut self, line: &str) -> Result<()> {
        let record: Record<'_> = serde_json::from_str(line).context("no item of an export")?;
        let ttl = match record.seconds_left(Timestamp::now()) {
            None => Ttl::Never,
            Some(0) => {
                self.note.expired += 1;
                return Ok(());
            }
            Some(seconds) => Ttl::Seconds(seconds),
        };
        let ttl = if self.store.instance.capabilities().ttl {
            ttl
        } else {
            Ttl::Default
        };
        self.batch.push(Operation::Set {
            key: self.store.stores_key(&record.key)?,
            value: record.value()?,
            expect: match self.flags.on_conflict {
                OnConflict::Overwrite => Expect::Any,
                OnConflict::Skip | OnConflict::Fail => Expect::Absent,
            },
            ttl,
            options: WriteOptions::default(),
        });
        Ok(())
    }

    /// Writes the batch and notes the place.
    async fn flush(&mut self, bytes: u64, lines: u64) -> Result<()> {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        if self.flags.dry_run {
            self.note.written += batch.len() as u64;
        } else {
            let keys: Vec<_> = batch.iter().map(|operation| operation.key().clone()).collect();
            for (key, answer) in keys.iter().zip(self.store.instance.apply_each(batch).await) {
                match answer {
                    Ok(_) => self.note.written += 1,
                    Err(error)
                        if error.kind() == ErrorKind::EtagMismatch
                            && self.flags.on_conflict == OnConflict::Skip =>
                    {
                        self.note.skipped += 1;
                    }
                    Err(error) if error.kind() == ErrorKind::EtagMismatch => {
                        bail!("{key} is there already (--on-conflict skip keeps it, overwrite replaces it)")
                    }
                    Err(error) => bail!(
                        "cannot write {key}: {} (start the import again to go on)",
                        error.chain()
                    ),
                }
            }
        }
        (self.note.bytes, self.note.lines) = (bytes, lines);
        if let Some(path) = self.noted {
            let text = serde_json::to_string(&self.note).context("cannot note the progress")?;
            resources::replace(path, &text)?;
        }
        Ok(())
    }
}
