//! For tools: where a component's database is, whether it is sound, a copy of one moment of it.
//!
//! Nothing here creates or migrates a database.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use outrigger_component::{Error, Properties};
use rusqlite::{Connection, OpenFlags, backup::Backup, backup::StepResult};

use crate::connection::{Defaults, Settings, failed};

/// Pages copied between two looks at the progress: 1 MiB of the usual pages.
const STEP: i32 = 256;

/// How long a lock of another process is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The database file that a component's metadata names; `None` for one in memory.
///
/// # Errors
/// The configuration errors of the component.
pub fn database_file(properties: &Properties, base_dir: &Path) -> Result<Option<PathBuf>, Error> {
    Ok(Settings::from_properties(properties, Defaults::default())?.path(base_dir))
}

/// Whether a database can be read and is sound.
///
/// # Errors
/// When it cannot be opened, is no database or is damaged.
pub fn check(file: &Path) -> Result<(), Error> {
    let connection = open(file)?;
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", (), |row| row.get(0))
        .map_err(|error| failed("cannot read the SQLite database", error))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(Error::internal(format!(
        "the SQLite database is damaged: {verdict}"
    )))
}

/// Copies a database as it is at one moment, by SQLite's online backup; its writers go on meanwhile. `progress` gets
/// the pages done and all pages. The copy needs no other file beside it.
///
/// # Errors
/// When the source cannot be read, or the target exists or cannot be written.
pub fn copy(source: &Path, target: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), Error> {
    if target.exists() {
        return Err(Error::invalid(format!("{} exists", target.display())));
    }
    let reading = open(source)?;
    // A read transaction pins the moment: without it each commit of a writer would begin the copy anew.
    reading
        .execute_batch("BEGIN")
        .and_then(|()| {
            reading.query_row("SELECT count(*) FROM sqlite_schema", (), |row| {
                row.get::<_, i64>(0)
            })
        })
        .map_err(|error| failed("cannot read the SQLite database", error))?;
    let mut writing = Connection::open(target).map_err(|error| failed("cannot write the copy", error))?;
    {
        let backup =
            Backup::new(&reading, &mut writing).map_err(|error| failed("cannot copy the database", error))?;
        loop {
            let step = backup
                .step(STEP)
                .map_err(|error| failed("cannot copy the database", error))?;
            let at = backup.progress();
            let pages = |count: i32| u64::try_from(count).unwrap_or(0);
            progress(pages(at.pagecount - at.remaining), pages(at.pagecount));
            match step {
                StepResult::Done => break,
                StepResult::More => {}
                // After `PATIENCE`, which SQLite waits by itself.
                _ => {
                    return Err(Error::unavailable(
                        "the SQLite database is locked by another program",
                    ));
                }
            }
        }
    }
    // One file that is whole by itself; whoever opens it next chooses its mode again.
    writing
        .pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))
        .map_err(|error| failed("cannot finish the copy", error))?;
    writing
        .close()
        .map_err(|(_, error)| failed("cannot finish the copy", error))
}

fn open(file: &Path) -> Result<Connection, Error> {
    // Not read-only: such a connection cannot read a WAL that a crash left.
    let connection = Connection::open_with_flags(
        file,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(|error| failed("cannot open the SQLite database", error))?;
    connection
        .busy_timeout(PATIENCE)
        .map_err(|error| failed("cannot open the SQLite database", error))?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_one_moment_of_a_database_that_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("a.db"), folder.path().join("b.db"));
        let writer = Connection::open(&source).unwrap();
        writer
            .execute_batch(
                "PRAGMA journal_mode=WAL; CREATE TABLE t (a INTEGER, b INTEGER, filler TEXT);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
                 INSERT INTO t SELECT i, i, hex(randomblob(200)) FROM n;",
            )
            .unwrap();
        let mut steps = 0;
        copy(&source, &target, &mut |done, all| {
            assert!(done <= all);
            steps += 1;
            // A writer of another connection between all steps.
            writer.execute_batch("UPDATE t SET a = a + 1, b = b + 1").unwrap();
        })
        .unwrap();
        assert!(steps > 1, "{steps}");
        check(&target).unwrap();
        let copied = Connection::open(&target).unwrap();
        let (rows, first, torn): (i64, i64, i64) = copied
            .query_row("SELECT count(*), min(a), sum(a <> b) FROM t", (), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        assert_eq!((rows, first, torn), (5000, 1, 0));
        assert!(
            copy(&source, &target, &mut |_, _| ()).is_err(),
            "it never overwrites"
        );
    }

    #[test]
    fn what_is_no_database_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.db");
        assert!(check(&file).is_err());
        assert!(!file.exists());
        std::fs::write(&file, "not a database, but long enough to have been one once").unwrap();
        assert!(check(&file).is_err());
        let properties = Properties::from_pairs([("connectionString", "data/a.db?_pragma=x(1)")]);
        let found = database_file(&properties, Path::new("/base")).unwrap();
        assert_eq!(found, Some(PathBuf::from("/base/data/a.db")));
        let memory = Properties::from_pairs([("connectionString", ":memory:")]);
        assert_eq!(database_file(&memory, Path::new("/")).unwrap(), None);
    }
}
