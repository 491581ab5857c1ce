//! The folder of lock-held files.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use outrigger_component::{Error, ErrorKind};
use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
    process::geteuid,
};

use super::entry::{self, Entry, Stem};

/// Serialises adding and removing of names.
const LOCK_NAME: &str = ".lock";
/// Largest entry that is read, in bytes.
const ENTRY_LIMIT: u64 = 64 * 1024;
/// Most entries read in one pass, of one app and of all.
const APP_ENTRIES_LIMIT: usize = 256;
const ENTRIES_LIMIT: usize = 10_000;
/// Most instances of one app in one process.
const NUMBER_LIMIT: u32 = 1024;
/// Largest file name in bytes.
const NAME_LIMIT: usize = 255;

/// A folder that belongs to this user.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: Arc<Path>,
}

/// Our own entry: its file stays locked until this is dropped, which also removes it.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    /// Locked for as long as it is open.
    _file: File,
}

impl Held {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Nobody else removes or replaces a name whose file is locked.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "registry entry not removed");
        }
    }
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let error =
            |kind, message| Error::new(kind, message).with_context("path", path.display().to_string());
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|cause| {
                error(
                    ErrorKind::Unavailable,
                    "the runtime registry's folder cannot be made",
                )
                .with_source(cause)
            })?;
        let found = fs::symlink_metadata(path).map_err(|cause| {
            error(
                ErrorKind::Unavailable,
                "the runtime registry's folder cannot be read",
            )
            .with_source(cause)
        })?;
        if !found.is_dir() {
            return Err(error(
                ErrorKind::Configuration,
                "the runtime registry's path is not a folder",
            ));
        }
        if found.uid() != geteuid().as_raw() {
            return Err(error(
                ErrorKind::Forbidden,
                "the runtime registry's folder belongs to another user",
            ));
        }
        if found.mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|cause| {
                error(
                    ErrorKind::Forbidden,
                    "the runtime registry's folder cannot be kept private",
                )
                .with_source(cause)
            })?;
        }
        Ok(Self { path: path.into() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// When a name was last added or removed.
    pub(super) fn modified(&self) -> io::Result<SystemTime> {
        fs::metadata(&self.path)?.modified()
    }

    /// Publishes an entry. Readers see it complete and locked or not at all: it is written and locked under a
    /// hidden name and then linked.
    pub(super) fn hold(&self, entry: &Entry) -> Result<Held, Error> {
        let stem = entry.stem();
        if stem.file_name(entry.pid, NUMBER_LIMIT).len() > NAME_LIMIT {
            return Err(
                Error::configuration("the app id is too long for the runtime registry")
                    .with_context("app_id", entry.app_id.as_str()),
            );
        }
        self.publish(entry, &stem).map_err(|error| {
            Error::unavailable("cannot register in the runtime registry")
                .with_context("path", self.path.display().to_string())
                .with_source(error)
        })
    }

    fn publish(&self, entry: &Entry, stem: &Stem) -> io::Result<Held> {
        let content = serde_json::to_vec(entry)?;
        let guard = self.lock(true)?;
        let hidden = self.path.join(format!(".new-{}", entry.pid));
        // Under the folder's lock a leftover of this name is some dead process's.
        match fs::remove_file(&hidden) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&hidden)?;
        let linked = (|| {
            file.write_all(&content)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            for number in 0..NUMBER_LIMIT {
                let path = self.path.join(stem.file_name(entry.pid, number));
                match fs::hard_link(&hidden, &path) {
                    Ok(()) => return Ok(path),
                    // Taken by another instance of this process, or left by a dead process of the same id.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                }
            }
            Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                "too many instances in one process",
            ))
        })();
        let removed = fs::remove_file(&hidden);
        drop(guard);
        let path = linked?;
        removed?;
        Ok(Held { path, _file: file })
    }

    /// The live entries, of one app or of all, with their files for later [`is_held`]. Entries of the dead are
    /// removed on the way; files of other users, of other shapes and of other versions are passed over.
    pub(super) fn live(&self, stem: Option<&Stem>) -> io::Result<Vec<(Entry, File)>> {
        let limit = if stem.is_some() {
            APP_ENTRIES_LIMIT
        } else {
            ENTRIES_LIMIT
        };
        let mut live = Vec::new();
        let mut dead = Vec::new();
        for found in fs::read_dir(&self.path)? {
            let name = found?.file_name();
            let Some(name) = name.to_str() else { continue };
            if !stem.map_or_else(|| entry::is_entry(name), |stem| stem.names(name)) {
                continue;
            }
            match self.open_entry(name) {
                Ok(Some(file)) if !is_held(&file) => dead.push((name.to_owned(), file)),
                Ok(Some(file)) => {
                    if let Some(entry) = read(&file, name) {
                        live.push((name.to_owned(), entry, file));
                    }
                }
                Ok(None) => {}
                // It left while we looked.
                Err(error) => tracing::debug!(name, %error, "registry entry not read"),
            }
            if live.len().max(dead.len()) >= limit {
                break;
            }
        }
        self.bury(&dead);
        // A stable order, so that callers can balance over it.
        live.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(live.into_iter().map(|(_, entry, file)| (entry, file)).collect())
    }

    /// Opens a regular file of this user's, never through a link.
    fn open_entry(&self, name: &str) -> io::Result<Option<File>> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(self.path.join(name))?;
        let found = file.metadata()?;
        let ours = found.is_file() && found.uid() == geteuid().as_raw() && found.len() <= ENTRY_LIMIT;
        Ok(ours.then_some(file))
    }

    /// Removes entries of dead processes, if nobody else is at work in the folder.
    fn bury(&self, dead: &[(String, File)]) {
        if dead.is_empty() {
            return;
        }
        let Ok(_guard) = self.lock(false) else { return };
        for (name, file) in dead {
            let path = self.path.join(name);
            // The name may have a new owner by now, when process ids return.
            let same = fs::symlink_metadata(&path).and_then(|now| {
                Ok((now.ino(), now.dev()) == file.metadata().map(|then| (then.ino(), then.dev()))?)
            });
            if matches!(same, Ok(true)) {
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// The lock under which names come and go.
    fn lock(&self, wait: bool) -> io::Result<File> {
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let path = self.path.join(LOCK_NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags)
            .open(path)?;
        flock(
            &file,
            if wait {
                FlockOperation::LockExclusive
            } else {
                FlockOperation::NonBlockingLockExclusive
            },
        )?;
        Ok(file)
    }
}

/// Whether the owner of an entry lives: then nobody else gets even a shared lock. Readers only ever take shared
/// ones, so they do not mistake each other for owners.
pub(super) fn is_held(file: &File) -> bool {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => true,
        Ok(()) => {
            let _ = flock(file, FlockOperation::Unlock);
            false
        }
        // A file system without locks tells nothing; better a dead address than none.
        Err(_) => true,
    }
}

fn read(file: &File, name: &str) -> Option<Entry> {
    let mut content = Vec::new();
    file.take(ENTRY_LIMIT).read_to_end(&mut content).ok()?;
    let entry = Entry::parse(&content, name);
    if entry.is_none() {
        tracing::debug!(name, "registry entry not understood");
    }
    entry
}
