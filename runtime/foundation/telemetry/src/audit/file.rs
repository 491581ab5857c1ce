//! Where lines are written: standard output, or a file that is put aside when it is full.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    AuditError, AuditTarget,
    chain::{self, Chain},
};

/// The most that is read of a file's end to find its last line; lines are far shorter.
const TAIL_BYTES: u64 = 64 * 1024;

/// Where a log that was there before ends.
#[derive(Debug, Default)]
pub(super) struct End {
    pub(super) chain: Chain,
    /// Bytes of a last line that a crash cut short; they were taken off.
    pub(super) torn_bytes: u64,
}

/// An open destination.
#[derive(Debug)]
pub(super) enum Destination {
    Stdout,
    File(AuditFile),
}

impl Destination {
    pub(super) fn open(target: &AuditTarget) -> Result<(Self, End), AuditError> {
        match target {
            AuditTarget::Stdout => Ok((Self::Stdout, End::default())),
            AuditTarget::File {
                path,
                max_bytes,
                max_files,
            } => {
                let failed = |source| AuditError::Open {
                    path: path.clone(),
                    source,
                };
                let file = open(path).map_err(failed)?;
                lock(&file, path)?;
                let mut end = end_of(&file).map_err(failed)?;
                let size = file.metadata().map_err(failed)?.len();
                if size == 0 {
                    // Just put aside: the chain goes on from the file before.
                    if let Ok(before) = File::open(numbered(path, 1)) {
                        end.chain = end_of_unowned(&before).map_err(failed)?;
                    }
                }
                let file = AuditFile {
                    file,
                    size,
                    path: path.clone(),
                    max_bytes: *max_bytes,
                    max_files: *max_files,
                };
                Ok((Self::File(file), end))
            }
        }
    }

    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().write_all(line),
            Self::File(file) => file.write(line),
        }
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().flush(),
            Self::File(file) => file.file.sync_data(),
        }
    }
}

/// The current file.
#[derive(Debug)]
pub(super) struct AuditFile {
    file: File,
    size: u64,
    path: PathBuf,
    max_bytes: u64,
    max_files: usize,
}

impl AuditFile {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.size > 0 && self.size.saturating_add(length) > self.max_bytes {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.size += length;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        let kept = self.max_files.max(1);
        for number in (1..kept).rev() {
            match fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, numbered(&self.path, 1))?;
        let file = open(&self.path)?;
        // Nobody else can have it: it was made now.
        let _ = file.try_lock();
        self.file = file;
        self.size = 0;
        Ok(())
    }
}

/// `<path>.<number>`.
pub(super) fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

fn lock(file: &File, path: &Path) -> Result<(), AuditError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(AuditError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(AuditError::Open {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Where the chain stands at the end of our file; cuts a torn line off.
fn end_of(mut file: &File) -> io::Result<End> {
    let tail = tail(file)?;
    let whole = tail
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let torn_bytes = u64::try_from(tail.len() - whole).unwrap_or(0);
    if torn_bytes > 0 {
        let size = file.metadata()?.len();
        file.set_len(size.saturating_sub(torn_bytes))?;
        file.seek(SeekFrom::End(0))?;
    }
    Ok(End {
        chain: last(&tail[..whole]),
        torn_bytes,
    })
}

fn end_of_unowned(file: &File) -> io::Result<Chain> {
    Ok(last(&tail(file)?))
}

/// The last lines.
fn tail(mut file: &File) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    Ok(tail)
}

/// The chain after the last line. A line that was tampered with begins a new chain, which the verifier reports.
fn last(lines: &[u8]) -> Chain {
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    let line = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    std::str::from_utf8(line)
        .ok()
        .and_then(|line| chain::open(line).ok())
        .map_or_else(Chain::default, |line| Chain {
            sequence: line.sequence,
            hash: line.hash.to_owned(),
        })
}
