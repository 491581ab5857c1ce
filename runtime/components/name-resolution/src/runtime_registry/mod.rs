//! The per-user runtime registry: a folder of lock-held files, one per sidecar (design §2).
//!
//! A sidecar holds a lock on its file for as long as it lives; the kernel lets go of the lock when the process
//! ends, however it ends. So there is no server, no heartbeat and no timeout: whoever can lock a file knows that
//! its owner is dead. Readers keep the files of the apps they ask for open and re-read the folder only when its
//! modification time says that something came or went.

mod entry;
mod folder;

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use outrigger_component::{Error, ErrorKind};
use outrigger_name_resolution::{Addresses, Instance, Resolver, Target};
use parking_lot::Mutex;
use tokio::time::Instant;

pub use self::entry::Entry;
use self::{
    entry::Stem,
    folder::{Folder, Held},
};

/// A folder changed this shortly before it was read may change again without its modification time moving, as
/// file systems stamp with the ticks of a coarse clock.
const CLOCK_GRAIN: Duration = Duration::from_millis(100);
/// How long an address that did not answer is named last.
const SUSPICION: Duration = Duration::from_secs(5);
/// Most addresses under suspicion and most apps kept open.
const TABLE_LIMIT: usize = 256;

/// The registry of one user's sidecars on this host.
pub struct RuntimeRegistry {
    folder: Folder,
    held: Mutex<Vec<Held>>,
    view: Mutex<View>,
    suspects: Mutex<HashMap<String, Instant>>,
}

/// What was read, and when it can be relied on.
#[derive(Debug, Default)]
struct View {
    /// The folder's modification time the view belongs to; none when it must be read again.
    stamp: Option<SystemTime>,
    apps: HashMap<Stem, Vec<(Entry, File)>>,
}

impl RuntimeRegistry {
    /// Opens the registry in a folder, which is made if need be, for this user only.
    ///
    /// # Errors
    /// `Forbidden` when the folder belongs to another user, `Configuration` when it is not a folder, `Unavailable`
    /// when it cannot be made.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self {
            folder: Folder::open(path.as_ref())?,
            held: Mutex::default(),
            view: Mutex::default(),
            suspects: Mutex::default(),
        })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// All live sidecars of this user, ordered by app id.
    ///
    /// # Errors
    /// `Unavailable` when the folder cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        let mut entries: Vec<Entry> = self
            .folder
            .live(None)
            .map_err(|error| self.unreadable(error))?
            .into_iter()
            .map(|(entry, _)| entry)
            .collect();
        entries.sort_by(|a, b| {
            (&a.app_id, &a.namespace, &a.instance_id).cmp(&(&b.app_id, &b.namespace, &b.instance_id))
        });
        Ok(entries)
    }

    /// The live sidecars of one app. Costs one `stat` of the folder and one lock attempt per instance when nothing
    /// changed.
    ///
    /// # Errors
    /// `Unavailable` when the folder cannot be read.
    pub fn find(&self, target: &Target) -> Result<Vec<Entry>, Error> {
        self.read(&Stem::new(&target.namespace, &target.app_id))
            .map_err(|error| self.unreadable(error))
    }

    fn read(&self, stem: &Stem) -> io::Result<Vec<Entry>> {
        let mut view = self.view.lock();
        let stamp = self.folder.modified()?;
        if view.stamp != Some(stamp) {
            view.apps.clear();
            let settled = SystemTime::now()
                .duration_since(stamp)
                .is_ok_and(|age| age > CLOCK_GRAIN);
            view.stamp = settled.then_some(stamp);
        }
        if let Some(files) = view.apps.get_mut(stem) {
            files.retain(|(_, file)| folder::is_held(file));
            return Ok(files.iter().map(|(entry, _)| entry.clone()).collect());
        }
        let files = self.folder.live(Some(stem))?;
        let entries = files.iter().map(|(entry, _)| entry.clone()).collect();
        if view.apps.len() >= TABLE_LIMIT {
            view.apps.clear();
        }
        view.apps.insert(stem.clone(), files);
        Ok(entries)
    }

    fn unreadable(&self, error: io::Error) -> Error {
        Error::unavailable("the runtime registry cannot be read")
            .with_context("path", self.path().display().to_string())
            .with_source(error)
    }

    /// Puts addresses that lately did not answer at the end.
    fn order(&self, addresses: &mut Addresses) {
        let mut suspects = self.suspects.lock();
        if suspects.is_empty() {
            return;
        }
        let now = Instant::now();
        suspects.retain(|_, until| now < *until);
        addresses.sort_by_key(|address| suspects.contains_key(address));
    }
}

impl Resolver for RuntimeRegistry {
    async fn register(&self, instance: Instance) -> Result<(), Error> {
        let folder = self.folder.clone();
        // The folder's lock may have to be waited for.
        let held = tokio::task::spawn_blocking(move || folder.hold(&Entry::of(&instance)))
            .await
            .map_err(|error| Error::internal("registering was interrupted").with_source(error))??;
        tracing::info!(path = %held.path().display(), "registered in the runtime registry");
        self.held.lock().push(held);
        Ok(())
    }

    async fn resolve(&self, target: &Target) -> Result<Addresses, Error> {
        let mut addresses: Addresses = self
            .find(target)?
            .into_iter()
            .map(|entry| entry.internal_address.to_string())
            .collect();
        if addresses.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("couldn't find service: {}", target.app_id),
            ));
        }
        self.order(&mut addresses);
        Ok(addresses)
    }

    fn report_failure(&self, _target: &Target, address: &str) {
        let mut suspects = self.suspects.lock();
        let now = Instant::now();
        if suspects.len() >= TABLE_LIMIT {
            suspects.retain(|_, until| now < *until);
        }
        if suspects.len() < TABLE_LIMIT {
            suspects.insert(address.to_owned(), now + SUSPICION);
        }
    }

    async fn close(&self) -> Result<(), Error> {
        // Dropping removes the files.
        self.held.lock().clear();
        Ok(())
    }
}

impl fmt::Debug for RuntimeRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeRegistry")
            .field("path", &PathBuf::from(self.path()))
            .finish_non_exhaustive()
    }
}
