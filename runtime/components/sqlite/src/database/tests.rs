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
