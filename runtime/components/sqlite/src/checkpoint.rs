//! Keeping the write-ahead log short.
//!
//! SQLite copies the log into the database inside the commit that finds it long, and begins it anew only when a copy
//! was complete while nobody added to it. With several processes that write all the time that moment hardly comes: the
//! log grows, and every commit copies a piece of it, at the cost of two more waits for the disk. Here the copy is made
//! after the commit was answered; what others have added meanwhile is copied while none of them writes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, ffi::ErrorCode};

/// Pages in the log that make a copy due, SQLite's own measure: 4 MiB of the usual pages.
const LONG: u32 = 1000;
/// More pages before the next attempt, where one was in vain: somebody else is at it, or reads an old state.
const AGAIN: u32 = 250;
/// How long the one during which nobody can write waits for readers of an old state.
const PATIENCE: Duration = Duration::from_millis(5);

/// The state of a connection's log.
pub(crate) struct Checkpoints {
    /// Pages in the log after the last commit of this connection.
    pages: Arc<AtomicU32>,
    due: u32,
}

impl Checkpoints {
    /// Takes the place of SQLite's automatic checkpoints on this connection.
    pub(crate) fn install(connection: &mut Connection) -> rusqlite::Result<Self> {
        let pages = Arc::new(AtomicU32::new(0));
        let seen = pages.clone();
        connection.wal_hook(Some(move |_: &mut _, pages| {
            seen.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self { pages, due: LONG })
    }

    /// Whether the log is long enough to be copied.
    pub(crate) fn due(&mut self) -> bool {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < LONG {
            // Begun anew since, by whomever.
            self.due = LONG;
        }
        pages >= self.due
    }

    /// Copies the log while others go on writing. Answers whether all was copied that there was at the beginning; else
    /// somebody else is at it, or reads an old state.
    pub(crate) fn copy(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        self.checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)")
    }

    /// Copies what was added meanwhile and begins the log anew. Nobody can write during it.
    pub(crate) fn finish(&mut self, connection: &Connection, patience: Duration) -> rusqlite::Result<bool> {
        connection.busy_timeout(PATIENCE.min(patience))?;
        let done = self.checkpoint(connection, "PRAGMA wal_checkpoint(RESTART)");
        connection.busy_timeout(patience)?;
        if matches!(done, Ok(true)) {
            self.pages.store(0, Ordering::Relaxed);
            self.due = LONG;
        }
        done
    }

    fn checkpoint(&mut self, connection: &Connection, sql: &str) -> rusqlite::Result<bool> {
        self.due = self.pages.load(Ordering::Relaxed).saturating_add(AGAIN);
        let (busy, pages, copied): (bool, i64, i64) = connection
            .prepare_cached(sql)?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(!busy && copied == pages)
    }
}

/// Whether a checkpoint was only refused for now.
pub(crate) fn refused(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn open(folder: &Path) -> Connection {
        let connection = Connection::open(folder.join("data.db")).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS entries (data BLOB); PRAGMA busy_timeout = 0",
            )
            .unwrap();
        connection
    }

    /// Some twenty pages.
    fn insert(connection: &Connection) {
        connection
            .execute("INSERT INTO entries VALUES (zeroblob(80000))", [])
            .unwrap();
    }

    fn insert_until_due(connection: &Connection, checkpoints: &mut Checkpoints) {
        let before = checkpoints.pages.load(Ordering::Relaxed);
        while !checkpoints.due() {
            insert(connection);
            assert!(checkpoints.pages.load(Ordering::Relaxed) < before + LONG + 100);
        }
    }

    #[test]
    fn the_log_begins_anew_although_others_add_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, two) = (open(folder.path()), open(folder.path()));
        let mut checkpoints = Checkpoints::install(&mut one).unwrap();
        for _ in 0..3 {
            insert_until_due(&one, &mut checkpoints);
            assert!(checkpoints.copy(&one).unwrap());
            insert(&two);
            assert!(checkpoints.finish(&one, Duration::from_secs(1)).unwrap());
            assert!(!checkpoints.due());
            insert(&two);
            insert(&one);
            let pages = checkpoints.pages.load(Ordering::Relaxed);
            assert!((1..100).contains(&pages), "{pages} pages");
        }
    }

    #[test]
    fn a_reader_of_an_old_state_puts_it_off() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, reader) = (open(folder.path()), open(folder.path()));
        let mut checkpoints = Checkpoints::install(&mut one).unwrap();
        reader
            .execute_batch("BEGIN; SELECT count(*) FROM entries")
            .unwrap();
        insert_until_due(&one, &mut checkpoints);
        assert!(!checkpoints.copy(&one).unwrap());
        assert!(!checkpoints.due(), "not at once again");
        reader.execute_batch("COMMIT").unwrap();
        insert_until_due(&one, &mut checkpoints);
        assert!(checkpoints.copy(&one).unwrap());
        assert!(checkpoints.finish(&one, Duration::from_secs(1)).unwrap());
    }
}
