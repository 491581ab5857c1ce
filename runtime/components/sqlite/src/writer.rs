//! The writer thread: group commit and fair turns at the file's lock.

use std::time::{Duration, Instant};

use outrigger_component::Error;
use rusqlite::Connection;
use tokio::sync::watch;

use crate::{
    database::IDLE,
    job::AnyJob,
    queue::{Queue, Taken},
    reader::Prompt,
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

/// Serves the queue until it is closed and empty.
pub(crate) fn write_loop(
    connection: &Connection,
    queue: &Queue<AnyJob>,
    commits: &watch::Sender<u64>,
    begin: &Begin,
    prompt: &Prompt,
) {
    let mut batch = Vec::new();
    let mut shrunk = true;
    let mut turn = Instant::now();
    loop {
        if queue.is_empty() {
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
                    let _ = connection.execute_batch("PRAGMA shrink_memory");
                    shrunk = true;
                }
            }
            Taken::Jobs => {
                shrunk = false;
                batch.retain(|job| !job.abandoned());
                if let Some(at) = batch.iter().position(|job| job.outside()) {
                    // Rare (polls, in-memory reads): keep the order of the queue around them.
                    let mut rest = std::mem::take(&mut batch).into_iter();
                    let mut run: Vec<AnyJob> = rest.by_ref().take(at).collect();
                    for mut job in rest {
                        if job.outside() {
                            commit_batch(connection, &mut run, commits, begin);
                            job.run(connection);
                            job.answer(None);
                        } else {
                            run.push(job);
                        }
                    }
                    commit_batch(connection, &mut run, commits, begin);
                } else {
                    commit_batch(connection, &mut batch, commits, begin);
                }
            }
        }
    }
}

/// One transaction for all jobs, a savepoint for each when they are several; answers follow the commit.
fn commit_batch(
    connection: &Connection,
    batch: &mut Vec<AnyJob>,
    commits: &watch::Sender<u64>,
    begin: &Begin,
) {
    if batch.is_empty() {
        return;
    }
    let before = connection.total_changes();
    if let Err(error) = begin.run(connection) {
        answer_all(batch, &error);
        return;
    }
    let single = batch.len() == 1;
    let mut outcome = Ok(());
    let mut keep = false;
    for job in batch.iter_mut() {
        outcome = run_in_savepoint(connection, job, single, &mut keep);
        // A failure that ended the transaction (disk full, I/O) has undone everybody's changes.
        if outcome.is_err() || connection.is_autocommit() {
            break;
        }
    }
    if outcome.is_ok() && !connection.is_autocommit() {
        outcome = execute(connection, if keep { "COMMIT" } else { "ROLLBACK" });
    } else if outcome.is_ok() {
        outcome = Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT),
            None,
        ));
    }
    match outcome {
        Ok(()) => {
            if connection.total_changes() != before && keep {
                commits.send_modify(|count| *count += 1);
            }
            for job in batch.drain(..) {
                job.answer(None);
            }
        }
        Err(error) => {
            if !connection.is_autocommit() {
                // If even this fails the next BEGIN reports it.
                let _ = execute(connection, "ROLLBACK");
            }
            answer_all(batch, &error);
        }
    }
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
