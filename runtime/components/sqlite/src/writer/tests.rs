use super::*;
use crate::job::typed;

/// A writer on a file of its own that brings its log to the disk by itself.
fn writer(folder: &std::path::Path) -> Writer {
    let mut connection = Connection::open(folder.join("data.db")).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE entries (id INTEGER PRIMARY KEY)")
        .unwrap();
    let begin = Begin {
        sql: "BEGIN IMMEDIATE",
        patience: Duration::from_secs(60),
        log: true,
    };
    let checkpoints = Checkpoints::install(&mut connection).unwrap();
    Writer::new(connection, begin, None, checkpoints)
}

#[tokio::test]
async fn only_who_asks_waits_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let (commits, _) = watch::channel(0);
    let insert = |connection: &Connection| {
        let inserted = connection.execute("INSERT INTO entries DEFAULT VALUES", []);
        inserted.map_err(|error| Error::internal("cannot insert").with_source(error))
    };
    for (kinds, syncs) in [
        (&[Kind::Relaxed][..], 0),
        (&[Kind::Durable], 1),
        (&[Kind::Relaxed, Kind::Relaxed], 1),
        // One commit and one wait for all of them.
        (&[Kind::Relaxed, Kind::Durable, Kind::Durable], 2),
        (&[Kind::Durable, Kind::Outside, Kind::Durable], 4),
    ] {
        let (mut batch, answers): (Vec<AnyJob>, Vec<_>) =
            kinds.iter().map(|kind| typed(insert, *kind)).unzip();
        writer.perform(&mut batch, &commits);
        for answer in answers {
            assert_eq!(answer.await.unwrap().unwrap(), 1);
        }
        assert_eq!(writer.log.as_ref().unwrap().synced.get(), syncs, "{kinds:?}");
    }
}
