//! The writer thread: group commit and fair turns at the file's lock.

use std::{
    ffi::OsString,
    fs::File,
    time::{Duration, Instant},
};

use outrigger_component::Error;
use rusqlite::Connection;
use tokio::sync::watch;

use crate::{
    checkpoint::{self, Checkpoints},
    database::IDLE,
    job::{AnyJob, Kind},
    queue::{Queue, Taken},
    reader::Prompt,
    turns::Turns,
};

/// At most this many jobs share a commit: bounds how long the first of them waits for the last.
const WRITE_BATCH: usize = 256;
/// After writing this long without a gap, the writer leaves one of [`PAUSE`] for other processes.
const TURN: Duration = Duration::from_millis(20);
/// About the longest wait of those who look for the lock often; a hundredth of the time.
const PAUSE: Duration = Duration::from_micros(200);
/// The first wait for a lock that another process holds; later ones grow to some 64 times it.
const SHORTEST_WAIT: Duration = Duration::from_micros(50);

/// How write transactions begin, and how long they may wait for another process to end its own.
pub(crate) struct Begin {
    pub(crate) sql: &'static str,
    pub(crate) patience: Duration,
    /// Whether the log may be brought to the disk after the commit, by ourselves.
    pub(crate) log: bool,
}

impl Begin {
    /// SQLite's own waits grow to 100 ms, far longer than our transactions take: several sidecars on one file would
    /// starve one another. These stay short.
    fn run(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        connection.busy_timeout(Duration::ZERO)?;
        let mut result = execute(connection, self.sql);
        if matches!(&result, Err(error) if is_busy(error)) {
            let start = Instant::now();
            let mut attempt = 0u32;
            while start.elapsed() < self.patience && matches!(&result, Err(error) if is_busy(error)) {
                // Processes that begin together should not stay in step.
                let skew = std::process::id()
                    .wrapping_mul(31)
                    .wrapping_add(attempt.wrapping_mul(17))
                    % 8;
                let wait = SHORTEST_WAIT * (8 + skew) / 8 * (1 << (attempt / 4).min(6));
                std::thread::park_timeout(wait);
                attempt += 1;
                result = execute(connection, self.sql);
            }
        }
        connection.busy_timeout(self.patience)?;
        result
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
    )
}

/// The write-ahead log as a file of its own, to wait for the disk outside of the transaction: SQLite would wait with its lock
/// held, and for the file's times too.
struct Log {
    file: File,
    #[cfg(test)]
    synced: std::cell::Cell<u32>,
}

impl Log {
    /// Opens a connection's log and has its commits no longer wait for the disk; `None` when they go on doing so.
    fn open(connection: &Connection) -> Option<Self> {
        let mut path = OsString::from(connection.path()?);
        path.push("-wal");
        // It stays this file while the connection is open.
        let file = File::open(path).ok()?;
        connection.pragma_update(None, "synchronous", "NORMAL").ok()?;
        Some(Self {
            file,
            #[cfg(test)]
            synced: std::cell::Cell::default(),
        })
    }

    /// Waits until everything committed so far, by whomever, is on the disk: it is in this file, or a checkpoint has
    /// brought it there before the log began anew.
    fn sync(&self) -> std::io::Result<()> {
        #[cfg(test)]
        self.synced.set(self.synced.get() + 1);
        self.file.sync_data()
    }
}

/// A writing connection with what decides when it writes.
pub(crate) struct Writer {
    connection: Connection,
    begin: Begin,
    turns: Option<Turns>,
    checkpoints: Checkpoints,
    /// The log, where commits do not wait for the disk; durable jobs do.
    log: Option<Log>,
}

impl Writer {
    pub(crate) fn new(
        connection: Connection,
        begin: Begin,
        turns: Option<Turns>,
        checkpoints: Checkpoints,
    ) -> Self {
        let log = begin.log.then(|| Log::open(&connection)).flatten();
        Self {
            connection,
            begin,
            turns,
            checkpoints,
            log,
        }
    }

    /// Serves the queue until it is closed and empty.
    pub(crate) fn serve(mut self, queue: &Queue<AnyJob>, commits: &watch::Sender<u64>, prompt: &Prompt) {
        let mut batch = Vec::new();
        let mut shrunk = true;
        let mut turn = Instant::now();
        loop {
            if queue.is_empty() || self.turns.is_some() {
                turn = Instant::now();
            } else if turn.elapsed() >= TURN {
                // SQLite's lock has no queue: who waits for it only looks now and then.
                std::thread::park_timeout(PAUSE);
                turn = Instant::now();
            }
            match queue.take(&mut batch, WRITE_BATCH, IDLE) {
                Taken::Closed => return,
                Taken::Idle => {
                    prompt.shrink();
                    if !shrunk {
                        // Advice only: when it fails nothing is lost but memory.
                        let _ = self.connection.execute_batch("PRAGMA shrink_memory");
                        shrunk = true;
                    }
                }
                Taken::Jobs => {
                    shrunk = false;
                    batch.retain(|job| !job.abandoned());
                    self.perform(&mut batch, commits);
                }
            }
        }
    }

