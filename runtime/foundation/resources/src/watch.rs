//! Noticing that files of resource directories changed (upstream `kit/fswatcher`).

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

/// How long the directories must be quiet before a change is reported, so that a file is not read while it is being
/// written. Upstream waits 5 ms per file.
const QUIET: Duration = Duration::from_millis(10);

/// A change is reported after this long at the latest, however busy the directories are.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// A directory that cannot be watched, or a watch that broke.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The system gives no watcher, for instance because the limit of them is reached.
    #[error("failed to create watcher: {0}")]
    Create(#[source] notify::Error),
    /// A directory cannot be watched.
    #[error("failed to add target {}: {source}", path.display())]
    Add {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
    /// The watch broke later on.
    #[error("watcher error: {0}")]
    Broken(#[source] notify::Error),
    /// The watch ended.
    #[error("watcher closed")]
    Closed,
}

/// A watch on directories, not on directories within. It ends when dropped.
#[derive(Debug)]
pub struct DirectoryWatch {
    /// Holds the system's watch.
    _watcher: RecommendedWatcher,
    /// One slot: while a change waits to be seen, further ones add nothing.
    changes: mpsc::Receiver<()>,
    errors: mpsc::Receiver<notify::Error>,
    /// A change was seen but not yet reported.
    pending: Option<Instant>,
}

impl DirectoryWatch {
    /// Starts watching; changes from now on are noticed.
    ///
    /// # Errors
    /// When the system gives no watcher or a directory cannot be watched.
    pub fn new<P: AsRef<Path>>(directories: impl IntoIterator<Item = P>) -> Result<Self, WatchError> {
        let (change_sender, changes) = mpsc::channel(1);
        let (error_sender, errors) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            Ok(event) if matters(&event) => {
                // A full slot already says what this one would.
                let _ = change_sender.try_send(());
            }
            Ok(_) => {}
            Err(error) => {
                let _ = error_sender.try_send(error);
            }
        })
        .map_err(WatchError::Create)?;
        for directory in directories {
            let path = directory.as_ref();
            watcher
                .watch(path, RecursiveMode::NonRecursive)
                .map_err(|source| WatchError::Add {
                    path: path.to_owned(),
                    source,
                })?;
        }
        Ok(Self {
            _watcher: watcher,
            changes,
            errors,
            pending: None,
        })
    }

    /// Waits for changes and for the directories to be quiet again. Safe to drop: a change that was seen is
    /// reported by the next call.
    ///
    /// # Errors
    /// When the watch broke.
    pub async fn changed(&mut self) -> Result<(), WatchError> {
        let first = match self.pending {
            Some(first) => first,
            None => {
                tokio::select! {
                    change = self.changes.recv() => change.ok_or(WatchError::Closed)?,
                    Some(error) = self.errors.recv() => return Err(WatchError::Broken(error)),
                }
                let now = Instant::now();
                self.pending = Some(now);
                now
            }
        };
        let latest = first + LONGEST_WAIT;
        loop {
            let quiet = (Instant::now() + QUIET).min(latest);
            match timeout_at(quiet, self.changes.recv()).await {
                Ok(Some(())) if Instant::now() < latest => {}
                Ok(None) => return Err(WatchError::Closed),
                Ok(Some(())) | Err(_) => break,
            }
        }
        self.pending = None;
        Ok(())
    }
}

/// Reading is an event too, and reloading reads: only what can change a file counts.
fn matters(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn expect_change(watch: &mut DirectoryWatch) {
        tokio::time::timeout(Duration::from_secs(10), watch.changed())
            .await
            .expect("a change in time")
            .unwrap();
    }

    #[tokio::test]
    async fn writes_renames_and_removals_are_changes_and_reads_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        let mut watch = DirectoryWatch::new([directory.path()]).unwrap();
        std::fs::write(&file, "a").unwrap();
        expect_change(&mut watch).await;
        std::fs::read(&file).unwrap();
        std::fs::rename(&file, directory.path().join("b.yaml")).unwrap();
        expect_change(&mut watch).await;
        std::fs::read(directory.path().join("b.yaml")).unwrap();
        std::fs::read_dir(directory.path()).unwrap().count();
        let idle = tokio::time::timeout(QUIET * 5, watch.changed()).await;
        assert!(idle.is_err(), "reading is no change");
        std::fs::remove_file(directory.path().join("b.yaml")).unwrap();
        expect_change(&mut watch).await;
    }

    #[test]
    fn a_missing_directory_cannot_be_watched() {
        let error = DirectoryWatch::new(["no-such-directory"]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("failed to add target no-such-directory"),
            "{error}"
        );
    }
}
