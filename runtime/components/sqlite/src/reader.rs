//! Reading: on the calling thread where that is quick, on reader threads otherwise.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use outrigger_component::{Error, ErrorKind};
use parking_lot::Mutex;
use rusqlite::Connection;

use crate::{
    connection::Settings,
    database::IDLE,
    job::AnyJob,
    queue::{Queue, Taken},
    writer::execute,
};

/// At most this many reads share a snapshot: a long-lived snapshot holds up checkpoints.
const READ_BATCH: usize = 32;
/// Two readers keep a cheap read from waiting behind a scan; more would only compete for two cores' worth of work.
pub(crate) const READERS: usize = 2;

/// Connections on which callers read for themselves. Filled by the first reader thread, emptied when idle.
#[derive(Default)]
pub(crate) struct Prompt {
    slots: [Mutex<Slot>; READERS],
    closed: AtomicBool,
}

#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    /// Whether it was used since the last look.
    used: bool,
}

impl Prompt {
    /// Runs the job where there is a free connection; `None` when there is none, or a lock was in the way.
    pub(crate) fn run<T>(&self, job: impl Fn(&Connection) -> Result<T, Error>) -> Option<Result<T, Error>> {
        for slot in &self.slots {
            let Some(mut slot) = slot.try_lock() else { continue };
            let Some(connection) = &slot.connection else {
                continue;
            };
            let result = job(connection);
            slot.used = true;
            return match result {
                Err(error) if error.kind() == ErrorKind::Unavailable => None,
                result => Some(result),
            };
        }
        None
    }

    /// Opens what is missing; blocks.
    pub(crate) fn fill(&self, settings: &Settings, base_dir: &Path) {
        for slot in &self.slots {
            let mut slot = slot.lock();
            // Looked at under the lock that `close` takes after it has said so.
            if slot.connection.is_none() && !self.closed.load(Ordering::Acquire) {
                // Without it reads still work by way of the threads.
                *slot = Slot {
                    connection: settings.open_prompt_reader(base_dir).ok(),
                    used: true,
                };
            }
        }
    }

    /// Closes what nobody has used since the last time.
    pub(crate) fn shrink(&self) {
        for slot in &self.slots {
            if let Some(mut slot) = slot.try_lock()
                && !std::mem::take(&mut slot.used)
            {
                slot.connection = None;
            }
        }
    }

    /// Closes all and keeps them closed.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for slot in &self.slots {
            slot.lock().connection = None;
        }
    }
}

/// Serves the queue until it is closed or nothing comes for a while.
pub(crate) fn read_loop(settings: &Settings, base_dir: &Path, queue: &Queue<AnyJob>, count: &Mutex<usize>) {
    let connection = settings.open_reader(base_dir);
    let mut batch = Vec::new();
    loop {
        match queue.take(&mut batch, READ_BATCH, IDLE) {
            Taken::Closed => break,
            Taken::Idle => {
                let mut threads = count.lock();
                // Looked at under the lock that starts readers: a job pushed since is either seen here or starts one.
                if queue.is_empty() {
                    *threads -= 1;
                    return;
                }
            }
            Taken::Jobs => match &connection {
                Ok(connection) => read_batch(connection, &mut batch),
                Err(error) => {
                    for job in batch.drain(..) {
                        job.answer(Some(
                            Error::new(error.kind(), "cannot open the SQLite database")
                                .with_source(error.chain()),
                        ));
                    }
                    // The next thread tries again to open; jobs that came meanwhile fail with this one.
                    let mut threads = count.lock();
                    if queue.is_empty() {
                        *threads -= 1;
                        return;
                    }
                }
            },
        }
    }
    *count.lock() -= 1;
}

/// Several reads share one snapshot: taking it costs file locks. All were asked for before it, so each sees what
/// was acknowledged to its caller.
fn read_batch(connection: &Connection, batch: &mut Vec<AnyJob>) {
    batch.retain(|job| !job.abandoned());
    let shared = batch.len() > 1 && execute(connection, "BEGIN DEFERRED").is_ok();
    for mut job in batch.drain(..) {
        job.run(connection);
        job.answer(None);
    }
    if shared {
        // Nothing was written; a failure shows at the next BEGIN.
        let _ = execute(connection, "COMMIT");
    }
}