    /// Runs what was taken from the queue, in its order, and answers.
    fn perform(&mut self, batch: &mut Vec<AnyJob>, commits: &watch::Sender<u64>) {
        if let Some(at) = batch.iter().position(|job| job.kind() == Kind::Outside) {
            // Rare (polls, in-memory reads): keep the order of the queue around them.
            let mut rest = std::mem::take(batch).into_iter();
            let mut run: Vec<AnyJob> = rest.by_ref().take(at).collect();
            for mut job in rest {
                if job.kind() == Kind::Outside {
                    self.commit_batch(&mut run, commits);
                    job.run(&self.connection);
                    job.answer(None);
                } else {
                    run.push(job);
                }
            }
            self.commit_batch(&mut run, commits);
        } else {
            self.commit_batch(batch, commits);
        }
    }

    /// One transaction for all jobs, a savepoint for each when they are several; answers follow the commit.
    fn commit_batch(&mut self, batch: &mut Vec<AnyJob>, commits: &watch::Sender<u64>) {
        if batch.is_empty() {
            return;
        }
        let before = self.connection.total_changes();
        let kept = match self.transact(batch) {
            Ok(kept) => kept,
            Err(error) => return answer_all(batch, &error),
        };
        if self.connection.total_changes() != before && kept {
            commits.send_modify(|count| *count += 1);
        }
        if let Some(log) = &self.log {
            // Everybody else may write while the disk does.
            let (waiting, done): (Vec<_>, Vec<_>) =
                batch.drain(..).partition(|job| job.kind() == Kind::Durable);
            done.into_iter().for_each(|job| job.answer(None));
            let synced = if waiting.is_empty() { Ok(()) } else { log.sync() };
            for job in waiting {
                let failure = synced.as_ref().err().map(|error| {
                    Error::internal("cannot bring the commit to the disk").with_source(error.to_string())
                });
                job.answer(failure);
            }
        } else {
            batch.drain(..).for_each(|job| job.answer(None));
        }
        self.shorten_log();
    }

    /// Runs all jobs in one transaction, in turn; answers whether there was anything to commit.
    fn transact(&mut self, batch: &mut [AnyJob]) -> Result<bool, rusqlite::Error> {
        let Self {
            connection,
            begin,
            turns,
            ..
        } = self;
        let _turn = turns.as_mut().and_then(|turns| turns.take(begin.patience));
        begin.run(connection)?;
        let outcome = run_all(connection, batch);
        if outcome.is_err() && !connection.is_autocommit() {
            // If even this fails the next BEGIN reports it.
            let _ = execute(connection, "ROLLBACK");
        }
        outcome
    }

    /// Copies a long log into the database, see [`crate::checkpoint`].
    fn shorten_log(&mut self) {
        if !self.checkpoints.due() {
            return;
        }
        let mut copied = self.checkpoints.copy(&self.connection);
        if matches!(copied, Ok(true)) {
            let patience = self.begin.patience;
            let _turn = self.turns.as_mut().and_then(|turns| turns.take(patience));
            copied = self.checkpoints.finish(&self.connection, patience);
        }
        if let Err(error) = copied
            && !checkpoint::refused(&error)
        {
            // The log stays whole; the next attempt tells whether it goes on.
            tracing::warn!(%error, "cannot copy the SQLite log into the database");
        }
    }
}

fn run_all(connection: &Connection, batch: &mut [AnyJob]) -> Result<bool, rusqlite::Error> {
    let single = batch.len() == 1;
    let mut keep = false;
    for job in batch.iter_mut() {
        run_in_savepoint(connection, job, single, &mut keep)?;
        // A failure that ended the transaction (disk full, I/O) has undone everybody's changes.
        if connection.is_autocommit() {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT),
                None,
            ));
        }
    }
    execute(connection, if keep { "COMMIT" } else { "ROLLBACK" })?;
    Ok(keep)
}

fn run_in_savepoint(
    connection: &Connection,
    job: &mut AnyJob,
    single: bool,
    keep: &mut bool,
) -> Result<(), rusqlite::Error> {
    if single {
        *keep = job.run(connection);
        return Ok(());
    }
    execute(connection, "SAVEPOINT job")?;
    if job.run(connection) {
        *keep = true;
    } else if !connection.is_autocommit() {
        execute(connection, "ROLLBACK TO job")?;
    } else {
        return Ok(());
    }
    execute(connection, "RELEASE job")
}

fn answer_all(batch: &mut Vec<AnyJob>, error: &rusqlite::Error) {
    for job in batch.drain(..) {
        let transient = matches!(
            error.sqlite_error_code(),
            Some(
                rusqlite::ErrorCode::DatabaseBusy
                    | rusqlite::ErrorCode::DatabaseLocked
                    | rusqlite::ErrorCode::DiskFull
            )
        );
        let failure = if transient {
            Error::unavailable("cannot commit")
        } else {
            Error::internal("cannot commit")
        };
        // The cause is not cloneable; its text goes to each.
        job.answer(Some(failure.with_source(error.to_string())));
    }
}

/// Runs a statement that answers nothing, prepared once.
pub(crate) fn execute(connection: &Connection, sql: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(sql)?.raw_execute().map(drop)
}

#[cfg(test)]
mod tests;
