//! The audit log: who asked for what and what was decided, one JSON line each, linked by hashes (rows A4.8, B8).
//!
//! Ours: Dapr has none. It is separate from the program's log. A record is handed to a bounded queue and written by a
//! thread of its own, so that no request waits for a disk; when the queue is full the next line says how many records
//! were lost. Values of secrets have no place in a record.
//!
//! A line ends with `prev`, the hash of the line before, and `hash`, the SHA-256 of its own text up to there. The chain
//! goes on over rotated files and restarts; [`verify`] follows it. It shows that a line was changed, put in or taken
//! out; somebody who can write the whole file can also make a new chain, so ship the lines to where they cannot.

mod chain;
mod file;
mod record;
mod verify;
mod writer;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::SystemTime,
};

use parking_lot::{Mutex, RwLock};
use tokio::{sync::oneshot, time::Instant};

pub use record::{AuditActor, AuditDecision, AuditRecord};
pub use verify::{Broken, Verified, verify, verify_files};

use file::Destination;
use record::Entry;
use writer::Writer;

/// Records that may wait for the disk, some hundred bytes each.
const MAX_QUEUED: usize = 8_192;

/// `maxBytes` when not said: 64 MiB.
pub const DEFAULT_MAX_BYTES: u64 = 64 << 20;
/// `maxFiles` when not said.
pub const DEFAULT_MAX_FILES: usize = 8;

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// Standard output.
    Stdout,
    /// A file, readable by its owner only. At `max_bytes` it is renamed to `<path>.1`, and that to `<path>.2` and so
    /// on; of the renamed ones `max_files` are kept.
    File {
        /// The current file.
        path: PathBuf,
        /// Its size limit in bytes; one line may be longer.
        max_bytes: u64,
        /// How many renamed files are kept.
        max_files: usize,
    },
}

/// What an audit log is made from.
#[derive(Clone)]
pub struct AuditOptions {
    /// Where records go.
    pub target: AuditTarget,
    /// `app_id` of every line.
    pub app_id: String,
    /// The SPIFFE id that stands for the sidecar's own app.
    pub app: String,
    /// The time of day.
    pub clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl fmt::Debug for AuditOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditOptions")
            .field("target", &self.target)
            .field("app_id", &self.app_id)
            .finish_non_exhaustive()
    }
}

/// Why an audit log cannot be kept. A sidecar that was asked for one does not start without.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened or read.
    #[error("failed to open audit log {path:?}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Two writers would break each other's chain.
    #[error("audit log {path:?} is in use by another process")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The thread that writes cannot be started.
    #[error("failed to start the audit log's writer: {0}")]
    Thread(#[source] io::Error),
}

struct Inner {
    app: String,
    queue: RwLock<Option<SyncSender<Entry>>>,
    lost: Arc<AtomicU64>,
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    writer: Mutex<Option<(JoinHandle<()>, oneshot::Receiver<()>)>>,
}

/// The handle of an audit log; a cheap clone. Off, it does nothing.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Inner>>);

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Audit(on)"
        } else {
            "Audit(off)"
        })
    }
}

impl Audit {
    /// No audit log.
    #[must_use]
    pub const fn disabled() -> Self {
        Self(None)
    }

    /// Opens the file, goes on with its chain, and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be opened, or another process has it.
    pub fn open(options: &AuditOptions) -> Result<Self, AuditError> {
        let (destination, end) = Destination::open(&options.target)?;
        let (queue, entries) = sync_channel(MAX_QUEUED);
        let (done, finished) = oneshot::channel();
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            destination,
            chain: end.chain,
            app_id: options.app_id.clone(),
            clock: Arc::clone(&options.clock),
            lost: Arc::clone(&lost),
        };
        let torn = end.torn_bytes;
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || {
                writer.run(&entries, torn);
                let _ = done.send(());
            })
            .map_err(AuditError::Thread)?;
        Ok(Self(Some(Arc::new(Inner {
            app: options.app.clone(),
            queue: RwLock::new(Some(queue)),
            lost,
            clock: Arc::clone(&options.clock),
            writer: Mutex::new(Some((thread, finished))),
        }))))
    }

    /// Whether records are kept; for callers who would have to make one first.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Queues a record; never blocks. One that finds the queue full is lost, and counted in the log.
    pub fn record(&self, record: &AuditRecord<'_>) {
        let Some(inner) = self.0.as_deref() else { return };
        let entry = Entry::new(record, &inner.app, (inner.clock)());
        let queued = match &*inner.queue.read() {
            Some(queue) => queue.try_send(entry).is_ok(),
            None => false,
        };
        if !queued {
            inner.lost.fetch_add(1, Relaxed);
        }
    }

    /// Writes what is queued, makes it durable and closes the file; gives up waiting at the deadline. Later records
    /// are lost.
    pub async fn shutdown(&self, deadline: Instant) {
        let Some(inner) = self.0.as_deref() else { return };
        *inner.queue.write() = None;
        let writer = inner.writer.lock().take();
        if let Some((thread, finished)) = writer
            && tokio::time::timeout_at(deadline, finished).await.is_ok()
        {
            // It has said its last word: this does not wait.
            let _ = thread.join();
        }
    }
}
