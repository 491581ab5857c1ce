use outrigger_component::Properties;

use super::*;
use crate::connection::Defaults;

async fn open(folder: &Path, pairs: &[(&str, &str)]) -> Database {
    let all = std::iter::once(&("connectionString", "data.db"))
        .chain(pairs)
        .copied();
    let settings = Settings::from_properties(&Properties::from_pairs(all), Defaults::default()).unwrap();
    let turns = Turns::open(&folder.join("turns")).unwrap();
    Database::open_in_turns(settings, folder, Some(turns), |connection| {
        connection
            .execute_batch("CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, data BLOB)")
            .map_err(|error| failed("cannot make the table", error))
    })
    .await
    .unwrap()
}

fn synchronous(connection: &Connection) -> Result<i64, Error> {
    connection
        .query_row("PRAGMA synchronous", [], |row| row.get(0))
        .map_err(|error| failed("cannot read the pragma", error))
}

#[tokio::test]
async fn commits_wait_for_the_disk_as_told() {
    let folder = tempfile::tempdir().unwrap();
    for (pairs, told) in [
        // NORMAL: the thread waits for the disk beside SQLite.
        (&[][..], 1),
        (&[("synchronous", "EXTRA")], 1),
        (&[("synchronous", "OFF")], 0),
        (&[("disableWAL", "true")], 2),
        (&[("connectionString", "other.db?_pragma=synchronous(EXTRA)")], 3),
    ] {
        let database = open(folder.path(), pairs).await;
        assert_eq!(database.write(synchronous).await.unwrap(), told, "{pairs:?}");
        assert_eq!(
            database.write_relaxed(synchronous).await.unwrap(),
            told,
            "{pairs:?}"
        );
        database.close().await;
    }
    let settings = Properties::from_pairs([("connectionString", "data.db")]);
    let settings = Settings::from_properties(&settings, Defaults::default()).unwrap();
    let alone = Database::open(settings, folder.path(), |_| Ok(())).await.unwrap();
    assert_eq!(alone.write(synchronous).await.unwrap(), 2, "FULL");
}

/// SQLite's own checkpoints never come to an end while others write: the log would grow as long as they do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_never_pause_keep_the_log_short() {
    const WRITERS: usize = 3;
    const ROUNDS: usize = 400;
    /// A little more than two pages each.
    const BYTES: usize = 8192;
    let folder = tempfile::tempdir().unwrap();
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let database = open(folder.path(), &[]).await;
        writers.push(tokio::spawn(async move {
            for _ in 0..ROUNDS {
                // Two on the way at any time: the thread finds the next one when it is done.
                let write = || {
                    database.write_relaxed(|connection| {
                        connection
                            .execute("INSERT INTO entries (data) VALUES (zeroblob(?1))", [BYTES])
                            .map_err(|error| failed("cannot insert", error))
                    })
                };
                let (one, two) = tokio::join!(write(), write());
                one.and(two).unwrap();
            }
            // All end together, so that none of them does the work of the last one on the file.
            database
        }));
    }
    let mut open = Vec::new();
    for writer in writers {
        open.push(writer.await.unwrap());
    }
    let written = (2 * WRITERS * ROUNDS * BYTES) as u64;
    let log = std::fs::metadata(folder.path().join("data.db-wal"))
        .unwrap()
        .len();
    // 4 MiB make a copy due, and some come while it is made.
    assert!(
        log < 12 << 20 && log < written,
        "{log} bytes of log for {written} bytes written"
    );
}
